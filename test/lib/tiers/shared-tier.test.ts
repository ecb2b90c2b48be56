import { Redis } from 'ioredis'
import t from 'tap'
import { newStamp } from '../../../lib/stamp.js'
import { redis } from '../../../lib/backends/redis.js'
import { onRedis, onThreeMethods } from '../../helpers/places.js'
import { startRedis } from '../../helpers/servers.js'
import { claim, entryOf, fill, load, onEachPlace, patchedTier, read, tierOn, twoTiers } from '../../helpers/shared-tiers.js'

const server = await startRedis(t)

onEachPlace(t, server, (t, { make }) => {
  t.test('a tier brings what was filled, in the order of the keys, to every process', async t => {
    const { tier, theirs, a, b, c } = twoTiers(t, make(t))
    t.strictSame(await read(tier, a, b), [undefined, undefined], 'nothing yet')
    const claims = await claim(tier, a, b)
    t.strictSame(claims.map(one => one!.entry), [undefined, undefined])
    t.strictSame(await fill(tier, claims, [{ key: a, value: 1 }, { key: b, value: { id: 2 } }]), [true, true])
    for (const one of [tier, theirs]) t.strictSame(await read(one, b, c, a, b), [{ id: 2 }, undefined, 1, { id: 2 }])
    t.strictSame(await tier.readMany([]), [])
  })

  t.test('a tier shows at a second look what was filled meanwhile', async t => {
    const { tier, theirs, a, b } = twoTiers(t, make(t))
    await load(theirs, a, 'theirs')
    const [found, missing] = await claim(tier, a, b)
    t.equal(found!.entry!.value, 'theirs')
    t.equal(missing!.entry, undefined)
    t.ok(missing!.lease)
  })

  t.test('a tier that is away counts as missing, and never rejects', async t => {
    const { tier, state, logger, a } = twoTiers(t, make(t))
    await load(tier, a, 1)
    const claims = await claim(tier, a)
    state.away = true
    t.strictSame(await read(tier, a, a), [undefined, undefined])
    t.strictSame(await claim(tier, a, a), [undefined, undefined])
    t.strictSame(await fill(tier, claims, [{ key: a, value: 2 }]), ['unknown'], 'nothing contradicts the value')
    t.equal(await tier.stamp(), undefined)
    t.match(logger.lines.debug[0], { details: { region: 'objects', operation: 'read', err: { message: 'away' } }, message: 'a tier did not answer and counts as missing' })
    t.strictSame(logger.lines.error, [])
  })

  t.test('a tier copies what a farther tier still has, and only where there is nothing', async t => {
    const { tier, theirs, a, b, c } = twoTiers(t, make(t))
    await load(theirs, b, 'here already')
    const asked: string[][] = []
    await tier.copyMany([a, b, c], async keys => {
      asked.push([...keys])
      return [{ ...entryOf('from afar', ['t']), stamp: newStamp() }, entryOf('too late'), undefined]
    })
    t.strictSame(asked, [[a, b, c]])
    t.strictSame(await read(theirs, a, b, c), ['from afar', 'here already', undefined])
    const d = `${c}d`
    await tier.copyMany([d], async () => [{ ...entryOf('soft'), softened: true }])
    t.strictSame(await read(theirs, d), [undefined], 'what was softened there would be fresh here')
    await theirs.forget({ tags: ['t'] })
    t.strictSame(await read(tier, a), [undefined], 'its tags are held here as well')
  })

  t.test('a tier that is away is not copied to, and what can’t be encoded isn’t copied', async t => {
    const { tier, state, theirs, a, keyspace, another, raw } = twoTiers(t, make(t))
    state.away = true
    await tier.copyMany([a], async () => [entryOf(1)])
    state.away = false
    t.strictSame(await read(theirs, a), [undefined])
    const { tier: picky, logger } = tierOn(t, { keyspace, another, raw }, another(), { serializer: { encode: () => { throw new Error('never') }, decode: () => 1 } })
    await picky.copyMany([a], async () => [entryOf(1)])
    t.match(logger.lines.debug, [{ details: { operation: 'copy' } }])
  })
})

t.test('a backend that leases, and answers without a stamp or with too few values, counts as away', async t => {
  for (const answer of [[], [Buffer.from('foreign'), Buffer.from('a')], [Buffer.from('1|0|0|0')]]) {
    const { tier, logger, a } = patchedTier(t, server, { leaseMany: async () => answer as unknown as [Uint8Array] })
    t.strictSame(await claim(tier, a), [undefined])
    t.match(logger.lines.debug, [{ details: { operation: 'lease', err: { message: 'redis.leaseMany must answer a stamp and one value for each key' } } }])
  }
})

t.test('a tier tells what it stands on', async t => {
  const place = onRedis(t, server)
  const client = new Redis(server.port)
  t.teardown(() => client.disconnect())
  const { tier } = tierOn(t, place, redis(client))
  t.equal(tier.name, 'redis')
  t.equal(tier.connection, client)
  t.ok(tier.line)
  const bare = onThreeMethods()
  const { tier: other } = tierOn(t, bare, bare.another())
  t.equal(other.name, 'bare')
  t.equal(other.connection, undefined)
  t.equal(other.line, undefined)
})

t.test('what is copied from a farther tier is not put where its key was deleted meanwhile', async t => {
  const place = onThreeMethods()
  const key = place.keyspace.entry('k', 'copied')
  const { tier } = tierOn(t, place, place.raw)
  await tier.copyMany([key], async () => {
    await tier.forget({ keys: [key] })
    return [entryOf('old')]
  })
  t.strictSame(await read(tier, key), [undefined])
})
