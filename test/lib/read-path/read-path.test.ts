import assert from 'node:assert/strict'
import { AsyncLocalStorage } from 'node:async_hooks'
import { randomUUID } from 'node:crypto'
import { Cluster, Redis } from 'ioredis'
import t, { type Test } from 'tap'
import { cachedObject, loadMany, loadOne } from '../../../lib/cached-object.js'
import { CachingManager, type CachingManagerOptions } from '../../../lib/caching-manager.js'
import type { Line } from '../../../lib/line.js'
import type { DogpileLock } from '../../../lib/locks/lock.js'
import { redlock } from '../../../lib/locks/redlock.js'
import type { Region } from '../../../lib/region.js'
import type { RegionOptions } from '../../../lib/region-options.js'
import type { Backend, BackendEntry, LocalBackend } from '../../../lib/backends/backend.js'
import { memory } from '../../../lib/backends/memory.js'
import { redis, redisBus } from '../../../lib/backends/redis.js'
import { echoingLine, countingLoader, eventually, fakeClock, gate, silentLogger } from '../../helpers/doubles.js'
import { recordingProxy } from '../../helpers/recording-proxy.js'
import { startRedis, startRedisCluster } from '../../helpers/servers.js'

const server = await startRedis(t, { shared: true })
const client = clientOf(t, server.port)

function clientOf (t: Pick<Test, 'teardown'>, port: number): Redis {
  const client = new Redis(port, { retryStrategy: () => 20, maxRetriesPerRequest: 0 })
  client.on('error', () => {})
  t.teardown(() => client.disconnect())
  return client
}

type Options = Partial<RegionOptions> & Pick<RegionOptions, 'tiers'>

/** What one process has of a region. Another one of the same `namespace` is another process, as far as the region knows. */
async function processOf (t: Test, options: Options, managerOptions: Partial<CachingManagerOptions> = {}) {
  const clock = fakeClock()
  const logger = silentLogger()
  const manager = new CachingManager({
    namespace: randomUUID(),
    now: clock.now,
    logger,
    regions: { people: { ttl: '10s', jitter: 0, tierTimeout: '20s', lockTtl: '20s', lockWait: '20s', ...options } },
    ...managerOptions
  })
  t.teardown(() => manager.close())
  await manager.ready()
  return { manager, region: manager.region('people'), clock, logger }
}

/** A load that the test lets end. */
function heldLoad<T> (value: T) {
  const begun = gate()
  const held = gate()
  const load = async () => {
    load.calls++
    begun.open()
    await held.opened
    return value
  }
  load.calls = 0
  return { load, begun: begun.opened, end: held.open }
}

/** Three methods, a Map behind them, and a record of what was asked. */
class MapBackend implements Backend {
  readonly name: string
  readonly kept = new Map<string, Uint8Array>()
  /** The keys of each getMany that had any but the region's stamp. */
  readonly reads: string[][] = []
  /** Run with the answer of a getMany, before it is given. */
  afterRead: (keys: readonly string[]) => unknown = () => {}
  beforeDelete: () => unknown = () => {}
  closed = 0

  constructor (name = 'map') {
    this.name = name
  }

  async getMany (keys: readonly string[]): Promise<(Uint8Array | undefined)[]> {
    const asked = keys.filter(key => !key.startsWith('{'))
    if (asked.length > 0) this.reads.push(asked)
    const found = keys.map(key => this.kept.get(key))
    if (asked.length > 0) await this.afterRead(asked)
    return found
  }

  async setMany (entries: readonly BackendEntry[]): Promise<void> {
    for (const { key, value } of entries) this.kept.set(key, value)
  }

  async deleteMany (keys: readonly string[]): Promise<void> {
    await this.beforeDelete()
    for (const key of keys) this.kept.delete(key)
  }

  async close (): Promise<void> {
    this.closed++
  }
}

/** A lock whose answer the test decides. */
function lockThat (acquire: DogpileLock['acquire']) {
  const lock: DogpileLock & { calls: string[][] } = {
    calls: [],
    acquire: (names, ttl) => { lock.calls.push([...names]); return acquire(names, ttl) }
  }
  return lock
}

// ─── batches ─────────────────────────────────────────────────────────────────────────────────────

t.test('the keys that are missing in one tick make one question to each tier and one call of the loader', async t => {
  const near = new MapBackend('near')
  const far = new MapBackend('far')
  const { manager } = await processOf(t, { tiers: [memory(), near, far] })
  const { load, idOf, calls } = countingLoader(Array.from({ length: 100 }, (_, id) => ({ id })))
  const City = cachedObject({ name: 'City', region: 'people', methods: { getById: loadMany({ load, idOf }) } })

  // Of ten requests, some later than others in the same tick.
  const reads = Array.from({ length: 10 }, async (_, request) => {
    const api = manager.createApi()
    for (let later = 0; later < request; later++) await Promise.resolve()
    return await api.getMany(City, 'getById', Array.from({ length: 20 }, (_, i) => request * 9 + i))
  })
  const rows = await Promise.all(reads)
  for (const [request, found] of rows.entries()) t.strictSame(found.map(row => row?.id ?? null), Array.from({ length: 20 }, (_, i) => request * 9 + i < 100 ? request * 9 + i : null))

  t.equal(calls.length, 1)
  t.equal(calls[0]!.length, 101, 'each id once')
  for (const { name, reads } of [near, far]) {
    t.equal(reads.length, 1, `${name} was asked once`)
    for (const keys of reads) t.equal(new Set(keys).size, 101)
  }

  await manager.idle()
  near.kept.clear()
  near.reads.length = far.reads.length = 0
  const other = await processOf(t, { tiers: [memory(), near, far] }, { namespace: manager.region('people').keyspace.prefix.split(':')[0]! })
  await other.manager.createApi().getMany(City, 'getById', [1, 2, 3])
  t.equal(calls.length, 1)
  t.strictSame([near.reads[0]!.length, far.reads[0]!.length], [3, 3])
})

t.test('a batch that is larger than maxBatch is split', async t => {
  const { manager } = await processOf(t, { tiers: [memory()] })
  const { load, idOf, calls } = countingLoader(Array.from({ length: 100 }, (_, id) => ({ id })))
  const City = cachedObject({ name: 'City', region: 'people', methods: { getById: loadMany({ load, idOf, maxBatch: 40 }) } })
  const ids = Array.from({ length: 100 }, (_, id) => id)
  t.strictSame((await manager.createApi().getMany(City, 'getById', ids)).map(row => row?.id), ids)
  t.strictSame(calls.map(call => call.length), [40, 40, 20])
})

t.test('what a load finds besides is there for those who want it', async t => {
  const namespace = randomUUID()
  const { manager } = await processOf(t, { tiers: [memory(), redis(client)] }, { namespace })
  const { load, idOf, calls } = countingLoader([{ id: 1, name: 'alice' }, { id: 2, name: 'bob' }])
  const names: string[] = []
  const Person = cachedObject({
    name: 'Person',
    region: 'people',
    methods: {
      byId: loadMany({ load, idOf, primes: { byName: row => [row.name] } }),
      byName: loadOne((_context, name: string) => { names.push(name); return { id: 0, name } })
    }
  })
  t.equal((await manager.createApi().getMany(Person, 'byId', [1, 2, 3])).length, 3)
  await manager.idle()
  const other = await processOf(t, { tiers: [redis(client)] }, { namespace })
  for (const api of [manager.createApi(), other.manager.createApi()]) {
    t.strictSame(await api.getMany(Person, 'byName', ['alice', 'bob']), [{ id: 1, name: 'alice' }, { id: 2, name: 'bob' }])
  }
  t.equal(calls.length, 1)
  t.strictSame(names, [])
})

t.test('a key that is known does not wait for one that is not', async t => {
  const namespace = randomUUID()
  const other = await processOf(t, { tiers: [redis(client)] }, { namespace })
  await other.region.set('in redis', 2)
  const { region } = await processOf(t, { tiers: [memory(), redis(client)] }, { namespace })
  await region.set('in memory', 1)

  const { load, end } = heldLoad(3)
  const missing = region.getOrCreate('missing', load)
  t.equal(await region.getOrCreate('in memory', () => 0), 1)
  const inRedis = region.getOrCreate('in redis', () => 0)
  const failing = region.getOrCreate('failing', () => { throw new Error('no luck') })
  t.equal(await inRedis, 2)
  await t.rejects(failing, { message: 'no luck' })
  end()
  t.equal(await missing, 3)
})

