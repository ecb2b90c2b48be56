import type { CachingApi } from '../lib/caching-api.js'
import type { CachingManager } from '../lib/caching-manager.js'

declare module 'fastify' {
  interface FastifyInstance {
    /** The regions of `fastify-caching-api`, for the lifetime of the app. */
    readonly cachingManager: CachingManager
  }
  interface FastifyRequest {
    /** This request's view of the cache: made when it is first used, gone with the request. */
    readonly cachingApi: CachingApi
  }
}
