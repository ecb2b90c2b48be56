import t from 'tap'
import type { LeasingBackend } from '../../../lib/backends/backend.js'
import { bound, interruptible } from '../../helpers/backend-doubles.js'
import { eventually } from '../../helpers/doubles.js'
import { onRedis } from '../../helpers/places.js'
import { startRedis } from '../../helpers/servers.js'
import { claim, entryOf, fill, load, onEachPlace, patchedTier, read, tierOn, twoTiers } from '../../helpers/shared-tiers.js'

const server = await startRedis(t)

onEachPlace(t, server, (t, { fenced, make }) => {
  t.test('a tier replaces whatever is there by what is set', async t => {
    const { tier, theirs, a, b } = twoTiers(t, make(t))
    const claims = await claim(tier, a)
    await theirs.setMany([{ key: a, entry: entryOf('set') }, { key: b, entry: entryOf('too', ['t']) }])
    t.strictSame(await fill(tier, claims, [{ key: a, value: 'late' }]), [!fenced])
    if (fenced) t.strictSame(await read(tier, a, b), ['set', 'too'])
    await theirs.forget({ tags: ['t'] })
    t.strictSame(await read(tier, b), [undefined])
    await theirs.setMany([{ key: b, entry: entryOf('again', ['t']) }])
    t.strictSame(await read(tier, b), ['again'])
  })

  t.test('a tier that nobody used before is ready to be set', async t => {
    const { tier, theirs, a } = twoTiers(t, make(t))
    await tier.setMany([{ key: a, entry: entryOf(1) }])
    t.strictSame(await read(theirs, a), [1])
    t.strictSame(await tier.stamp(), await theirs.stamp())
  })

  t.test('a tier that is away when something is set has the old value forgotten', async t => {
    const { tier, theirs, state, a } = twoTiers(t, make(t))
    await load(tier, a, 'old')
    state.away = true
    await tier.setMany([{ key: a, entry: entryOf('new') }])
    state.away = false
    t.strictSame(await read(tier, a), [undefined])
    await eventually(t, async () => (await read(theirs, a))[0] === undefined, 'it is replayed')
  })

  t.test('a tier that is away forgets nothing for a set that was set again meanwhile', async t => {
    const { tier, state, a } = twoTiers(t, make(t))
    await load(tier, a, 'the later value')
    state.away = true
    await tier.setMany([{ key: a, entry: entryOf('earlier'), isSuperseded: () => true }])
    state.away = false
    t.strictSame(await read(tier, a), ['the later value'])
  })

  t.test('a tier that fails just when the value is written has the old one forgotten', async t => {
    const place = make(t)
    const own = place.another()
    let full = false
    const backend = new Proxy(own, {
      get: (target, name) => (name === 'setMany' || name === 'fillMany') && full ? async () => { throw new Error('full') } : bound(target, name)
    })
    const { tier } = tierOn(t, place, backend)
    const a = place.keyspace.entry('k', 'a')
    await load(tier, a, 'old')
    full = true
    await tier.setMany([{ key: a, entry: entryOf('new') }])
    // Three methods can't tell of a deletion without writing a stamp.
    if (fenced) t.strictSame(await read(tierOn(t, place, place.another()).tier, a), [undefined])
    t.strictSame(await read(tier, a), [undefined])
  })

  t.test('a tier rejects a set that its serializer can’t encode, and only that', async t => {
    const place = make(t)
    const error = new Error('never')
    const { tier } = tierOn(t, place, place.another(), { serializer: { encode: () => { throw error }, decode: () => 1 } })
    await t.rejects(tier.setMany([{ key: place.keyspace.entry('k', 'a'), entry: entryOf(1) }]), error)
  })
})

t.test('a set for which no stamp comes back is kept under one that nobody has: it is missing', async t => {
  const { tier, a } = patchedTier(t, server, { leaseMany: async () => [Buffer.from('foreign')] })
  await tier.setMany([{ key: a, entry: entryOf(1) }])
  t.strictSame(await read(tier, a), [undefined])
})

t.test('a set whose place others take again and again leaves nothing older there', async t => {
  for (const takers of [1, Infinity]) {
    const place = onRedis(t, server)
    const { backend, before } = interruptible(place.another() as LeasingBackend)
    const { tier } = tierOn(t, place, backend)
    const { tier: other } = tierOn(t, place, place.another())
    const [a, b] = ['a', 'b'].map(rest => place.keyspace.entry('k', rest)) as [string, string]
    for (const key of [a, b]) await load(other, key, 'old')
    let taken = 0
    const take = async () => {
      await other.claimMany([a], { ttl: 60_000, takeOver: true }) // as a refresh does, which fails
      if (++taken < takers) before('fillMany', 1, take)
    }
    before('fillMany', 1, take)
    await tier.setMany([{ key: a, entry: entryOf('new') }, { key: b, entry: entryOf('new') }])
    t.strictSame(await read(other, a, b), [takers === 1 ? 'new' : undefined, 'new'])
  }
})

t.test('what a refused refresh was to replace is forgotten where it still stands, or where that can’t be seen', async t => {
  for (const blind of [false, true]) {
    const place = onRedis(t, server)
    const { tier } = tierOn(t, place, place.another())
    const [a, b, c] = ['a', 'b', 'c'].map(rest => place.keyspace.entry('k', rest)) as [string, string, string]
    for (const key of [a, b]) await load(tier, key, 'old')
    const claims = await tier.claimMany([a, b, c], { ttl: 60_000, takeOver: true })
    await tier.setMany([{ key: b, entry: entryOf('newer') }])
    const own = place.another()
    const refusing = new Proxy(own, { get: (target, name) => blind && name === 'getMany' ? async () => { throw new Error('away') } : bound(target, name) })
    await tierOn(t, place, refusing).tier.forgetUnreplaced([a, b, c].map((key, i) => ({ key, lease: claims[i]!.lease })))
    t.strictSame(await read(tier, a, b, c), [undefined, blind ? undefined : 'newer', undefined])
  }
})

t.test('what is set is not replaced by what was seen before', async t => {
  const place = onRedis(t, server)
  const { tier } = tierOn(t, place, place.another())
  const { tier: theirs } = tierOn(t, place, place.another())
  const [a, b] = ['a', 'b'].map(rest => place.keyspace.entry('k', rest)) as [string, string]
  await load(tier, b, 'there is a stamp')
  const before = await claim(tier, a)
  await theirs.setMany([{ key: a, entry: entryOf('set') }])
  t.strictSame(await fill(tier, before, [{ key: a, value: 'late' }]), [false])
  t.strictSame(await read(tier, a), ['set'])

  const { backend, before: interrupt } = interruptible(place.another() as LeasingBackend)
  const { tier: slow } = tierOn(t, place, backend)
  const first = await claim(tier, a)
  interrupt('fillMany', 1, async () => { t.strictSame(await fill(tier, first, [{ key: a, value: 'late' }]), [false]) })
  await slow.setMany([{ key: a, entry: entryOf('set again') }])
  t.strictSame(await read(tier, a), ['set again'], 'nor while it is being set')
})
