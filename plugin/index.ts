import type { DoneFuncWithErrOrRes, FastifyInstance, FastifyPluginAsync, FastifyReply, FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import type { CachingApi } from '../lib/caching-api.js'
import { CachingManager } from '../lib/caching-manager.js'
import { InvalidOptionsError } from '../lib/errors.js'
import type { Response } from '../lib/request/unsaved.js'
import './augment.js'
import { resolveOptions, type CachingApiOptions } from './options.js'
import { addServerTiming } from './server-timing.js'

/** A request keeps its CachingApi here, from the first use on. */
const kApi = Symbol('fastify-caching-api')
/** A request keeps its raw response here, since Fastify gives it none. */
const kResponse = Symbol('fastify-caching-api: response')

/** The scopes above those that it is registered in. Fastify makes a scope by `Object.create(parent)`. */
const above = new WeakSet<object>()
const parentOf = (scope: object): object | null => Object.getPrototypeOf(scope) as object | null

interface Request extends FastifyRequest { [kApi]: CachingApi | null, [kResponse]: Response | null }

async function plugin (fastify: FastifyInstance, options: CachingApiOptions): Promise<void> {
  const { serverTiming, manager: managerOptions } = resolveOptions(options)
  const isBelow = fastify.hasDecorator('cachingManager') && fastify.cachingManager instanceof CachingManager
  if (isBelow || above.has(fastify)) {
    throw new InvalidOptionsError('fastify.register(cachingApi)', 'called once for an app, or for each of several scopes beside each other: give all regions in one call', 'a second call')
  }
  const manager = new CachingManager({ logger: fastify.log, ...managerOptions })
  fastify.addHook('onClose', () => manager.close())
  try {
    decorate(fastify, manager, managerOptions.logger)
  } catch (error) {
    await manager.close() // somebody else has one of these names, and nobody would close what was opened
    throw error
  }
  for (let scope = parentOf(fastify); scope !== null; scope = parentOf(scope)) above.add(scope)
  fastify.addHook('onRequest', (request, reply, done) => { keepResponse(request, reply); done() })
  fastify.addHook('onSend', saveObjects)
  if (serverTiming) fastify.addHook('onSend', sendTiming)
  await manager.ready()
}

function decorate (fastify: FastifyInstance, manager: CachingManager, logger: CachingApiOptions['logger']): void {
  fastify.decorate('cachingManager', manager)
  // Properties of every request, so that all of them keep one shape.
  fastify.decorateRequest(kApi, null)
  fastify.decorateRequest(kResponse, null)
  fastify.decorateRequest('cachingApi', {
    getter (this: FastifyRequest) {
      const request = this as Request
      return (request[kApi] ??= manager.createApi().savesObjects(logger ?? request.log, request[kResponse]))
    }
  })
}

function keepResponse (request: FastifyRequest, { raw }: FastifyReply): void {
  (request as Request)[kResponse] = raw
  ;(request as Request)[kApi]?.setResponse(raw) // an earlier hook has used it
}

/** Calls `done` where nothing is to be saved: most requests don't wait for a promise. */
function saveObjects (request: FastifyRequest, reply: FastifyReply, _payload: unknown, done: DoneFuncWithErrOrRes): Promise<void> | void {
  keepResponse(request, reply) // an earlier hook may have answered
  // The promise itself, not `save().then(done)`: what `done` throws must get back to Fastify, since a handler may have sent twice.
  return (request as Request)[kApi]?.unsaved?.save() ?? done()
}

function sendTiming (request: FastifyRequest, reply: FastifyReply, _payload: unknown, done: DoneFuncWithErrOrRes): void {
  const api = (request as Request)[kApi]
  if (api !== null) addServerTiming(reply, api.serverTiming)
  done()
}

/**
 * Gives every request a caching API: `request.cachingApi` answers from the request's own memory, from the tiers, and
 * from the database by batched loaders, in this order.
 */
const cachingApi: FastifyPluginAsync<CachingApiOptions> = fp(plugin, { fastify: '5.x', name: 'fastify-caching-api' })
export default cachingApi

export type { CachingApiOptions } from './options.js'
export { CachingApi, type GetOptions } from '../lib/caching-api.js'
export { CachingManager, type CachingManagerOptions } from '../lib/caching-manager.js'
export type { Logger } from '../lib/logger.js'
export { cachedObject, loadMany, loadOne } from '../lib/cached-object.js'
export type { AnyCachedObject, ArgsOf, CachedObject, CachedObjectDefinition, LoadMethod, MethodName, MethodOptions, ResultOf, RowOf, SoleArg } from '../lib/cached-object.js'
export { cacheObject, property } from '../lib/cache-objects/cache-object.js'
export type { AnyCacheObjectClass, CacheObjectClass, CacheObjectDefinition, CacheObjectInstance, CacheObjectMethods, ExtendedCacheObjectClass, Property, PropertyAccess, PropertyOptions } from '../lib/cache-objects/cache-object.js'
export { LocalRedisObject, localRedisObject, memcachedObject, memoryObject, redisObject, type CacheObjectMaker, type ShortcutOptions } from '../lib/cache-objects/cache-object-shortcuts.js'
export type { Duration } from '../lib/duration.js'
export { BackendFailedError, BatchMismatchError, ClosedError, InvalidArgumentError, InvalidDefinitionError, InvalidOptionsError, InvalidationPendingError, LoadTimeoutError, ReentrantLoadError, UnknownRegionError, type ErrorCode } from '../lib/errors.js'
export type { InvalidationBus } from '../lib/line.js'
// Only what is re-exported by a star can be added to by `declare module 'fastify-caching-api'`.
export * from '../lib/loader-context.js'
export type { DogpileLock, HeldLock } from '../lib/locks/lock.js'
export { redlock } from '../lib/locks/redlock.js'
export type { RequestStats } from '../lib/request/recorder.js'
export { Region, type WrappedFunction } from '../lib/region.js'
export type { CreateOptions, ReadOptions, RegionOptions, WriteOptions } from '../lib/region-options.js'
export type { Serializer } from '../lib/serializer.js'
export { UnstorableError, type Backend, type BackendEntry } from '../lib/backends/backend.js'
export { localRedis, type LocalRedisOptions } from '../lib/backends/local-redis.js'
export { memcached, type MemcachedOptions } from '../lib/backends/memcached.js'
export { memory, type MemoryOptions } from '../lib/backends/memory.js'
export { nothing } from '../lib/backends/nothing.js'
export { redis, redisBus } from '../lib/backends/redis.js'