t.test('the lock is asked for what was not found before those go on who have found something', async t => {
  const order: string[] = []
  const lock = lockThat(async () => { order.push('the lock'); return undefined })
  const { manager } = await processOf(t, { tiers: [new MapBackend()], lockWait: 1 }, { lock })
  const Person = cachedObject({ name: 'Person', region: 'people', methods: { getById: loadMany({ load: (_context, ids: readonly number[]) => ids.map(id => ({ id })), idOf: row => row.id }) } })
  await manager.createApi().set(Person, 'getById', [1], { id: 1 })
  await Promise.all([1, 2].map(async id => {
    await manager.createApi().get(Person, 'getById', [id])
    order.push(`${id}`)
  }))
  t.strictSame(order.slice(0, 2), ['the lock', '1'])
})

t.test('one tick, one key, two ages: it is loaded once', async t => {
  for (const tiers of [[memory()], [redis(client)]] as const) {
    const { region } = await processOf(t, { tiers })
    const { load, end } = heldLoad('value')
    const reads = [region.getOrCreate('alice', load), region.getOrCreate('alice', load, { maxAge: '1s' }), region.get('alice')]
    t.equal(await reads[2], undefined, 'get does not wait for a load')
    end()
    t.strictSame(await Promise.all(reads), ['value', 'value', undefined])
    t.equal(load.calls, 1)
  }
})

t.test('somebody who asks for an age joins what is loading, and does not take what is already there for new', async t => {
  const backend = new MapBackend()
  const { region, manager } = await processOf(t, { tiers: [backend] })
  const { load, begun, end } = heldLoad('first')
  const first = region.getOrCreate('alice', load)
  await begun
  const second = region.getOrCreate('alice', load, { maxAge: 0 })
  end()
  t.strictSame(await Promise.all([first, second]), ['first', 'first'])

  const written = gate()
  const setMany = backend.setMany.bind(backend)
  backend.setMany = async entries => { await written.opened; await setMany(entries) }
  t.equal(await region.getOrCreate('bob', () => 'first'), 'first')
  t.equal(await region.getOrCreate('bob', () => 'second'), 'first', 'on its way into the tier')
  t.equal(await region.getOrCreate('bob', () => 'third', { maxAge: 0 }), 'third')
  written.open()
  await manager.idle()
})

// ─── a loader that fails ─────────────────────────────────────────────────────────────────────────

for (const [name, options] of Object.entries<() => [Options, Partial<CachingManagerOptions>?]>({
  memory: () => [{ tiers: [memory()] }],
  redis: () => [{ tiers: [redis(client)] }],
  'memory + redis with a lock': () => [{ tiers: [memory(), redis(client)] }, { lock: redlock([client]) }],
  'a tier and a lock on two connections': () => [{ tiers: [redis(client)] }, { lock: redlock([clientOf(t, server.port)]) }]
})) {
  t.test(`${name}: when a loader throws, all who wait get its error, nothing is kept, and the next one loads again`, async t => {
    const { region, manager } = await processOf(t, ...options())
    const error = Object.assign(new TypeError('no database'), { code: 'E_DB' })
    const { load, begun, end } = heldLoad(undefined)
    const failing = async () => { await load(); throw error }
    const early = Array.from({ length: 10 }, async () => await region.getOrCreate('alice', failing))
    await begun
    const late = Array.from({ length: 10 }, async () => await region.getOrCreate('alice', failing))
    end()
    const settled = await Promise.allSettled([...early, ...late])
    t.ok(settled.every(one => one.status === 'rejected' && one.reason === error), 'the very same error')
    t.equal(load.calls, 1)
    await manager.idle()
    t.equal(await region.get('alice'), undefined)
    t.equal(await region.getOrCreate('alice', () => 'value'), 'value')

    await t.rejects(region.getOrCreate('bob', async () => await Promise.reject(new Error('again'))), { message: 'again' })
    t.equal(await region.getOrCreate('bob', () => 'value'), 'value')
  })
}

t.test('the stale value of another process is served when the loader fails', async t => {
  const namespace = randomUUID()
  const other = await processOf(t, { tiers: [redis(client)], grace: '1h' }, { namespace })
  await other.region.set('alice', 'old')
  for (const refresh of ['background', 'inline'] as const) {
    const { region, clock, manager } = await processOf(t, { tiers: [memory(), redis(client)], grace: '1h', refresh }, { namespace, lock: redlock([client]) })
    clock.advance(10_000)
    t.equal(await region.getOrCreate('alice', () => { throw new Error('no database') }), 'old', refresh)
    await manager.idle()
  }
})

t.test('a stale value whose grace ended while its loader was failing is not served', async t => {
  const { region, clock } = await processOf(t, { tiers: [memory()], grace: '10s', refresh: 'inline' })
  await region.set('alice', 'old')
  clock.advance(19_999)
  await t.rejects(region.getOrCreate('alice', () => { clock.advance(1); throw new Error('no database') }), { message: 'no database' })
})

// ─── no stale fill ───────────────────────────────────────────────────────────────────────────────

const invalidations: Record<string, (region: Region) => Promise<void>> = {
  'its deletion': async region => await region.delete('alice'),
  'an invalidation of the region': async region => await region.invalidate(),
  'a soft invalidation of the region': async region => await region.invalidate({ soft: true }),
  'an invalidation of its tag': async region => await region.invalidateTags('people')
}

for (const [invalidation, invalidate] of Object.entries(invalidations)) {
  t.test(`who reads right before and right after ${invalidation} shares a load`, async t => {
    const { region } = await processOf(t, { tiers: [redis(client)] }, { lock: redlock([client]) })
    let loads = 0
    const load = () => { loads++; return 'value' }
    const before = region.getOrCreate('alice', load, { tags })
    const invalidated = invalidate(region)
    const after = region.getOrCreate('alice', load, { tags })
    t.strictSame(await Promise.all([before, after, invalidated]), ['value', 'value', undefined])
    t.ok(loads <= 2)
  })

  t.test(`a read that ${invalidation} has overtaken on its way to the loader is not joined there`, async t => {
    const backend = new MapBackend()
    const { region } = await processOf(t, { tiers: [backend] })
    const looked = gate()
    const held = gate()
    backend.afterRead = async () => { looked.open(); await held.opened }
    const { load, begun, end } = heldLoad('old')
    const first = region.getOrCreate('alice', load, { tags })
    await looked.opened
    backend.afterRead = () => {}
    await invalidate(region)
    held.open()
    await begun
    t.equal(await region.getOrCreate('alice', () => 'new', { tags }), 'new')
    end()
    t.equal(await first, 'old')
  })
}
const tags = ['people']

for (const [name, options] of Object.entries<() => [Options, Partial<CachingManagerOptions>?]>({
  memory: () => [{ tiers: [memory()] }],
  redis: () => [{ tiers: [redis(client)] }],
  'memory + redis': () => [{ tiers: [memory(), redis(client)] }],
  "a tier of three methods of one's own": () => [{ tiers: [new MapBackend()] }],
  'memory + redis with a lock': () => [{ tiers: [memory(), redis(client)] }, { lock: redlock([client]) }]
})) {
  for (const [invalidation, invalidate] of Object.entries(invalidations)) {
    t.test(`${name}: a load that was overtaken by ${invalidation} is not written back`, async t => {
      const { region, manager } = await processOf(t, ...options())
      const { load, begun, end } = heldLoad('old')
      const first = region.getOrCreate('alice', load, { tags })
      await begun
      const joined = region.getOrCreate('alice', () => 'not called', { tags })
      await invalidate(region)
      end()
      t.strictSame(await Promise.all([first, joined]), ['old', 'old'], 'who began before gets it')
      await manager.idle()
      t.equal(await region.get('alice'), undefined)
      t.equal(await region.getOrCreate('alice', () => 'new', { tags }), 'new')
    })

    t.test(`${name}: who comes after ${invalidation} does not join the load before it`, async t => {
      const { region, manager } = await processOf(t, ...options())
      const { load, begun, end } = heldLoad('old')
      const first = region.getOrCreate('alice', load, { tags })
      await begun
      await invalidate(region)
      const second = region.getOrCreate('alice', () => 'new', { tags })
      // With a lock, that is held by the first load of this same process: the second one waits for its end.
      if (!name.endsWith('lock')) t.equal(await second, 'new')
      end()
      t.equal(await first, 'old')
      t.equal(await second, 'new')
      await manager.idle()
      // Where nothing compares, the old one may take the new one's place; it is not believed there.
      if (name.startsWith('a tier')) t.not(await region.get('alice'), 'old')
      else t.equal(await region.get('alice'), 'new')
    })
  }

  t.test(`${name}: what is set while a load is under way stays`, async t => {
    const { region, manager } = await processOf(t, ...options())
    const { load, begun, end } = heldLoad('old')
    const first = region.getOrCreate('alice', load)
    await begun
    await region.set('alice', 'new')
    end()
    t.equal(await first, 'old')
    await manager.idle()
    t.equal(await region.get('alice'), 'new')
  })

  t.test(`${name}: a refresh overtakes the loads that are under way`, async t => {
    const { region, manager } = await processOf(t, ...options())
    const { load, begun, end } = heldLoad('old')
    let fn: () => string | Promise<string> = load
    const wrapped = region.wrap('fn', () => fn())
    const first = wrapped()
    await begun
    fn = () => 'new'
    t.equal(await wrapped.refresh(), 'new')
    end()
    t.equal(await first, 'old')
    await manager.idle()
    t.equal(await wrapped.get(), 'new')
  })

  t.test(`${name}: reads, deletions and refreshes of one tick all come to an end`, async t => {
    const { region, manager } = await processOf(t, ...options())
    let calls = 0
    const wrapped = region.wrap('fn', () => ++calls, { tags })
    const values = await Promise.all([
      wrapped(), wrapped.invalidate(), wrapped(), wrapped.invalidate(), wrapped(),
      wrapped.refresh(), wrapped(), region.invalidateTags('people'), wrapped(), region.invalidate(), wrapped()
    ])
    t.equal(values.length, 11)
    await manager.idle()
    t.equal(await wrapped(), await wrapped())
  })
}

