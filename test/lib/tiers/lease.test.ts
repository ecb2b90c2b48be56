import t from 'tap'
import type { LeasingBackend } from '../../../lib/backends/backend.js'
import { bound } from '../../helpers/backend-doubles.js'
import { eventually } from '../../helpers/doubles.js'
import { onRedis } from '../../helpers/places.js'
import { startRedis } from '../../helpers/servers.js'
import { claim, fill, load, onEachPlace, read, tierOn, twoTiers } from '../../helpers/shared-tiers.js'

const server = await startRedis(t)

onEachPlace(t, server, (t, { fenced, make }) => {
  t.test(`a tier ${fenced ? 'refuses' : 'can not refuse'} a fill whose load began before its key was forgotten`, async t => {
    const { tier, theirs, a, b } = twoTiers(t, make(t))
    const claims = await claim(tier, a, b)
    await theirs.forget({ keys: [a] })
    t.strictSame(await fill(tier, claims, [{ key: a, value: 'late' }, { key: b, value: 2 }]), [!fenced, true])
    t.strictSame(await read(theirs, a, b), [fenced ? undefined : 'late', 2])
  })
})

t.test('who loads anew takes the lease from who loads already', async t => {
  const place = onRedis(t, server)
  const { tier } = tierOn(t, place, place.another())
  const a = place.keyspace.entry('k', 'a')
  const before = await claim(tier, a)
  const after = await tier.claimMany([a], { ttl: 60_000, takeOver: true })
  t.strictSame(await fill(tier, before, [{ key: a, value: 'late' }]), [false])
  t.strictSame(await fill(tier, after, [{ key: a, value: 'new' }]), [true])
  t.strictSame(await read(tier, a), ['new'])
})

t.test('no mark is put where the stamp tells whether anything was invalidated, until something was', async t => {
  const place = onRedis(t, server)
  const own = place.another() as LeasingBackend
  const asked: string[] = []
  const backend = new Proxy(own, { get: (target, name) => { asked.push(String(name)); return bound(target, name) } })
  const { tier } = tierOn(t, place, backend)
  const { tier: theirs } = tierOn(t, place, place.another())
  const [a, b, c] = ['a', 'b', 'c'].map(rest => place.keyspace.entry('k', rest)) as [string, string, string]
  const putsMarks = async (work: () => Promise<unknown>) => {
    asked.length = 0
    await work()
    return asked.includes('leaseMany')
  }
  t.ok(await putsMarks(() => load(tier, a, 1)), 'the first one makes the stamp')
  t.notOk(await putsMarks(() => load(tier, b, 1)))

  const look = await tier.lookMany([a, c])
  t.strictSame(look.entries.map(entry => entry?.value), [1, undefined])
  const [seen, other] = [look.lease(1)!, (await tier.lookMany([c])).lease(0)!]
  t.strictSame(await fill(tier, [{ entry: undefined, lease: seen, first: true }], [{ key: c, value: 'seen' }]), [true])
  t.strictSame(await fill(tier, [{ entry: undefined, lease: other, first: true }], [{ key: c, value: 'late' }]), [false], 'somebody was faster')
  t.notOk(await putsMarks(() => load(tier, b, 2)), 'which is nobody’s fault')

  const before = await claim(tier, a, b)
  await theirs.forget({ keys: [c] })
  t.strictSame(await fill(tier, before, [{ key: a, value: 'late' }, { key: b, value: 'late' }]), [false, false], 'for another key’s sake')
  t.ok(await putsMarks(() => load(tier, c, 3)))
  t.equal((await tier.lookMany(['none'])).lease(0), undefined, 'and having looked is not enough')
  const marked = await claim(tier, 'other')
  await theirs.forget({ keys: [a] })
  t.strictSame(await fill(tier, marked, [{ key: 'other', value: 4 }]), [true], 'where another key makes no difference')
  await eventually(t, async () => !await putsMarks(() => load(tier, b, 5)), 'a while later')
})

t.test('what was seen too long ago is no right to fill any more', async t => {
  const place = onRedis(t, server)
  const { tier } = tierOn(t, place, place.another(), { leaseTtl: 10 })
  const a = place.keyspace.entry('k', 'a')
  await load(tier, 'another', 'there is a stamp')
  const before = await claim(tier, a)
  const until = performance.now() + 10
  await eventually(t, () => performance.now() > until, 'its time is over')
  t.strictSame(await fill(tier, before, [{ key: a, value: 'late' }]), [false])
  t.strictSame(await read(tier, a), [undefined])
})
