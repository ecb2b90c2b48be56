import t from 'tap'
import type { SharedTier } from '../../../lib/tiers/shared-tier.js'
import { interruptible, switchable, withLateAnswers } from '../../helpers/backend-doubles.js'
import { gate } from '../../helpers/doubles.js'
import { onRedis, type Place } from '../../helpers/places.js'
import { startRedis } from '../../helpers/servers.js'
import { claim, fill, load, onEachPlace, patchedTier, read, tierOn, twoTiers } from '../../helpers/shared-tiers.js'

const server = await startRedis(t)

onEachPlace(t, server, (t, { fenced, make }) => {
  t.test('a tier that answered before it was told to forget, and is heard after, isn’t believed', async t => {
    for (const farther of [false, true]) {
      for (const [question, ask] of [
        ['a read', async (tier: SharedTier, key: string) => await tier.readMany([key])],
        ['a claim', async (tier: SharedTier, key: string) => (await claim(tier, key)).map(one => one?.entry)]
      ] as const) {
        const place = make(t)
        const behind = make(t)
        const { backend, state } = switchable((farther ? behind : place).another())
        const { backend: answering, holdNext } = withLateAnswers(farther ? place.another() : backend)
        const told = gate()
        const first = tierOn(t, farther ? behind : place, farther ? backend : answering, { onReplayed: told.open }).tier
        const tier = farther ? tierOn(t, place, answering, { farther: [first] }).tier : first
        const [a, b] = ['a', 'b'].map(rest => place.keyspace.entry('k', rest)) as [string, string]
        for (const key of [a, b]) await load(tier, key, 'old')
        state.away = true
        t.equal(await first.forget({ keys: [a] }), false)
        state.away = false
        const { ready, given } = holdNext()
        const asked = ask(tier, a)
        await given.opened
        await told.opened
        ready.open()
        t.strictSame(await asked, [undefined], farther ? `${question}, of what a farther tier had to forget` : question)
        t.strictSame(await read(tier, b), ['old'], 'it is again')
      }
    }
  })

  t.test('a tier warns once of bytes that it doesn’t understand, and puts them right', async t => {
    const { tier, theirs, logger, raw, a, b } = twoTiers(t, make(t))
    await load(tier, a, 1)
    await raw.setMany([{ key: a, value: Buffer.from('{"id":1,"name":"of somebody else"}'), ttl: 60_000 }, { key: b, value: Buffer.alloc(100, 0xfc), ttl: 60_000 }])
    t.strictSame(await read(tier, a, b), [undefined, undefined])
    t.strictSame(await read(tier, a, b), [undefined, undefined])
    t.match(logger.lines.warn, [{ details: { region: 'objects', key: a }, message: 'an entry was not understood and counts as missing; further ones will not be logged' }])
    t.equal(logger.lines.warn.length, 1)
    const claims = await claim(tier, a, b)
    t.strictSame(await fill(tier, claims, [{ key: a, value: 1 }, { key: b, value: 2 }]), [true, true])
    t.strictSame(await read(theirs, a, b), [1, 2])
  })

  t.test('a tier whose stamp was lost, or overwritten, has forgotten everything', async t => {
    const stampKeys = ({ keyspace }: Place) => fenced ? [keyspace.stamp] : (['epoch', 'softened', 'tagged', 'deleted'] as const).map(part => keyspace.stampPart(part))
    for (const lose of stampKeys(twoTiers(t, make(t))).flatMap((_, i) => [
      async (place: Place) => await place.raw.deleteMany([stampKeys(place)[i]!]),
      async (place: Place) => await place.raw.setMany([{ key: stampKeys(place)[i]!, value: Buffer.from('foreign'), ttl: 60_000 }])
    ])) {
      const on = twoTiers(t, make(t))
      await load(on.tier, on.a, 'old')
      await lose(on)
      t.strictSame(await read(on.tier, on.a), [undefined])
      t.equal(await on.tier.stamp(), undefined)
      t.equal((await claim(on.tier, on.a))[0]!.entry, undefined)
      await load(on.tier, on.a, 'new')
      t.strictSame(await read(on.theirs, on.a), ['new'])
    }
  })
})

t.test('a tag whose version was lost could have been invalidated: what has it is missing', async t => {
  const place = onRedis(t, server)
  const { tier } = tierOn(t, place, place.another())
  const [a, b] = ['a', 'b'].map(rest => place.keyspace.entry('k', rest)) as [string, string]
  await load(tier, a, 1, ['lost'])
  await load(tier, b, 2, ['kept'])
  await place.raw.deleteMany([place.keyspace.tag('lost')])
  t.strictSame(await read(tier, a, b), [1, 2], 'as long as no tag was invalidated at all')
  await tier.forget({ tags: ['another'] })
  t.strictSame(await read(tier, a, b), [undefined, 2])
})

t.test('a version of a tag that is older than the last hard invalidation says nothing of later values', async t => {
  const place = onRedis(t, server)
  const { tier } = tierOn(t, place, place.another())
  const a = place.keyspace.entry('k', 'a')
  await load(tier, a, 1, ['t'])
  for (let i = 0; i < 3; i++) await tier.forget({ tags: ['t'] })
  await tier.forget({ hard: true })
  await load(tier, a, 2, ['t'])
  await tier.forget({ tags: ['another'] })
  t.strictSame(await read(tier, a), [2])
  await tier.forget({ tags: ['t'] })
  t.strictSame(await read(tier, a), [undefined])
})

t.test('a read asks for tags only when some tag of the region was invalidated since', async t => {
  const place = onRedis(t, server)
  const { tier } = tierOn(t, place, place.another())
  const a = place.keyspace.entry('k', 'a')
  await load(tier, a, 1, ['t'])
  await place.raw.getMany([a])
  const recorder = await server.recordCommands() // now that all have connected
  await recorder.reset()
  await read(tier, a)
  t.strictSame(await recorder.commands(), ['mget'])
  await tier.forget({ tags: ['another'] })
  await recorder.reset()
  await read(tier, a)
  t.strictSame(await recorder.commands(), ['mget', 'mget'])
})

t.test('where a server is flushed while tags are looked at, nothing that was read before is believed', async t => {
  for (const afterwards of ['nothing', 'new values']) {
    const place = onRedis(t, server)
    const { backend, before } = interruptible(place.another())
    const { tier } = tierOn(t, place, backend)
    const { tier: other } = tierOn(t, place, place.another())
    const a = place.keyspace.entry('k', 'a')
    await load(other, a, 1, ['t'])
    await other.forget({ tags: ['another'] })
    before('getMany', 2, async () => {
      await other.forget({ tags: ['t'] })
      await place.raw.deleteMany([place.keyspace.stamp, place.keyspace.tag('t'), a])
      if (afterwards === 'new values') await load(other, a, 2, ['t'])
    })
    t.strictSame(await read(tier, a), [undefined], afterwards)
  }
})

t.test('a version of a tag that is none could be any', async t => {
  const { tier, keyspace, raw } = patchedTier(t, server, {})
  const key = keyspace.entry('k', 'tagged')
  await fill(tier, await claim(tier, key), [{ key, value: 1, tags: ['team'] }])
  await tier.forget({ tags: ['others'] })
  t.match(await tier.readMany([key]), [{ value: 1 }])
  await raw.setMany([{ key: keyspace.tag('team'), value: Buffer.from('-'), ttl: 60_000 }])
  t.strictSame(await tier.readMany([key]), [undefined])
})