for (const [invalidation, invalidate] of Object.entries(invalidations)) {
  t.test(`a load that was overtaken in another process by ${invalidation} is not written back`, async t => {
    const namespace = randomUUID()
    const { region, manager } = await processOf(t, { tiers: [memory(), redis(client)] }, { namespace })
    const other = await processOf(t, { tiers: [memory(), redis(client)] }, { namespace })
    const { load, begun, end } = heldLoad('old')
    const first = region.getOrCreate('alice', load, { tags })
    await begun
    await invalidate(other.region)
    end()
    t.equal(await first, 'old')
    await manager.idle()
    t.equal(await other.region.get('alice'), undefined)
    await eventually(t, async () => await region.get('alice') === undefined, 'nor kept by its own memory')
  })
}

t.test('a flush, or an eviction, refuses what was loaded before it, in memory too', async t => {
  for (const lose of [async () => await own.flushall(), async () => await own.unlink(...await own.keys('*:k:*'))]) {
    for (const value of ['old', NaN, { name: 'old' }]) {
      const { region, manager } = await processOf(t, { tiers: [memory(), redis(own)] })
      const { load, begun, end } = heldLoad(value)
      const first = region.getOrCreate('alice', load)
      await begun
      await lose()
      end()
      t.strictSame(await first, value)
      await manager.idle()
      t.equal(await region.get('alice'), undefined)
      await region.getOrCreate('alice', () => 'new')
      await manager.idle()
      t.equal(await region.get('alice'), 'new')
    }
  }
})
const own = clientOf(t, (await startRedis(t)).port)

t.test('what was read from a tier before it was invalidated does not stay in a nearer one', async t => {
  for (const [invalidation, invalidate] of Object.entries(invalidations)) {
    // A tier of three methods answers in no order: here, it answers the read after the deletion that came later.
    const slow = new MapBackend()
    const { region, manager } = await processOf(t, { tiers: [memory(), slow] })
    await region.set('alice', 'old', { tags })
    const deleting = gate()
    const read = gate()
    const answer = gate()
    slow.beforeDelete = () => deleting.opened
    slow.afterRead = async () => { read.open(); await answer.opened }
    const invalidated = invalidate(region)
    const found = region.get('alice')
    await read.opened
    deleting.open()
    await invalidated
    answer.open()
    t.ok([undefined, 'old'].includes(await found as string | undefined), `${invalidation}: who began before it ended may still see it`)
    await manager.idle()
    t.equal(await region.get('alice'), undefined, invalidation)
  }
})

for (const [invalidation, invalidate] of Object.entries(invalidations)) {
  t.test(`what is copied from a far tier to a nearer one is not what ${invalidation} has forgotten`, async t => {
    const far = clientOf(t, (await startRedis(t)).port)
    const namespace = randomUUID()
    const tiers = (farther: Redis): RegionOptions['tiers'] => [redis(client), redis(farther)]
    const other = await processOf(t, { tiers: tiers(far) }, { namespace })

    for (const invalidator of ['this process', 'another process']) {
      const proxy = await recordingProxy(t, far.options.port!)
      const { region, manager } = await processOf(t, { tiers: tiers(clientOf(t, proxy.port)) }, { namespace })
      await region.set('alice', 'old', { tags })
      await client.unlink(`${namespace}:people:k:alice`)
      proxy.pause('replies')
      proxy.reset()
      const found = region.get('alice')
      await eventually(t, () => proxy.commands.includes('mget'), 'the far tier is asked')
      if (invalidator === 'this process') {
        const invalidated = invalidate(region)
        // The answer to the read comes first: the connection keeps its order.
        proxy.resume()
        await invalidated
      } else {
        await eventually(t, async () => await far.ping() === 'PONG', 'the far tier has answered')
        await invalidate(other.region)
        proxy.resume()
      }
      await found
      await manager.idle()
      t.equal(await region.get('alice'), undefined, invalidator)
      t.equal(await other.region.get('alice'), undefined, invalidator)
      await manager.close()
    }
  })
}

t.test('what one answer of a far tier brings is copied to a nearer one together', async t => {
  const far = new MapBackend('far')
  const near = new MapBackend('near')
  const { region, manager } = await processOf(t, { tiers: [near, far] })
  const keys = Array.from({ length: 100 }, (_, i) => `k${i}`)
  await region.setMany(keys.map(key => [key, key] as const))
  near.kept.clear()
  near.reads.length = far.reads.length = 0
  t.strictSame(await region.getMany(keys), keys)
  await manager.idle()
  t.equal(near.reads.length, 2, 'asked for, and claimed')
  t.equal(far.reads.length, 2, 'asked for, and once more for the copy')
  far.kept.clear()
  t.strictSame(await region.getMany(keys), keys, 'the nearer one has them all')
})

t.test('what a far tier is about to forget, or has just forgotten, does not stay in a nearer one', async t => {
  const prepared = async () => {
    const far = new MapBackend('far')
    const namespace = randomUUID()
    const { region, manager } = await processOf(t, { tiers: [redis(client), far] }, { namespace })
    const other = await processOf(t, { tiers: [redis(client), far] }, { namespace })
    await region.set('alice', 'old')
    await client.unlink(`${namespace}:people:k:alice`)
    return { far, region, manager, other }
  }
  const between = await prepared()
  let reads = 0
  // The second look at the far tier is the one that is copied; its answer is late.
  between.far.afterRead = async () => { if (++reads === 2) await between.other.region.delete('alice') }
  await between.region.get('alice')
  await between.manager.idle()
  t.ok(reads >= 2)
  t.equal(await between.region.get('alice'), undefined, 'just forgotten')

  const before = await prepared()
  const asked = gate()
  const held = gate()
  before.far.beforeDelete = async () => { asked.open(); await held.opened }
  const deleted = before.other.region.delete('alice')
  await asked.opened
  await client.ping()
  t.equal(await before.region.get('alice'), 'old', 'it began before')
  await before.manager.idle()
  held.open()
  await deleted
  t.equal(await before.region.get('alice'), undefined, 'about to forget')
})

t.test('what is refreshed or set is not lost to a copy of what a far tier held until then', async t => {
  const namespace = randomUUID()
  const other = clientOf(t, server.port)
  const process = () => processOf(t, { tiers: [redis(client, { keyPrefix: 'near:' }), redis(other, { keyPrefix: 'far:' })] }, { namespace })
  const [a, b, c] = [await process(), await process(), await process()]
  const { load, begun, end } = heldLoad('new')
  const [mine, theirs, others] = [a, b, c].map(({ region }) => region.wrap('value', load))
  await mine!.set('old')
  const near = await client.keys(`near:${namespace}:people:f:*`)
  t.equal(near.length, 1)
  await client.unlink(...near)
  const refreshed = mine!.refresh()
  await begun
  t.equal(await theirs!.get(), 'old')
  await b.manager.idle()
  end()
  t.equal(await refreshed, 'new')
  t.equal(await others!.get(), 'new')
})

