import type { FastifyInstance } from 'fastify'
import type { RequestStats } from 'fastify-caching-api'

/** Says in `x-cache` where the values of a response came from. For routes that use the cache: it makes them pay for it. */
export function addCacheHeader (app: FastifyInstance): void {
  app.addHook('onSend', async (request, reply) => {
    const { local, tiers, stale, loaded, loads, waited } = request.cachingApi.stats
    reply.header('x-cache', JSON.stringify({ local, tiers, stale, loaded, loads, waited } satisfies RequestStats))
  })
}
