import type { FastifyInstance } from 'fastify'
import { MemcacheClient } from 'memcache-client'

declare module 'fastify' {
  interface FastifyInstance {
    /** One for each server. */
    readonly memcached: readonly MemcacheClient[]
  }
}

/** How long a server may take to accept a connection. Milliseconds. */
const connectTimeout = 2_000

/**
 * Decorates the app with `memcached`. Nobody is connected by this: a client does so when it is first used, and again
 * after its server was away, so the example starts, answers and stops without memcached.
 */
export function registerMemcached (app: FastifyInstance, servers: string): void {
  const clients = addresses(servers).map(server => new MemcacheClient({ server, connectTimeout, noDelay: true }))
  app.decorate('memcached', clients)
  app.addHook('onClose', async () => {
    for (const client of clients) client.shutdown()
  })
}

function addresses (servers: string): string[] {
  const all = servers.split(',').map(address => address.trim())
  if (!all.every(address => /^[^\s:]+:\d+$/.test(address))) {
    throw new Error(`MEMCACHED_SERVERS must be host:port, or several with commas between them, got '${servers}'`)
  }
  return all
}