t.test('a value that a far tier has is copied into the nearer ones', async t => {
  const far = new MapBackend('far')
  const namespace = randomUUID()
  const { region, manager } = await processOf(t, { tiers: [memory(), redis(client), far] }, { namespace })
  await region.setMany([['alice', 1], ['bob', 2]])
  await client.unlink(`${namespace}:people:k:alice`, `${namespace}:people:k:bob`)
  const second = await processOf(t, { tiers: [memory(), redis(client), far] }, { namespace })
  t.strictSame(await second.region.getMany(['alice', 'bob']), [1, 2])
  await second.manager.idle()
  far.reads.length = 0
  t.strictSame(await second.region.getMany(['alice', 'bob']), [1, 2], 'from memory')
  const third = await processOf(t, { tiers: [redis(client)] }, { namespace })
  t.strictSame(await third.region.getMany(['alice', 'bob']), [1, 2], 'from Redis')
  t.strictSame(far.reads, [])
  await manager.idle()

  // A memory may be the far one, for what a nearer tier can't keep.
  let refused: unknown = 'never'
  const odd = await processOf(t, { tiers: [redis(client), memory()], serializer: { encode: value => { if (value === refused) throw new TypeError('never'); return Buffer.from(JSON.stringify(value)) }, decode: bytes => JSON.parse(Buffer.from(bytes).toString()) } })
  await odd.region.set('alice', 'a')
  await client.unlink(`${odd.region.keyspace.prefix}k:alice`)
  t.equal(await odd.region.get('alice'), 'a')
  await odd.manager.idle()
  t.equal(await client.exists(`${odd.region.keyspace.prefix}k:alice`), 1)
  await t.rejects(odd.region.set('bob', 'never'), { message: 'never' })
  t.equal(await odd.region.get('bob'), undefined, 'what a tier refuses is in none')
  refused = 'a'
  await client.unlink(`${odd.region.keyspace.prefix}k:alice`)
  t.equal(await odd.region.get('alice'), 'a')
  await odd.manager.idle()
  t.equal(await client.exists(`${odd.region.keyspace.prefix}k:alice`), 0, 'nothing')
  t.equal(await odd.region.get('alice'), 'a')
})

// ─── isolation ───────────────────────────────────────────────────────────────────────────────────

const everything = () => ({
  date: new Date(1),
  map: new Map<unknown, unknown>([['a', { b: [1] }], [1n, new Set(['x'])]]),
  set: new Set([1, '1', { deep: true }]),
  big: 2n ** 70n,
  buffer: Buffer.from('bytes'),
  floats: new Float64Array([1.5, -0, NaN]),
  nan: NaN,
  minusZero: -0,
  infinite: -Infinity,
  none: undefined,
  nested: { nothing: null, none: undefined, list: [null, undefined, { date: new Date(2) }] },
  text: 'ünïcödé \0 \ud800',
  pattern: /a+/gi
})

const equal = (t: Test, actual: unknown, expected: unknown, message: string) => t.doesNotThrow(() => assert.deepStrictEqual(actual, expected), message)

t.test('a value is the same from a loader, from memory and from Redis', async t => {
  const values: unknown[] = [everything(), everything().date, everything().map, everything().set, 1n, everything().buffer, NaN, -0, null, '', false, [undefined, null, -0]]
  for (const [i, value] of values.entries()) {
    const namespace = randomUUID()
    const { region, manager } = await processOf(t, { tiers: [memory(), redis(client)] }, { namespace })
    equal(t, await region.getOrCreate('key', () => value), value, `${i} from the loader`)
    await manager.idle()
    equal(t, await region.get('key'), value, `${i} from memory`)
    const other = await processOf(t, { tiers: [memory(), redis(client)] }, { namespace })
    equal(t, await other.region.get('key'), value, `${i} from Redis`)
    equal(t, await other.region.get('key'), value, `${i} from a memory that was filled by Redis`)
  }
})

/** Tries all that can be done to a value. What is frozen throws, which is as good. */
function spoil (value: unknown): void {
  if (typeof value !== 'object' || value === null) return
  const attempt = (change: () => unknown) => { try { change() } catch {} }
  if (value instanceof Date) value.setTime(12345)
  else if (value instanceof Map) { for (const inner of value.values()) spoil(inner); value.clear() } else if (value instanceof Set) { for (const inner of value) spoil(inner); value.clear() } else if (ArrayBuffer.isView(value)) new Uint8Array(value.buffer, value.byteOffset, value.byteLength).fill(7)
  else {
    for (const inner of Object.values(value)) spoil(inner)
    for (const name of Object.keys(value)) attempt(() => { delete (value as Record<string, unknown>)[name] })
    attempt(() => { (value as Record<string, unknown>)['added'] = true })
  }
}

t.test('whatever one reader does to its value, no other sees it; and nothing is done to what the loader gave', async t => {
  const namespace = randomUUID()
  const { region, manager } = await processOf(t, { tiers: [memory(), redis(client)] }, { namespace })
  const other = await processOf(t, { tiers: [memory(), redis(client)] }, { namespace })
  const given = everything()
  const { load, end } = heldLoad(given)
  const reads = Array.from({ length: 3 }, async () => await region.getOrCreate('key', load))
  end()
  const [first, second, third] = await Promise.all(reads)
  spoil(first)
  equal(t, second, everything(), 'one who waited for the same load')
  spoil(second)
  equal(t, third, everything(), 'another one')
  equal(t, given, everything(), "the loader's own")
  t.notOk(Object.isFrozen(given.nested))
  spoil(given)
  await manager.idle()
  for (const place of ['from Redis', 'from memory', 'from memory again']) {
    for (const reader of [region, other.region]) {
      const read = await reader.get('key')
      equal(t, read, everything(), place)
      spoil(read)
    }
  }

  const set = everything()
  await region.set('set', set)
  spoil(set)
  equal(t, await region.get('set'), everything(), 'what was set')
})

t.test('a stale value that many are served is each one\'s own, too', async t => {
  const { region, clock } = await processOf(t, { tiers: [redis(client)], grace: '1h', refresh: 'inline' })
  await region.set('key', everything())
  clock.advance(10_000)
  const { load, begun, end } = heldLoad(everything())
  const first = region.getOrCreate('key', load)
  await begun
  spoil(await region.getOrCreate('key', load))
  equal(t, await region.getOrCreate('key', load), everything(), 'stale')
  end()
  equal(t, await first, everything(), 'new')
})

t.test('a value that cannot be copied reaches all who wait for it, is not kept, and is warned of once', async t => {
  const { region, manager, logger } = await processOf(t, { tiers: [memory(), redis(client)] }, { lock: redlock([client]) })
  const value = { greet: () => 'hello' }
  const { load, begun, end } = heldLoad(value)
  const reads = [region.getOrCreate('alice', load), region.getOrCreate('alice', load)]
  await begun
  reads.push(region.getOrCreate('alice', load))
  end()
  for (const read of reads) t.equal((await read).greet(), 'hello')
  t.equal(load.calls, 1)
  t.equal(await region.getOrCreate('bob', () => Symbol.iterator as unknown), Symbol.iterator)
  await manager.idle()
  t.strictSame(await region.getMany(['alice', 'bob']), [undefined, undefined])
  t.match(logger.lines.warn, [{ message: /a value can not be cached/, details: { region: 'people', err: { message: /function/ } } }])
})

t.test('a value that the serializer refuses reaches all who wait for it, is not kept, and is warned of once', async t => {
  for (const lock of [undefined, redlock([client]), redlock([clientOf(t, server.port)])]) {
    const json = { encode: (value: unknown) => Buffer.from(JSON.stringify(value)), decode: (bytes: Uint8Array) => JSON.parse(Buffer.from(bytes).toString()) }
    const { region, manager, logger } = await processOf(t, { tiers: [memory(), redis(client)], serializer: json }, lock && { lock })
    t.strictSame(await region.getOrCreateMany(['alice', 'bob', 'carol'], (): unknown[] => [1n, 'b', 2n]), [1n, 'b', 2n])
    await manager.idle()
    t.strictSame(await region.getMany(['alice', 'bob', 'carol']), [undefined, 'b', undefined], 'not even in memory')
    t.equal(logger.lines.warn.length, 1)
  }
})

// ─── loaders ─────────────────────────────────────────────────────────────────────────────────────

t.test('a loader may read other keys, and look at its own', async t => {
  for (const tiers of [[memory()], [redis(client)]] as const) {
    const { region } = await processOf(t, { tiers })
    const value = await region.getOrCreate('a', async () => [
      await region.getOrCreate('b', async () => await region.getOrCreate('c', () => 'c')),
      await region.getOrCreate('c', () => 'not called'),
      await region.get('a')
    ])
    t.strictSame(value, ['c', 'c', undefined])
  }
})

