import { cacheObject, type CacheObjectClass, type Properties } from './cache-object.js'
import type { Duration } from '../duration.js'
import type { Backend } from '../backends/backend.js'
import { localRedis, type LocalRedisOptions } from '../backends/local-redis.js'
import { memcached, type MemcachedOptions } from '../backends/memcached.js'
import { memory } from '../backends/memory.js'
import { redis } from '../backends/redis.js'

export interface ShortcutOptions {
  /** Budget of one operation. Default '250ms'. */
  timeout?: Duration
}

/** Makes classes from a name and properties, all of them kept in one backend. */
export interface CacheObjectMaker {
  <P extends Properties>(name: string, properties: P, options?: ShortcutOptions): CacheObjectClass<P>
  readonly backend: Backend
}

/**
 * Makes a class that is kept in this process, in a memory of its own, of 10,000 properties. For a larger one, call
 * `cacheObject` with `memory({ maxEntries })`.
 *
 *     const UserCache = memoryObject('UserCache', { username: property<string>() })
 */
export function memoryObject<P extends Properties> (name: string, properties: P, options?: ShortcutOptions): CacheObjectClass<P> {
  return cacheObject({ ...options, name, backend: memory(), properties })
}

/**
 * Makes classes that are kept on a Redis server or a Redis Cluster, by an ioredis client of yours.
 *
 *     const RedisObject = redisObject(client)
 *     const UserCache = RedisObject('UserCache', { username: property<string>() })
 */
export function redisObject (client: unknown, options?: { keyPrefix?: string }): CacheObjectMaker {
  return makerOf(redis(client, options))
}

/**
 * Makes classes that are kept on one memcached server, or several, by memcache-client's clients, which are yours.
 *
 *     const MemcachedObject = memcachedObject(new MemcacheClient({ server: '127.0.0.1:11211' }))
 *     const UserCache = MemcachedObject('UserCache', { username: property<string>() })
 */
export function memcachedObject (client: unknown, options?: MemcachedOptions): CacheObjectMaker {
  return makerOf(memcached(client, options))
}

/** Makes classes that are kept on the Redis server of this machine, connected to when it is first used. It needs ioredis. */
export function localRedisObject (options?: LocalRedisOptions): CacheObjectMaker {
  return makerOf(localRedis(options))
}

/** `localRedisObject()`: 127.0.0.1:6379, one connection for all classes that it makes. */
export const LocalRedisObject = localRedisObject()

function makerOf (backend: Backend): CacheObjectMaker {
  const make = <P extends Properties>(name: string, properties: P, options?: ShortcutOptions) => cacheObject({ ...options, name, backend, properties })
  return Object.assign(make, { backend })
}
