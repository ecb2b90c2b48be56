import { randomUUID } from 'node:crypto'
import t from 'tap'
import { memory } from '../../../lib/backends/memory.js'
import { redis } from '../../../lib/backends/redis.js'
import { cachedObject, loadMany, loadOne } from '../../../lib/cached-object.js'
import { lockThat } from '../../helpers/dogpile.js'
import { gate, heldLoad } from '../../helpers/doubles.js'
import { clientOf, processOf } from '../../helpers/regions.js'
import { startRedis } from '../../helpers/servers.js'

const client = clientOf(t, (await startRedis(t, { shared: true })).port)

t.test('who waits for another process waits no longer than loadTimeout', async t => {
  const lock = lockThat(async () => undefined)
  const { region, clock } = await processOf(t, { tiers: [redis(client)], lockWait: 200, loadTimeout: { hard: 20 } }, { lock })
  await t.rejects(region.getOrCreate('alice', () => 'value'), { code: 'FST_CACHING_API_LOAD_TIMEOUT', message: /longer than 20 ms/ })

  for (const loadTimeout of [{ soft: 10 }, { hard: 10 }, { soft: 10, hard: 20 }]) {
    const { load, begun, end } = heldLoad('new')
    const alone = await processOf(t, { tiers: [memory(), redis(client)], grace: '1h', refresh: 'inline', loadTimeout }, { now: clock.now })
    await alone.region.set('alice', 'old')
    clock.advance(10_000)
    t.equal(await alone.region.getOrCreate('alice', load), 'old', 'what is stale is better than nothing')
    await begun
    end()
    await alone.manager.idle()
    t.equal(await alone.region.get('alice'), 'new')
  }
})

t.test('a load that takes too long is named by its method and arguments, or by its key', async t => {
  const { manager, region } = await processOf(t, { tiers: [memory()], loadTimeout: { hard: 5 } }, { namespace: 'app' })
  const door = gate()
  const never = async () => { await door.opened; return null }
  const City = cachedObject({
    name: 'City',
    region: 'people',
    methods: { getAll: loadOne(never), search: loadOne(async (_context, _name: string, _near?: object) => await never()), getById: loadMany({ load: async (_context, _ids: readonly number[]) => { await door.opened; return [] }, idOf: () => 1 }) }
  })
  const api = manager.createApi()
  const named = (name: string) => ({ code: 'FST_CACHING_API_LOAD_TIMEOUT', statusCode: 503, message: `Loading '${name}' took longer than 5 ms` })
  await Promise.all([
    t.rejects(api.get(City, 'getAll', []), named('City.getAll()')),
    t.rejects(api.get(City, 'getById', [7]), named('City.getById(7)')),
    t.rejects(api.get(City, 'search', ['Paris', { lat: 48 }]), named('City.search("Paris",{"lat":48})')),
    t.rejects(api.get(City, 'search', ['x'.repeat(1000)]), named(`City.search("${'x'.repeat(59)}…)`)),
    t.rejects(region.getOrCreate('paris', never), named('app:people:k:paris'))
  ])
  await t.rejects(manager.createApi().get(City, 'getAll', []), named('City.getAll()'), 'who comes later is told the same')
  door.open()
})

t.test('a load that takes longer than loadTimeout costs the others of its batch nothing', async t => {
  const { region, clock, manager } = await processOf(t, { tiers: [memory()], refresh: 'inline', grace: '1h', loadTimeout: { soft: 10, hard: 20 } })
  await region.set('stale', 'old')
  clock.advance(10_000)
  const { load, end } = heldLoad('new')
  const reads = [region.getOrCreate('quick', () => 'quick'), region.getOrCreate('stale', load)]
  const slow = region.getOrCreate('slow', load)
  t.strictSame(await Promise.all(reads), ['quick', 'old'])
  await t.rejects(slow, { code: 'FST_CACHING_API_LOAD_TIMEOUT' })
  end()
  await manager.idle()
  t.strictSame(await region.getMany(['quick', 'stale', 'slow']), ['quick', 'new', 'new'], 'all of them go on, and are kept')
})

t.test('a lock of days, and a timeout of weeks, are no reason not to keep a value', async t => {
  const { region, manager } = await processOf(t, { tiers: [memory(), redis(client)], lockTtl: '20d', loadTimeout: { hard: '20d' } })
  for (let times = 0; times < 2; times++) t.equal(await region.getOrCreate('k', async () => { await new Promise(setImmediate); return times }), 0)
  await manager.idle()
  t.equal(await region.get('k'), 0)
})

t.test('who comes after a hard timeout finds what others have filled, or waits as long for the same load', async t => {
  const namespace = randomUUID()
  const options = { tiers: [memory(), redis(client)] as const, loadTimeout: { hard: 30 } }
  const [mine, theirs] = [await processOf(t, options, { namespace }), await processOf(t, { tiers: [redis(client)] }, { namespace })]
  const timedOut = { code: 'FST_CACHING_API_LOAD_TIMEOUT' }
  const [a, b, c] = [heldLoad('a'), heldLoad('b'), heldLoad('c')]
  for (let times = 0; times < 3; times++) {
    await Promise.all([['a', a], ['b', b], ['c', c]].map(async ([key, held]) => { await t.rejects(mine.region.getOrCreate(key as string, (held as typeof a).load), timedOut) }))
  }
  t.strictSame([a.load.calls, b.load.calls, c.load.calls], [1, 1, 1], 'nobody calls it again')
  await theirs.region.set('a', 'from another process')
  t.equal(await mine.region.getOrCreate('a', a.load), 'from another process')
  const waiting = mine.region.getOrCreate('b', b.load)
  const failing = mine.region.getOrCreate('c', c.load)
  failing.catch(() => {})
  for (const held of [a, b, c]) held.end()
  t.equal(await waiting, 'b')
  t.equal(await failing, 'c')
  await mine.manager.idle()
  t.equal(await mine.region.get('b'), 'b', 'and it is kept')
})

t.test('who waits for a load that was given up gets its error, if it fails in time', async t => {
  const { region } = await processOf(t, { tiers: [memory()], loadTimeout: { hard: 30 } })
  const door = gate()
  const load = async () => { await door.opened; throw new Error('no') }
  await t.rejects(region.getOrCreate('k', load), { code: 'FST_CACHING_API_LOAD_TIMEOUT' })
  const waiting = region.getOrCreate('k', load)
  await new Promise(setImmediate)
  door.open()
  await t.rejects(waiting, { message: 'no' })
})