t.test('a loader that waits for its own key gets an error instead of waiting for ever', async t => {
  const { region, manager } = await processOf(t, { tiers: [memory(), redis(client)] })
  const reentrant = (key: string) => ({ code: 'FST_CACHING_API_REENTRANT_LOAD', message: `The loader of '${region.keyspace.prefix}k:${key}' waits for its own value` })

  await t.rejects(region.getOrCreate('a', async () => await region.getOrCreate('a', () => 1)), reentrant('a'), 'directly')
  await t.rejects(region.getOrCreate('a', async () => await region.getOrCreate('b', async () => await region.getOrCreate('a', () => 1))), reentrant('a'), 'through another key')
  await t.rejects(region.getOrCreateMany(['a', 'b'], async () => [await region.getOrCreate('b', () => 1), 2]), reentrant('b'), 'through its batch')

  const rows = countingLoader([{ id: 1 }, { id: 2 }], async ids => {
    if (ids.includes(1)) await manager.createApi().get(Node, 'byName', ['one'])
  })
  const Node = cachedObject({
    name: 'Node',
    region: 'people',
    methods: {
      byId: loadMany({ load: rows.load, idOf: rows.idOf }),
      byName: loadOne(async (_context, _name: string): Promise<unknown> => await manager.createApi().get(Node, 'byId', [2]))
    }
  }) as ReturnType<typeof cachedObject>
  await t.rejects(manager.createApi().getMany(Node, 'byId', [1, 2]), { code: 'FST_CACHING_API_REENTRANT_LOAD' }, 'of a cached object, through a batch')

  t.equal(await region.getOrCreate('a', async () => await region.getOrCreate('a', () => 1).catch(() => 'caught')), 'caught')
  t.equal(await region.get('a'), 'caught')
})

t.test('two loaders that wait for each other get an error, whoever began first and whatever age they ask for', async t => {
  for (const maxAge of [undefined, 1000]) {
    const { region } = await processOf(t, { tiers: [memory(), redis(client)] })
    const read = gate()
    const loadingA = gate()
    const a = region.getOrCreate('a', async () => {
      loadingA.open()
      await read.opened
      return await region.getOrCreate('b', () => 'not called', maxAge === undefined ? {} : { maxAge })
    })
    await loadingA.opened
    const b = region.getOrCreate('b', async () => await region.getOrCreate('a', () => 'not called'))
    read.open()
    const settled = await Promise.allSettled([a, b])
    t.match(settled, Array(2).fill({ status: 'rejected', reason: { code: 'FST_CACHING_API_REENTRANT_LOAD' } }))
  }
})

t.test("loaders run outside of their caller's async context", async t => {
  const storage = new AsyncLocalStorage<string>()
  for (const tiers of [[memory()], [memory(), redis(client)]] as const) {
    const { region, clock, manager } = await processOf(t, { tiers, grace: '1h' })
    const seen: unknown[] = []
    const load = async () => { seen.push(storage.getStore()); await Promise.resolve(); return seen.push(storage.getStore()) }
    await storage.run('a request', async () => {
      await region.getOrCreate('alice', load)
      await manager.idle()
      clock.advance(10_000)
      await region.getOrCreate('alice', load)
      t.equal(storage.getStore(), 'a request', 'the caller keeps its own')
    })
    await manager.idle()
    t.strictSame(seen, [undefined, undefined, undefined, undefined])
  }
})

// ─── election ────────────────────────────────────────────────────────────────────────────────────

t.test('who finds the lock held waits for the value of the process that holds it', async t => {
  const namespace = randomUUID()
  const lock = redlock([client])
  const options = { tiers: [memory(), redis(client)] } as const
  const a = await processOf(t, { ...options, tiers: [memory(), redis(client)] }, { namespace, lock })
  const b = await processOf(t, { ...options, tiers: [memory(), redis(client)] }, { namespace, lock: redlock([client]) })
  const { load, begun, end } = heldLoad('value')
  const first = a.region.getOrCreate('alice', load)
  await begun
  const others = b.region.getOrCreateMany(['alice', 'bob'], missing => missing.map(key => `${key} of b`))
  const bob = b.region.getOrCreate('bob', () => 'not called')
  t.equal(await bob, 'bob of b', 'nobody works on this one: it does not wait')
  end()
  t.equal(await first, 'value')
  t.strictSame(await others, ['value', 'bob of b'])
  t.equal(load.calls, 1)
})

t.test('who waits for another process gets the error of its loader', async t => {
  const namespace = randomUUID()
  const a = await processOf(t, { tiers: [memory(), redis(client)] }, { namespace, lock: redlock([client]) })
  const b = await processOf(t, { tiers: [memory(), redis(client)] }, { namespace, lock: redlock([client]) })
  const { load, begun, end } = heldLoad(undefined)
  const first = a.region.getOrCreate('alice', async () => { await load(); throw Object.assign(new RangeError('no database'), { code: 'E_DB' }) })
  await begun
  const second = b.region.getOrCreate('alice', () => t.fail('repeated'))
  await eventually(t, async () => (await client.pubsub('NUMSUB', `{line@0:}${b.region.keyspace.wakeUps}`))[1] === 1, 'it waits')
  end()
  const settled = await Promise.allSettled([first, second])
  t.match(settled, Array(2).fill({ status: 'rejected', reason: { name: 'RangeError', message: 'no database', code: 'E_DB' } }))
})

t.test('who is elected looks again: what another process has filled meanwhile is not loaded', async t => {
  const namespace = randomUUID()
  const other = await processOf(t, { tiers: [redis(client)] }, { namespace })
  const inner = redlock([client])
  const lock = lockThat(async (names, ttl) => {
    await other.region.set('alice', 'of the other')
    return await inner.acquire(names, ttl)
  })
  const { region } = await processOf(t, { tiers: [memory(), redis(client)] }, { namespace, lock })
  t.equal(await region.getOrCreate('alice', () => t.fail('loaded')), 'of the other')
  t.equal(lock.calls.length, 1)
})

t.test('a lock that fails, hangs, or is held for ever fails no read', async t => {
  for (const [name, acquire] of Object.entries<DogpileLock['acquire']>({
    'it rejects': async () => { throw new Error('no quorum') },
    'it throws': () => { throw new Error('broken') },
    'it hangs': async () => await new Promise(() => {}),
    'it is held by somebody who is never heard of': async () => undefined
  })) {
    const lock = lockThat(acquire)
    const { region, manager } = await processOf(t, { tiers: [memory(), redis(client)], tierTimeout: 500, lockTtl: 50, lockWait: 20 }, { lock })
    t.equal(await region.getOrCreate('alice', () => 'value'), 'value', name)
    t.ok(lock.calls.length > 0)
    await manager.idle()
    t.equal(await region.get('alice'), 'value', name)
  }
})

t.test('a stale value waits for nobody: it is served while another process reloads it', async t => {
  for (const refresh of ['background', 'inline'] as const) {
    for (const tiers of [[redis(client)], [memory(), redis(client)]] as const) {
      const lock = lockThat(async () => undefined)
      const { region, manager, clock } = await processOf(t, { tiers, grace: '1h', refresh }, { lock })
      await region.set('alice', 'old')
      clock.advance(10_000)
      for (let i = 0; i < 3; i++) {
        t.equal(await region.getOrCreate('alice', () => t.fail('loaded')), 'old')
        await manager.idle()
      }
      t.equal(lock.calls.length, 1, `${refresh}: and the lock is not asked again at once`)
      clock.advance(100)
      t.equal(await region.getOrCreate('alice', () => t.fail('loaded')), 'old')
      await manager.idle()
      t.equal(lock.calls.length, 2)
    }
  }
})

t.test('a lock is released when its load has ended, however it ended', async t => {
  const held = new Set<string>()
  const lock = lockThat(async names => {
    for (const name of names) held.add(name)
    return { token: 'token', extend: async () => true, release: async () => { for (const name of names) held.delete(name) } }
  })
  const { region, manager } = await processOf(t, { tiers: [redis(client)] }, { lock })
  const endings: Record<string, () => Promise<unknown>> = {
    'with a value': async () => await region.getOrCreate('a', () => 1),
    'with an error': async () => await region.getOrCreate('b', () => { throw new Error('expected') }),
    'with nothing to be kept': async () => await region.getOrCreate('c', () => undefined),
    'with a shouldCache that throws': async () => await region.getOrCreate('d', () => 1, { shouldCache: () => { throw new Error('expected') } }),
    'with tags that throw': async () => await region.getOrCreate('e', () => 1, { tags: () => { throw new Error('expected') } })
  }
  for (const [name, ending] of Object.entries(endings)) {
    await ending().catch(error => t.equal(error.message, 'expected'))
    await manager.idle()
    t.equal(held.size, 0, name)
  }
  t.equal(lock.calls.length, 5)
})

