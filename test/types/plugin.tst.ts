import Fastify, { type FastifyInstance, type FastifyRequest } from 'fastify'
import { Cluster, Redis } from 'ioredis'
import { describe, expect, test } from 'tstyche'
import cachingApi, { loadMany, loadOne, memory, redis, type CachingApi, type CachingManager, type LoaderContext } from 'fastify-caching-api'
import type { RedisLike } from '../../lib/backends/redis-client.js'

// As an application does it. Optional here, since all files of this repository share one LoaderContext.
declare module 'fastify-caching-api' {
  interface LoaderContext { auditor?: { audit (what: string): void } }
}

describe('importing the plugin extends fastify', () => {
  test('an app has a manager, a request an api', () => {
    expect<FastifyInstance['cachingManager']>().type.toBe<CachingManager>()
    expect<FastifyRequest['cachingApi']>().type.toBe<CachingApi>()
    const app = Fastify()
    app.get('/', async request => {
      expect(request.cachingApi).type.toBe<CachingApi>()
      // @ts-expect-error Cannot assign to 'cachingApi'
      request.cachingApi = undefined
    })
    // @ts-expect-error Cannot assign to 'cachingManager'
    app.cachingManager = undefined
  })

  test('its options are checked where it is registered', () => {
    const app = Fastify()
    const regions = { objects: { tiers: [memory()] as const, ttl: '5m' } }
    expect(app.register).type.toBeCallableWith(cachingApi, { regions })
    expect(app.register).type.toBeCallableWith(cachingApi, { regions, serverTiming: true, namespace: 'app', logger: app.log, now: Date.now })
    expect(app.register).type.not.toBeCallableWith(cachingApi, {})
    expect(app.register).type.not.toBeCallableWith(cachingApi, { regions, serverTiming: 'yes' })
    expect(app.register).type.not.toBeCallableWith(cachingApi, { regions: { objects: { tiers: [memory()] } } })
    expect(app.register).type.not.toBeCallableWith(cachingApi, { regions: { objects: { tiers: [], ttl: 5 } } })
    expect(app.register).type.not.toBeCallableWith(cachingApi, { regions, lock: {} })
  })
})

describe('LoaderContext is the application\'s own, by declaration merging', () => {
  test('loaders get it first', () => {
    expect<LoaderContext['auditor']>().type.toBe<{ audit (what: string): void } | undefined>()
    loadOne((context, id: number) => {
      expect(context).type.toBe<LoaderContext>()
      context.auditor?.audit(`user ${id}`)
      return { id }
    })
    loadMany({
      load: ({ auditor }, ids: readonly number[]) => {
        expect(auditor).type.toBe<{ audit (what: string): void } | undefined>()
        return ids.map(id => ({ id }))
      },
      idOf: row => row.id
    })
  })

  test('what it does not have is an error', () => {
    // @ts-expect-error Property 'nowhere' does not exist on type 'LoaderContext'
    loadOne(({ nowhere }) => nowhere)
  })
})

describe('real clients', () => {
  test('ioredis\' Redis and Cluster are what the redis tier calls', () => {
    expect<Redis>().type.toBeAssignableTo<RedisLike>()
    expect<Cluster>().type.toBeAssignableTo<RedisLike>()
    expect(redis).type.toBeCallableWith(new Redis({ lazyConnect: true }))
    expect(redis).type.toBeCallableWith(new Cluster([], { lazyConnect: true }), { keyPrefix: 'app:' })
  })
})
