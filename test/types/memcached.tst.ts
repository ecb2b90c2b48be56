import type { MemcacheClient } from 'memcache-client'
import { expect, test } from 'tstyche'
import { memcached, type Backend } from 'fastify-caching-api'
import type { MemcachedLike } from '../../lib/backends/memcached-server.js'

declare const client: MemcacheClient

test("memcache-client's own client is what memcached() takes", () => {
  expect<MemcacheClient>().type.toBeAssignableTo<MemcachedLike>()
  expect(memcached(client)).type.toBe<Backend>()
  expect(memcached([client, client], { keyPrefix: 'app:' })).type.toBe<Backend>()
})
