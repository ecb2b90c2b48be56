import Fastify, { type FastifyInstance, type FastifyServerOptions } from 'fastify'
import cachingApi, { memory, redlock, type CachingApiOptions } from 'fastify-caching-api'
import { sharedTiers, visitorBackends, type Servers } from './backends.js'
import { addCacheHeader } from './cache-header.js'
import type { Database } from './database.js'
import { registerMemcached } from './memcached.js'
import { registerRedis } from './redis.js'
import { cityRoutes } from './routes/cities.js'
import { countryRoutes } from './routes/countries.js'
import { healthRoute } from './routes/health.js'
import { visitorRoutes } from './routes/visitors.js'
import { visitorOn, type VisitorClass } from './visitor.js'

declare module 'fastify' {
  interface FastifyInstance {
    readonly database: Database
    /** On the backends that this app has. */
    readonly Visitor: VisitorClass
  }
}

export interface ExampleOptions extends Servers {
  /** Stays open when the app closes: the code that made it closes it. */
  database: Database
  /** First part of every key. At most 49 characters. */
  namespace?: string
  logger?: FastifyServerOptions['logger']
}

/** The example, not yet listening: `await app.inject('/cities/745044')`, or `await app.listen()`. */
export async function buildApp ({ database, redisUrl, memcachedServers, namespace = 'caching-api-example', logger = false }: ExampleOptions): Promise<FastifyInstance> {
  const app: FastifyInstance = Fastify({ logger })
  app.decorate('database', database)
  if (redisUrl !== undefined) {
    await registerRedis(app, redisUrl)
  }
  if (memcachedServers !== undefined) {
    registerMemcached(app, memcachedServers)
  }
  app.decorate('Visitor', visitorOn(visitorBackends(app, namespace)))
  await app.register(cachingApi, {
    namespace,
    ...tiersAndLock(app),
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
    await scope.register(visitorRoutes)
  })
  return app
}

/** Rows change rarely and are invalidated when they do. Lists also change when rows come and go, so their ttl is shorter. */
function tiersAndLock (app: FastifyInstance): Pick<CachingApiOptions, 'regions' | 'lock'> {
  const rows = { ttl: '10m', grace: '1h', negativeTtl: '1m' }
  const lists = { ttl: '1m', grace: '10m' }
  const shared = sharedTiers(app)
  return {
    regions: {
      rows: { ...rows, tiers: [memory({ maxEntries: 20_000 }), ...shared] },
      lists: { ...lists, tiers: [memory({ maxEntries: 2_000 }), ...shared] },
    },
    ...(app.hasDecorator('redis') && { lock: redlock([app.redis]) }),
  }
}
