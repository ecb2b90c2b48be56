import type { FastifyInstance } from 'fastify'
import { memcached, memory, redis, type Backend } from 'fastify-caching-api'
import type { VisitorBackends } from './visitor.js'

/** What there is besides memory. */
export interface Servers {
  /** Adds Redis behind the memory tier, and elects one loader among all processes that share it. */
  redisUrl?: string | undefined
  /**
   * `host:port`, or several with commas between them. Without Redis, memcached is behind the memory tier: then this
   * process should be the only one, as memcached can't tell the memory of others what has changed. With Redis, which
   * can, the rows and lists are better off there, and memcached keeps what no process has in its memory: visitors' counts.
   */
  memcachedServers?: string | undefined
}

/** Behind the memory tier of the regions. */
export function sharedTiers (app: FastifyInstance): Backend[] {
  if (app.hasDecorator('redis')) return [redis(app.redis)]
  if (app.hasDecorator('memcached')) return [memcached(app.memcached)]
  return []
}

/** With a prefix, since the keys of cache objects don't begin with the regions' namespace. */
export function visitorBackends (app: FastifyInstance, namespace: string): VisitorBackends {
  const keyPrefix = `${namespace}:`
  const inRedis = app.hasDecorator('redis') ? redis(app.redis, { keyPrefix }) : undefined
  const inMemcached = app.hasDecorator('memcached') ? memcached(app.memcached, { keyPrefix }) : undefined
  const lists = inRedis ?? inMemcached ?? memory({ maxEntries: 20_000 })
  return { lists, counts: inMemcached ?? lists }
}

/** In words, for what a start prints. */
export function describeBackends ({ redisUrl, memcachedServers }: Servers): { tiers: string, visitors: string } {
  const servers = [redisUrl !== undefined && 'Redis', memcachedServers !== undefined && 'memcached'].filter(name => name !== false)
  return { tiers: ['memory', ...servers.slice(0, 1)].join(' and '), visitors: servers.join(' and ') || 'memory' }
}
