import { Redis } from 'ioredis'
import { MemcacheClient } from 'memcache-client'
import { CachingManager } from '../../lib/caching-manager.js'
import { redlock } from '../../lib/locks/redlock.js'
import type { Region } from '../../lib/region.js'
import { memcached } from '../../lib/backends/memcached.js'
import { memory } from '../../lib/backends/memory.js'
import { redis, redisBus } from '../../lib/backends/redis.js'
import { serve } from '../helpers/processes.js'

export interface Setting {
  namespace: string
  /** Of the Redis that is the tier, and the database, and keeps count. */
  port: number
  /** The tier is this memcached instead. */
  memcachedPort?: number
  /** Whether there is a memory before the tier. Default true. */
  memory?: boolean
  /** Whether the Redis carries news, where it isn't the tier. */
  bus?: boolean
  /** Without any there is no lock. */
  lockPorts: number[]
  lockTtl: number
  json?: boolean
}

export interface Reading {
  key: string
  /** Concurrent reads. */
  count: number
  /** Milliseconds that a load takes; without them it takes until something is in this process's list `go:<key>:<pid>`. */
  takes?: number
  /** What the load ends in, if not in what was in the database when it began. */
  end?: 'error' | 'uncacheable' | 'unserialisable'
}

let region: Region
let manager: CachingManager | undefined
let database: Redis
const clients: { disconnect: () => unknown }[] = []

const json = {
  encode: (value: unknown) => Buffer.from(JSON.stringify(value)),
  decode: (bytes: Uint8Array) => JSON.parse(Buffer.from(bytes).toString())
}

const handlers = {
  /** Leaves what it was part of, and becomes a process of that namespace. */
  async join ({ namespace, port, memcachedPort, memory: hasMemory = true, bus = false, lockPorts, lockTtl, json: isJson = false }: Setting): Promise<void> {
    await manager?.close()
    for (const client of clients.splice(0)) client.disconnect()
    const connect = (port: number) => {
      const client = new Redis(port, { retryStrategy: () => 50 }).on('error', () => {})
      clients.push(client)
      return client
    }
    const client = connect(port)
    database = connect(port)
    const tier = memcachedPort === undefined ? redis(client) : memcached(connectMemcached(memcachedPort))
    manager = new CachingManager({
      namespace,
      ...(lockPorts.length > 0 && { lock: redlock(lockPorts.map(lockPort => lockPort === port ? client : connect(lockPort))) }),
      ...(bus && { bus: redisBus(client) }),
      regions: { people: { tiers: hasMemory ? [memory(), tier] : [tier], ttl: '10m', tierTimeout: '20s', lockTtl, lockWait: '10m', ...(isJson && { serializer: json }) } }
    })
    region = manager.region('people')
    await manager.ready()
  },

  /** What its reads got: each different value, or error, once. */
  async read ({ key, count, takes, end }: Reading): Promise<unknown[]> {
    const load = async () => {
      const value = await database.get(`database:${key}`)
      await database.rpush(`loads:${key}`, process.pid)
      if (takes !== undefined) await new Promise(resolve => setTimeout(resolve, takes))
      else await waitFor(`go:${key}:${process.pid}`)
      if (end === 'error') throw Object.assign(new RangeError('no such database'), { code: 'E_NONE', statusCode: 404 })
      return end === 'unserialisable' ? 1n : value
    }
    const reads = Array.from({ length: count }, async () => await region.getOrCreate<unknown>(key, load, end === 'uncacheable' ? { shouldCache: () => false } : {}))
    const results = await Promise.allSettled(reads)
    return [...new Set(results.map(result => result.status === 'fulfilled' ? result.value : JSON.stringify(described(result.reason))))]
  },

  async get (key: string): Promise<unknown> {
    await manager!.idle()
    return await region.get(key)
  },

  async delete (key: string): Promise<void> {
    await region.delete(key)
  }
}
export type StampedeHandlers = typeof handlers

function connectMemcached (port: number): MemcacheClient {
  const client = new MemcacheClient({ server: `127.0.0.1:${port}` })
  clients.push({ disconnect: () => client.shutdown() })
  return client
}

/** A list that somebody has put something into lets everybody through. */
async function waitFor (list: string): Promise<void> {
  const blocking = database.duplicate()
  try {
    await blocking.blmove(list, list, 'LEFT', 'LEFT', 0)
  } finally {
    blocking.disconnect()
  }
}

function described (error: Error & { code?: unknown, statusCode?: unknown }) {
  const { name, message, code, statusCode } = error
  return { isError: error instanceof Error, name, message, code, statusCode }
}

serve(handlers)
