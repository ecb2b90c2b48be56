import { Cluster, Redis } from 'ioredis'
import { MemcacheClient } from 'memcache-client'
import { CachingManager, type CachingManagerOptions } from '../../lib/caching-manager.js'
import type { Region } from '../../lib/region.js'
import { memcached } from '../../lib/backends/memcached.js'
import { memory } from '../../lib/backends/memory.js'
import { redis, redisBus } from '../../lib/backends/redis.js'
import { gate, type Gate } from '../helpers/doubles.js'
import { serve } from '../helpers/processes.js'

export interface Setting {
  namespace: string
  /** Port of the Redis that is the database. */
  database: number
  /** Ports of what is behind the memories. */
  shared: { redis: number } | { cluster: number[] } | { memcached: number }
  /** Port of the Redis that carries the line, where that isn't the shared tier. */
  line?: number
  /** Milliseconds. */
  lease: number
  eventual?: boolean
}

export interface Read {
  value: number
  from: 'memory' | 'the shared tier' | 'the database'
}

/** What a process that reads all the time has seen. */
export interface Seen {
  /** By version: when the last read of it began. */
  last: Map<number, bigint>
  fromMemory: number
}

let manager: CachingManager | undefined
let region: Region
let database: Redis
let reading: { stop: boolean, seen: Promise<Seen> } | undefined
const closing: (() => unknown)[] = []
const loads = new Map<string, { held: Gate, value: Promise<number> }>()

let decoded = 0
let loaded = 0
const json = {
  encode: (value: unknown) => Buffer.from(JSON.stringify(value)),
  decode: (bytes: Uint8Array) => {
    decoded++
    return JSON.parse(Buffer.from(bytes).toString())
  }
}

function connect (port: number): Redis {
  const client = new Redis(port, { retryStrategy: () => 20 })
  client.on('error', () => {})
  closing.push(() => client.disconnect())
  return client
}

/** The tier and the line. */
function behindMemory ({ shared, line }: Setting) {
  const bus = line === undefined ? {} : { bus: redisBus(connect(line)) }
  if ('redis' in shared) return { tier: redis(connect(shared.redis)), ...bus }
  if ('memcached' in shared) {
    const client = new MemcacheClient({ server: `127.0.0.1:${shared.memcached}` })
    closing.push(() => client.shutdown())
    return { tier: memcached(client), ...bus }
  }
  const cluster = new Cluster(shared.cluster.map(port => ({ host: '127.0.0.1', port })))
  cluster.on('error', () => {})
  closing.push(() => cluster.disconnect())
  return { tier: redis(cluster), ...bus }
}

/** What there is in the database when the load begins. */
async function load (key: string): Promise<number> {
  loaded++
  return Number(await database.get(`database:${key}`))
}

async function timed (what: () => Promise<unknown>): Promise<number> {
  const began = performance.now()
  await what()
  return performance.now() - began
}

const writes: ((key: string, version: number) => Promise<void>)[] = [
  async key => await region.delete(key),
  async () => await region.invalidate(),
  async () => await region.invalidateTags('all'),
  async (key, version) => await region.set(key, version),
  async key => await region.deleteMany(['other', key])
]

const handlers = {
  /** Leaves what it was part of, and becomes a process of that namespace. */
  async join (setting: Setting): Promise<void> {
    await handlers.close()
    database = connect(setting.database)
    const { tier, ...bus } = behindMemory(setting)
    const options: CachingManagerOptions = {
      namespace: setting.namespace,
      ...bus,
      lineLease: setting.lease,
      regions: { people: { tiers: [memory(), tier], ttl: '10m', tierTimeout: '20s', serializer: json, ...(setting.eventual === true && { coherence: 'eventual' }) } }
    }
    manager = new CachingManager(options)
    region = manager.region('people')
    await manager.ready()
  },

  async close (): Promise<void> {
    await manager?.close()
    for (const close of closing.splice(0)) close()
  },

  async read (key: string): Promise<Read> {
    const before = { decoded, loaded }
    const value = await region.getOrCreate(key, async () => await load(key), { tags: ['all'] })
    return { value, from: loaded > before.loaded ? 'the database' : decoded > before.decoded ? 'the shared tier' : 'memory' }
  },

  /** What was loaded here, others find now. */
  async idle (): Promise<void> {
    await manager!.idle()
  },

  /** Reads all the time, until `seen`. */
  readOn (key: string): void {
    const state = reading = { stop: false, seen: Promise.resolve({ last: new Map(), fromMemory: 0 }) }
    state.seen = (async () => {
      const seen: Seen = { last: new Map(), fromMemory: 0 }
      while (!state.stop) {
        const began = process.hrtime.bigint()
        const { value, from } = await handlers.read(key)
        seen.last.set(value, began)
        if (from === 'memory') seen.fromMemory++
        await new Promise(setImmediate)
      }
      return seen
    })()
  },

  async seen (): Promise<Seen> {
    reading!.stop = true
    return await reading!.seen
  },

  /** Invalidates version after version, in all ways, with a pause before each; resolves to when each was over. All processes have one clock. */
  async write ({ key, versions, pauses }: { key: string, versions: number, pauses: number[] }): Promise<bigint[]> {
    const over = [0n]
    for (let version = 1; version <= versions; version++) {
      await new Promise(resolve => setTimeout(resolve, pauses[version - 1]))
      await database.set(`database:${key}`, version)
      await writes[version % writes.length]!(key, version)
      over.push(process.hrtime.bigint())
    }
    return over
  },

  /** Resolves when the load has begun; it ends after `letGo`. */
  async begin (key: string): Promise<void> {
    const begun = gate()
    const held = gate()
    const value = region.getOrCreate(key, async () => {
      const value = await load(key)
      begun.open()
      await held.opened
      return value
    }, { tags: ['all'] })
    value.catch(() => {})
    loads.set(key, { held, value })
    await begun.opened
  },

  async letGo (key: string): Promise<number> {
    const { held, value } = loads.get(key)!
    held.open()
    return await value
  },

  /** Resolves to how many milliseconds that took. */
  async delete (key: string): Promise<number> {
    return await timed(async () => await region.delete(key))
  },

  /** One by one, and at once. */
  async deleteEach (keys: string[]): Promise<void> {
    await Promise.all(keys.map(async key => await region.delete(key)))
  }
}
export type CoherenceHandlers = typeof handlers

serve(handlers)