t.test('where the value of another process was invalidated before anybody saw it, it is loaded anew', async t => {
  const namespace = randomUUID()
  const a = await processOf(t, { tiers: [redis(client)] }, { namespace, lock: redlock([client]) })
  const b = await processOf(t, { tiers: [redis(client)] }, { namespace, lock: redlock([client]) })
  const { load, begun, end } = heldLoad('old')
  const first = a.region.getOrCreate('alice', load)
  await begun
  await b.region.delete('alice')
  const second = b.region.getOrCreate('alice', () => 'new')
  end()
  t.equal(await first, 'old')
  t.equal(await second, 'new')
})

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

t.test('nobody waits for ever for something that is broken', async t => {
  let broken = false
  const now = () => { if (broken) throw new Error('no clock'); return 0 }
  const { region, manager } = await processOf(t, { tiers: [redis(client)] }, { now })
  await region.set('alice', 1)
  broken = true
  await t.rejects(region.get('alice'), { message: 'no clock' })
  await t.rejects(region.getOrCreate('bob', () => 1), { message: 'no clock' })
  broken = false
  await manager.idle()
  t.equal(await region.getOrCreate('bob', () => 2), 2)
})

// ─── invalidations of other processes ────────────────────────────────────────────────────────────

t.test('a memory that throws where a found value lands ends neither the process nor what is loading besides', async t => {
  const broken = Object.assign(memory() as LocalBackend, { setEntry: () => { throw new Error('no room') } })
  const far = new MapBackend()
  const namespace = randomUUID()
  const other = await processOf(t, { tiers: [far] }, { namespace })
  await other.region.set('found', 1)
  const { region, manager } = await processOf(t, { tiers: [broken, far] }, { namespace })
  const { load, begun, end } = heldLoad(2)
  const reads = Promise.allSettled([region.get('found'), region.getOrCreate('missing', load)])
  await begun
  let idle = false
  const settled = manager.idle().then(() => { idle = true })
  for (let i = 0; i < 5; i++) await new Promise(setImmediate)
  t.notOk(idle, 'it is waited for')
  end()
  await settled
  t.strictSame((await reads).map(({ status }) => status), ['rejected', 'rejected'])
})

t.test('a line that can not be heard costs a warning, one that takes no news nothing', async t => {
  const line: Line = {
    publish: async () => { throw new Error('no line') },
    listen: async () => { throw new Error('no line') },
    reconnect: () => {},
    catchUp: async () => { throw new Error('no line') },
    close: async () => {}
  }
  const { region, logger } = await processOf(t, { tiers: [memory(), redis(client)] }, { bus: line })
  t.match(logger.lines.warn, [{ message: /invalidations of other processes can not be heard/ }])
  await region.set('alice', 1)
  await t.rejects(region.delete('alice'), { code: 'FST_CACHING_API_INVALIDATION_PENDING', message: /^The line to other processes could not be told to forget a key/ })
  t.equal(await region.get('alice'), undefined)
})

t.test('when the line was interrupted, memory starts empty', async t => {
  const { line, interrupt } = echoingLine()
  const backend = new MapBackend()
  const { region } = await processOf(t, { tiers: [memory(), backend] }, { bus: line })
  await region.set('alice', 'old')
  const { load, begun, end } = heldLoad('old')
  const first = region.getOrCreate('bob', load)
  await begun
  backend.kept.clear()
  interrupt()
  t.equal(await region.get('alice'), undefined)
  t.equal(await region.getOrCreate('bob', () => 'new'), 'new', 'and nobody joins what began before')
  end()
  t.equal(await first, 'old')
})

t.test('a memory behind another tier is not believed either while the line is lost', async t => {
  const { line, interrupt } = echoingLine()
  let lost = false
  const bus: Line = { ...line, catchUp: async () => { if (lost) throw new Error('no line') } }
  const backend = new MapBackend()
  const { region, manager } = await processOf(t, { tiers: [backend, memory()] }, { bus })
  await region.getOrCreate('alice', () => 1)
  await manager.idle()
  backend.kept.clear()
  t.equal(await region.get('alice'), 1, 'memory has it')
  lost = true
  interrupt()
  await region.getOrCreate('bob', () => 2)
  await manager.idle()
  backend.kept.clear()
  t.equal(await region.get('bob'), undefined)
})

t.test('what is wanted before a process hears of the others is one load, however it began', async t => {
  for (const coherence of ['acknowledged', 'eventual'] as const) {
    for (const tiers of [[redis(client)], [memory(), redis(client)]] as const) {
      for (let isSoon = false; !isSoon;) {
        const manager = new CachingManager({ namespace: randomUUID(), regions: { people: { tiers, ttl: '10s', tierTimeout: '20s', coherence } } })
        t.teardown(() => manager.close())
        const began = performance.now()
        const ready = manager.ready().then(() => performance.now() - began)
        const { load, begun, end } = heldLoad('value')
        const first = manager.region('people').getOrCreate('alice', load)
        await begun
        const second = manager.region('people').getOrCreate('alice', load)
        end()
        t.strictSame(await Promise.all([first, second]), ['value', 'value'])
        isSoon = await ready < 100 // later, flights depart without it, and are joined by nobody
        if (isSoon) t.equal(load.calls, 1)
      }
    }
  }
})

t.test('a line that can not be heard holds up the first reads for tierTimeout, and no others', async t => {
  const deaf = { publish: async () => {}, listen: async () => await new Promise<never>(() => {}), reconnect: () => {}, catchUp: async () => {}, close: async () => {} }
  const manager = new CachingManager({ bus: deaf, regions: { people: { tiers: [new MapBackend()], ttl: '10s', tierTimeout: 50 } } })
  t.teardown(() => manager.close())
  t.equal(await manager.region('people').getOrCreate('alice', () => 1), 1)
  t.equal(await manager.region('people').getOrCreate('bob', () => 2), 2)
})

t.test('who only looks is given what was loaded, though it is still on its way into a tier', async t => {
  const backend = new MapBackend()
  const { region, manager, clock } = await processOf(t, { tiers: [backend] })
  await region.set('bob', 'there is a stamp')
  const held = gate()
  t.capture(backend, 'setMany', async () => { await held.opened })
  const { load, begun, end } = heldLoad('value')
  const [creating, looking] = [region.getOrCreate('alice', load), region.get('alice')]
  await begun
  t.equal(await looking, undefined, 'not before it is there')
  end()
  await creating
  t.strictSame([await region.get('alice'), await region.getMany(['alice', 'nobody']), await region.get('alice', { maxAge: 1000 })], ['value', ['value', undefined], undefined])
  clock.advance(10_000)
  t.equal(await region.get('alice'), undefined, 'nor when its time is over')
  held.open()
  await manager.idle()
})

// ─── tiers of one's own, and tiers that fail ─────────────────────────────────────────────────────

t.test('an empty tier of three methods is asked once; those who find it empty at a time agree on its stamp', async t => {
  const backend = new MapBackend()
  const { region, manager } = await processOf(t, { tiers: [backend] })
  t.equal(await region.get('nobody'), undefined)
  t.equal(backend.kept.size, 0, 'who only looks leaves nothing there')
  const both = gate()
  backend.afterRead = async () => {
    if (backend.reads.length === 3) both.open()
    await both.opened
  }
  const first = region.getOrCreate('alice', () => 1)
  await eventually(t, () => backend.reads.length === 2, 'it is asked')
  t.strictSame([await region.getOrCreate('bob', () => 2), await first], [2, 1])
  await manager.idle()
  t.strictSame(backend.reads.map(keys => keys.length), [1, 1, 1])
  t.strictSame(await region.getMany(['alice', 'bob']), [1, 2])
})

