import assert from 'node:assert/strict'
import { AsyncLocalStorage } from 'node:async_hooks'
import { randomUUID } from 'node:crypto'
import { Cluster, Redis } from 'ioredis'
import t, { type Test } from 'tap'
import { cachedObject, loadMany, loadOne } from '../../lib/cached-object.js'
import { CachingManager, type CachingManagerOptions } from '../../lib/caching-manager.js'
import type { Line } from '../../lib/line.js'
import type { DogpileLock } from '../../lib/locks/lock.js'
import { redlock } from '../../lib/locks/redlock.js'
import type { Region } from '../../lib/region.js'
import type { RegionOptions } from '../../lib/region-options.js'
import type { Backend, BackendEntry } from '../../lib/tiers/backend.js'
import { memory } from '../../lib/tiers/memory.js'
import { redis } from '../../lib/tiers/redis.js'
import { countingLoader, eventually, fakeClock, gate, silentLogger } from '../helpers/doubles.js'
import { recordingProxy } from '../helpers/recording-proxy.js'
import { startRedis, startRedisCluster } from '../helpers/servers.js'

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

const tags = ['people']
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
