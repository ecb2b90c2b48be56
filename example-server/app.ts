import Fastify, { type FastifyInstance, type FastifyServerOptions } from 'fastify'
import cachingApi, { memory, redis, redlock, type CachingApiOptions } from 'fastify-caching-api'
import { addCacheHeader } from './cache-header.js'
import type { Database } from './database.js'
import { registerRedis } from './redis.js'
import { cityRoutes } from './routes/cities.js'
import { countryRoutes } from './routes/countries.js'
import { healthRoute } from './routes/health.js'

declare module 'fastify' {
  interface FastifyInstance { readonly database: Database }
}

export interface ExampleOptions {
  /** Stays open when the app closes: it is its maker's. */
  database: Database
  /** Adds Redis behind the memory tier, and elects one loader among all processes that share it. */
  redisUrl?: string | undefined
  /** First part of every key. */
  namespace?: string
  logger?: FastifyServerOptions['logger']
}

/** The example, not yet listening: `await app.inject('/cities/745044')`, or `await app.listen()`. */
export async function buildApp ({ database, redisUrl, namespace = 'caching-api-example', logger = false }: ExampleOptions): Promise<FastifyInstance> {
  const app: FastifyInstance = Fastify({ logger })
  app.decorate('database', database)
  if (redisUrl !== undefined) {
    await registerRedis(app, redisUrl)
  }
  await app.register(cachingApi, {
    namespace,
    ...tiersAndLock(app, redisUrl !== undefined),
    // Asked for when a value is missing in every tier, and not before.
    context: () => ({ db: database.pool() }),
    logger: app.log,
    serverTiming: true,
  })

  await app.register(healthRoute)
  await app.register(async scope => {
    addCacheHeader(scope)
    await scope.register(cityRoutes)
    await scope.register(countryRoutes)
  })
  return app
}

/** Rows change rarely and are told when they do; lists also change by rows that come and go, so they live less long. */
function tiersAndLock (app: FastifyInstance, hasRedis: boolean): Pick<CachingApiOptions, 'regions' | 'lock'> {
  const rows = { ttl: '10m', grace: '1h', negativeTtl: '1m' }
  const lists = { ttl: '1m', grace: '10m' }
  if (!hasRedis) {
    return {
      regions: {
        rows: { ...rows, tiers: [memory({ maxEntries: 20_000 })] },
        lists: { ...lists, tiers: [memory({ maxEntries: 2_000 })] },
      },
    }
  }
  return {
    regions: {
      rows: { ...rows, tiers: [memory({ maxEntries: 20_000 }), redis(app.redis)] },
      lists: { ...lists, tiers: [memory({ maxEntries: 2_000 }), redis(app.redis)] },
    },
    lock: redlock([app.redis]),
  }
}