t.test("a tier of three methods of one's own is all that a region needs", async t => {
  const kept = new Map<string, Uint8Array>()
  const own: Backend = {
    name: 'own',
    getMany: async keys => keys.map(key => kept.get(key)),
    setMany: async entries => { for (const { key, value } of entries) kept.set(key, value) },
    deleteMany: async keys => { for (const key of keys) kept.delete(key) }
  }
  const namespace = randomUUID()
  const { region, manager, logger, clock } = await processOf(t, { tiers: [own], grace: '10s' }, { namespace })
  t.match(logger.lines.info, [{ message: 'region people: own has no compare-and-set: a value that is invalidated while it is loaded may be written back there, and invalidating a tag makes every value with tags be loaded anew' }])
  const other = await processOf(t, { tiers: [memory(), own], grace: '10s' }, { namespace, now: clock.now })

  t.equal(await region.getOrCreate('alice', () => 'created'), 'created')
  await region.setMany([['bob', 1], ['carol', 2]], { tags: ['team'] })
  await manager.idle()
  t.strictSame(await other.region.getMany(['alice', 'bob', 'dan', 'carol']), ['created', 1, undefined, 2])
  await region.delete('alice')
  t.equal(await region.get('alice'), undefined)
  await region.invalidateTags('team')
  t.strictSame(await region.getMany(['bob', 'carol']), [undefined, undefined])
  await region.set('bob', 3)
  t.equal(await region.get('bob'), 3)
  await region.invalidate({ soft: true })
  t.equal(await region.getOrCreate('bob', () => 4), 3)
  await manager.idle()
  t.equal(await region.get('bob'), 4)
  await region.invalidate()
  t.equal(await region.get('bob', { maxAge: Infinity }), undefined)
})

t.test('a tier that throws, answers wrongly or hangs counts as missing', async t => {
  const refuse = async (): Promise<never> => { throw new Error('out of order') }
  const hang = async () => await new Promise<never>(() => {})
  const broken: Record<string, Backend> = {
    throws: { name: 'own', getMany: refuse, setMany: refuse, deleteMany: refuse },
    hangs: { name: 'own', getMany: hang, setMany: hang, deleteMany: hang },
    'answers too little': { name: 'own', getMany: async () => [], setMany: async () => {}, deleteMany: async () => {} },
    'answers nonsense': { name: 'own', getMany: async keys => keys.map(() => Buffer.from('nonsense')), setMany: async () => {}, deleteMany: async () => {} }
  }
  for (const [name, backend] of Object.entries(broken)) {
    const far = new MapBackend('far')
    const { region, manager } = await processOf(t, { tiers: [memory(), backend, far], tierTimeout: 50 })
    t.equal(await region.getOrCreate('alice', () => 'value'), 'value', name)
    t.equal(await region.get('alice'), 'value', `${name}: memory has it`)
    await manager.idle()
    t.ok(far.kept.has(`${region.keyspace.prefix}k:alice`), `${name}: and the far tier`)
    await region.set('alice', 'set')
    t.equal(await region.get('alice'), 'set')
    t.strictSame(await region.getMany(['bob']), [undefined])
  }
})

t.test('a deletion that a tier could not take is done here, rejects, and reaches the tier when it is back', async t => {
  const redisServer = await startRedis(t)
  const proxy = await recordingProxy(t, redisServer.port)
  const direct = clientOf(t, redisServer.port)
  const through = clientOf(t, proxy.port)
  for (const [invalidation, invalidate] of Object.entries(invalidations)) {
    const { region, logger } = await processOf(t, { tiers: [memory(), redis(through)] })
    await region.set('alice', 'old', { tags })
    const other = await processOf(t, { tiers: [redis(direct)] }, { namespace: region.keyspace.prefix.split(':')[0]! })
    t.equal(await other.region.get('alice'), 'old')

    await proxy.cut()
    await t.rejects(invalidate(region), { code: 'FST_CACHING_API_INVALIDATION_PENDING', statusCode: 503, message: /^Tier redis could not be told to forget / }, invalidation)
    t.equal(await region.get('alice'), undefined, 'done here')
    await proxy.restore()
    await eventually(t, async () => {
      assert.equal(await region.get('alice'), undefined, 'never believed meanwhile')
      return await other.region.get('alice') === undefined
    }, `${invalidation} reaches the tier`)
    await eventually(t, () => logger.lines.info.some(({ message }) => message === 'invalidations were replayed'), 'and the log tells')
    t.equal(await region.getOrCreate('alice', () => 'new'), 'new')
    await region.set('alice', 'newer')
    t.equal(await other.region.get('alice'), 'newer', 'from now on it is believed again')
  }
})

t.test('what a refresh could not replace in a tier is not found there when the tier is back', async t => {
  const proxy = await recordingProxy(t, (await startRedis(t)).port)
  const { region } = await processOf(t, { tiers: [redis(clientOf(t, proxy.port))], tierTimeout: '1s' })
  const { load, begun, end } = heldLoad('new')
  let fn: () => string | Promise<string> = () => 'old'
  const wrapped = region.wrap('fn', () => fn())
  t.equal(await wrapped(), 'old')
  fn = load
  const refreshed = wrapped.refresh()
  await begun
  await proxy.cut()
  end()
  t.equal(await refreshed, 'new')
  await proxy.restore()
  fn = () => 'newer'
  await eventually(t, async () => {
    const value = await wrapped()
    assert.notEqual(value, 'old')
    return proxy.connections > 0
  }, 'the old one is gone')
  t.not(await wrapped(), 'old')
})

t.test('what another process has found in a tier that could not be told yet, it forgets when the tier has been told', async t => {
  const redisServer = await startRedis(t)
  const proxy = await recordingProxy(t, redisServer.port)
  const direct = clientOf(t, redisServer.port)
  const namespace = randomUUID()
  const a = await processOf(t, { tiers: [memory(), redis(clientOf(t, proxy.port))] }, { namespace, bus: redisBus(direct) })
  const b = await processOf(t, { tiers: [memory(), redis(direct)] }, { namespace, bus: redisBus(direct) })
  await b.region.set('alice', 'old')
  await proxy.cut()
  await t.rejects(a.region.delete('alice'), { code: 'FST_CACHING_API_INVALIDATION_PENDING' })
  t.equal(await b.region.get('alice'), 'old', 'it is there still, and in memory again')
  await proxy.restore()
  await eventually(t, async () => await b.region.get('alice') === undefined, 'the other process forgets it')
})

t.test('a Redis that is killed costs no read; what was invalidated is replayed when it is there again', async t => {
  const redisServer = await startRedis(t)
  const own = clientOf(t, redisServer.port)
  const { region, logger, manager } = await processOf(t, { tiers: [memory(), redis(own)] }, { lock: redlock([own]) })
  await region.set('alice', 1)
  await redisServer.kill()
  await eventually(t, () => own.status === 'reconnecting', 'the connection is lost')
  t.equal(await region.getOrCreate('bob', () => 2), 2)
  t.equal(await region.getOrCreate('carol', () => 3), 3)
  await t.rejects(region.deleteMany(['alice', 'bob']), { code: 'FST_CACHING_API_INVALIDATION_PENDING' })
  await t.rejects(region.invalidate(), { code: 'FST_CACHING_API_INVALIDATION_PENDING', message: /the region/ })
  t.strictSame(await region.getMany(['alice', 'bob']), [undefined, undefined])
  await redisServer.start()
  await eventually(t, () => logger.lines.info.some(({ message }) => message === 'invalidations were replayed'), 'replayed')
  await eventually(t, async () => {
    await region.set('dan', 4)
    await manager.idle()
    return await own.exists(`${region.keyspace.prefix}k:dan`) === 1
  }, 'it is used again')
})

// ─── close ───────────────────────────────────────────────────────────────────────────────────────

t.test('close lets loads and writes end, refuses what comes after it, and closes nothing that it was given', async t => {
  const own = new MapBackend()
  const { region, manager } = await processOf(t, { tiers: [memory(), redis(client), own] }, { lock: redlock([client]) })
  const wrapped = region.wrap('fn', () => 1)
  const { load, begun, end } = heldLoad('value')
  const read = region.getOrCreate('alice', load)
  await begun
  let closed = false
  const closing = manager.close().then(() => { closed = true })
  t.equal(manager.close(), manager.close())
  await new Promise(setImmediate)
  t.notOk(closed)
  end()
  t.equal(await read, 'value')
  await closing
  t.equal(await client.exists(`${region.keyspace.prefix}k:alice`), 1)
  t.ok(own.kept.has(`${region.keyspace.prefix}k:alice`))
  t.equal(own.closed, 1, "a backend's own close is called")
  t.equal(await client.ping(), 'PONG')

  const uses: Record<string, () => Promise<unknown>> = {
    get: async () => await region.get('alice'),
    getMany: async () => await region.getMany(['alice']),
    getOrCreate: async () => await region.getOrCreate('alice', () => 1),
    getOrCreateMany: async () => await region.getOrCreateMany(['alice'], () => [1]),
    set: async () => await region.set('alice', 1),
    setMany: async () => await region.setMany([['alice', 1]]),
    delete: async () => await region.delete('alice'),
    deleteMany: async () => await region.deleteMany(['alice']),
    invalidate: async () => await region.invalidate(),
    invalidateTags: async () => await region.invalidateTags('people'),
    wrapped: async () => await wrapped()
  }
  for (const [name, use] of Object.entries(uses)) await t.rejects(use(), { code: 'FST_CACHING_API_CLOSED', statusCode: 503, message: 'Region people was used after close()' }, name)
})

// ─── round trips ─────────────────────────────────────────────────────────────────────────────────

t.test('round trips to Redis: for a hundred keys as for one', async t => {
  const proxy = await recordingProxy(t, (await startRedis(t)).port)
  const through = clientOf(t, proxy.port)
  for (const name of ['without a lock', 'with a lock']) {
    const lock = name === 'with a lock' ? { lock: redlock([through]) } : {}
    const { region, manager } = await processOf(t, { tiers: [redis(through)], coherence: 'eventual' }, { ...lock, lineLease: '1m' })
    for (const count of [1, 100]) {
      const keys = Array.from({ length: count }, (_, i) => `${count} ${i}`)
      await eventually(t, () => through.status === 'ready', 'connected')
      const begun = gate()
      const held = gate()
      proxy.reset()
      const values = region.getOrCreateMany(keys, async missing => { begun.open(); await held.opened; return [...missing] })
      await begun.opened
      // The first one makes the stamp, too.
      t.equal(proxy.roundTrips, count === 1 || name === 'with a lock' ? 2 : 1, `${name}: ${count} cold, before the loader starts`)

      proxy.pause()
      proxy.reset()
      held.open()
      t.strictSame(await values, keys, 'between the loader and the caller: none')
      t.equal(proxy.roundTrips, 0)
      proxy.resume()
      await manager.idle()
      // The values, the news and the lock, all together.
      t.equal(proxy.roundTrips, 1, `${name}: ${count} written back`)

      proxy.reset()
      t.strictSame(await region.getMany(keys), keys)
      t.equal(proxy.roundTrips, 1, `${count} found`)
      proxy.reset()
      t.strictSame(await region.getOrCreateMany(keys, () => []), keys)
      t.equal(proxy.roundTrips, 1, `${count} found, or else created`)
      proxy.reset()
      await region.deleteMany(keys)
      t.equal(proxy.roundTrips, 1, `${count} deleted, and the other processes told of it`)
    }
  }
})

// ─── a Redis Cluster ─────────────────────────────────────────────────────────────────────────────

t.test('a Redis Cluster of three masters serves as a tier, a line and a lock', async t => {
  const { addresses } = await startRedisCluster(t)
  const connect = () => {
    const cluster = new Cluster([...addresses])
    t.teardown(() => cluster.disconnect())
    return cluster
  }
  const namespace = randomUUID()
  const join = async () => {
    const cluster = connect()
    return await processOf(t, { tiers: [memory(), redis(cluster)], grace: '1h' }, { namespace, lock: redlock([cluster]) })
  }
  const a = await join()
  const b = await join()
  const keys = Array.from({ length: 30 }, (_, i) => `key ${i}`)

  await a.region.setMany(keys.map((key, i) => [key, i] as const), { tags })
  t.strictSame(await b.region.getMany([...keys, 'none']), [...keys.map((_, i) => i), undefined])
  await a.region.deleteMany(keys.slice(0, 10))
  const found = keys.map((_, i) => i < 10 ? undefined : i)
  t.strictSame(await a.region.getMany(keys), found)
  await eventually(t, async () => (await b.region.get('key 9')) === undefined, 'the other process hears of it')

  const { load, begun, end } = heldLoad('value')
  const first = a.region.getOrCreate('alice', load, { tags })
  await begun
  const second = b.region.getOrCreate('alice', () => 'not called', { tags })
  end()
  t.strictSame([await first, await second], ['value', 'value'])
  await a.manager.idle()

  await b.region.invalidateTags('people')
  t.strictSame(await b.region.getMany([...keys, 'alice']), [...keys, 'alice'].map(() => undefined))
  const c = await processOf(t, { tiers: [redis(connect())], grace: '1h' }, { namespace })
  await eventually(t, async () => {
    // News of the deletion may come late, from node to node, and refuse what is loaded at that moment.
    await b.region.getOrCreateMany(keys, missing => [...missing], { tags })
    await b.manager.idle()
    assert.deepEqual(await c.region.getMany(keys), keys)
    return true
  }, 'what one process creates, others find')
  await a.region.invalidate({ soft: true })
  t.equal(await a.region.getOrCreate('key 1', () => 'new'), 'key 1')
  await a.manager.idle()
  t.equal(await a.region.get('key 1'), 'new')
  await a.region.invalidate()
  t.equal(await a.region.get('key 1'), undefined)

  const late = heldLoad('old')
  const overtaken = a.region.getOrCreate('bob', late.load)
  await late.begun
  await b.region.delete('bob')
  late.end()
  t.equal(await overtaken, 'old')
  await a.manager.idle()
  t.equal(await b.region.get('bob'), undefined)
})

t.test('of a batch that somebody else loads a part of, the rest is one load', async t => {
  const namespace = randomUUID()
  for (const locks of [() => redlock([client]), (): DogpileLock => { const { acquire } = redlock([client]); return { acquire: acquire.bind(redlock([client])) } }]) {
    const [mine, theirs] = [await processOf(t, { tiers: [redis(client)] }, { namespace, lock: locks() }), await processOf(t, { tiers: [redis(client)] }, { namespace, lock: locks() })]
    await mine.region.invalidate()
    const keys = (from: number, to: number) => Array.from({ length: to - from }, (_, i) => `k${from + i}`)
    const held = heldLoad(keys(0, 20))
    const first = mine.region.getOrCreateMany(keys(0, 20), held.load)
    await held.begun
    const calls: (readonly string[])[] = []
    const begun = gate()
    const second = theirs.region.getOrCreateMany(keys(15, 60), missing => { calls.push(missing); begun.open(); return missing })
    await begun.opened
    held.end()
    t.strictSame(await second, keys(15, 60))
    t.strictSame(await first, keys(0, 20))
    t.strictSame(calls, [keys(20, 60)])
    for (const { manager } of [mine, theirs]) await manager.close()
  }
})

t.test('a lock of days, and a timeout of weeks, are no reason not to keep a value', async t => {
  const { region, manager } = await processOf(t, { tiers: [memory(), redis(client)], lockTtl: '20d', loadTimeout: { hard: '20d' } })
  for (let times = 0; times < 2; times++) t.equal(await region.getOrCreate('k', async () => { await new Promise(setImmediate); return times }), 0)
  await manager.idle()
  t.equal(await region.get('k'), 0)
})

t.test('what no tier keeps is loaded by each process for itself, and not by one after another', async t => {
  const namespace = randomUUID()
  const full = () => Object.assign(redis(client), { fillMany: async () => { throw new Error('OOM') }, fillUnchanged: async () => { throw new Error('OOM') } })
  const [mine, ...others] = await Promise.all([0, 1, 2].map(async () => await processOf(t, { tiers: [full()] }, { namespace, lock: redlock([clientOf(t, server.port)]) })))
  const held = heldLoad('mine')
  const first = mine!.region.getOrCreate('k', held.load)
  await held.begun
  const loads = others.map(() => heldLoad('theirs'))
  const reads = others.map(({ region }, i) => region.getOrCreate('k', loads[i]!.load))
  await eventually(t, async () => (await client.pubsub('NUMSUB', `{line@0:}{${namespace}:people}:wake-ups`) as unknown[])[1] === 2, 'they wait')
  held.end()
  t.equal(await first, 'mine')
  await Promise.all(loads.map(load => load.begun)) // all of them, before any has ended
  for (const load of loads) load.end()
  t.strictSame(await Promise.all(reads), ['theirs', 'theirs'])
})

t.test('what could not be delivered before the end is a line in the log', async t => {
  const own = clientOf(t, server.port)
  const { region, manager, logger } = await processOf(t, { tiers: [memory(), redis(own)] })
  await region.set('k', 1)
  own.disconnect()
  await t.rejects(region.delete('k'), { code: 'FST_CACHING_API_INVALIDATION_PENDING' })
  await manager.close()
  const said = logger.lines.warn.map(line => line.message).filter(message => message.startsWith('closed before'))
  t.strictSame(said, [
    'closed before other processes could be told of invalidations: their memory may keep what is to be forgotten until its time is over',
    'closed before a tier was back that is still to forget something: others may find it there until its time is over'
  ])
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
