import { randomUUID } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { Cluster, Redis } from 'ioredis'
import { MemcacheClient } from 'memcache-client'
import pg from 'pg'
import t, { type Test } from 'tap'
import { cacheObject, property } from '../../lib/cache-objects/cache-object.js'
import { CachingManager } from '../../lib/caching-manager.js'
import { testBackend, type TestBackendOptions } from '../../lib/testing.js'
import type { Backend } from '../../lib/backends/backend.js'
import { memcached } from '../../lib/backends/memcached.js'
import { memory } from '../../lib/backends/memory.js'
import { redis } from '../../lib/backends/redis.js'
import { postgres } from '../helpers/postgres-backend.js'
import { freePort } from '../helpers/server-process.js'
import { startMemcached, startPostgres, startRedis, startRedisCluster } from '../helpers/servers.js'

// They wait for values to end, some by a clock that counts seconds: beside each other.
t.jobs = 8

function clientOf (t: Test, address: string, maxConnections = 1): MemcacheClient {
  const client = new MemcacheClient({ server: { server: address, maxConnections } })
  t.teardown(() => client.shutdown())
  return client
}

async function nobodysAddress (): Promise<string> {
  return `127.0.0.1:${await freePort()}`
}

const hostile = [
  'with blanks', ' with blanks', 'line\r\nbreak', 'line\nbreak', 'a\r\nflush_all\r\n', 'NUL\0byte', 'NUL', '\0', '{braces}', 'braces', '|', 'a|b', '%7C',
  '🦊', '🦊🦊', '\ud83e', '\udd8a', '\ufffd', '__proto__', 'constructor', 'undefined', 'x'.repeat(10_000), 'x'.repeat(9999) + 'y', '🦊'.repeat(5000)
]

/** A backend on its own, and what its users have of it: regions whose keys, and cache objects whose ids, are any strings. */
async function keepsTheContract (t: Test, makeBackend: () => Backend | Promise<Backend>, options?: TestBackendOptions): Promise<void> {
  await testBackend(t, makeBackend, options)
  const backend = await makeBackend()
  const numbers = hostile.map((_, i) => i)

  await t.test('what regions keep under any keys is found and deleted, and nothing else', async t => {
    const region = { tiers: [backend], ttl: '10m', tierTimeout: '20s' } as const
    const manager = new CachingManager({ namespace: randomUUID(), regions: { ours: region, others: region } })
    const [ours, others] = [manager.region('ours'), manager.region('others')]
    await ours.setMany(hostile.map((key, i) => [key, i]))
    await others.setMany(hostile.map((key, i) => [key, -i]))
    t.strictSame(await ours.getMany(hostile), numbers)
    for (const [i, key] of hostile.entries()) {
      await ours.delete(key)
      t.strictSame(await ours.getMany(hostile), numbers.map(number => number <= i ? undefined : number), JSON.stringify(key.slice(0, 20)))
    }
    t.strictSame(await others.getMany(hostile), numbers.map(number => -number))
    t.strictSame(await ours.getOrCreateMany(hostile, missing => missing.map(key => `loaded ${key}`)), hostile.map(key => `loaded ${key}`))
    await manager.idle()
    t.strictSame(await ours.getMany(hostile), hostile.map(key => `loaded ${key}`))
  })

  await t.test('of two sets of a key in one process the later one stays', async t => {
    const manager = new CachingManager({ namespace: randomUUID(), regions: { ours: { tiers: [backend], ttl: '10m', tierTimeout: '20s' } } })
    const region = manager.region('ours')
    for (let round = 0; round < 50; round++) {
      const first = region.set('key', 'first')
      if (round % 2 === 1) await new Promise(setImmediate)
      await Promise.all([first, region.set('key', 'second')])
      t.equal(await region.get('key'), 'second')
    }
  })

  await t.test('what cache objects keep under any ids is found and deleted, and nothing else', async t => {
    const User = cacheObject({ name: `User-${randomUUID()}`, backend, timeout: '20s', properties: { number: property<number>(), text: property<string>() } })
    const users = hostile.map(id => new User(id))
    const read = async () => await Promise.all(hostile.map(async id => await new User(id).getAll()))
    await Promise.all(users.map(async (user, i) => {
      user.number = i
      user.text = user.id
      await user.save()
    }))
    t.strictSame(await read(), hostile.map((id, i) => ({ number: i, text: id })))
    for (const [i, user] of users.entries()) {
      await user.delete('number')
      t.strictSame(await read(), hostile.map((id, j) => ({ number: j <= i ? null : j, text: id })), JSON.stringify(user.id.slice(0, 20)))
    }
  })
  await backend.close?.()
}

t.test('memory keeps the contract of a backend', async t => {
  await keepsTheContract(t, () => memory())
})

t.test('memory that is bounded by bytes keeps the contract of a backend', async t => {
  await keepsTheContract(t, () => memory({ maxBytes: 50_000_000 }))
})

t.test('redis keeps the contract of a backend', async t => {
  const server = await startRedis(t)
  const client = new Redis(server.url)
  t.teardown(() => client.disconnect())
  const makeAway = async () => {
    const away = new Redis(await freePort(), '127.0.0.1', { retryStrategy: () => null, maxRetriesPerRequest: 0 })
    away.on('error', () => {})
    t.teardown(() => away.disconnect())
    return redis(away)
  }
  await keepsTheContract(t, () => redis(client), { makeAway, flush: () => client.flushall() })
})

t.test('redis with a prefix keeps the contract of a backend', async t => {
  const server = await startRedis(t)
  const client = new Redis(server.url)
  t.teardown(() => client.disconnect())
  await keepsTheContract(t, () => redis(client, { keyPrefix: 'app:' }))
})

t.test('redis on a Cluster of three masters keeps the contract of a backend', async t => {
  const { addresses } = await startRedisCluster(t)
  const client = new Cluster([...addresses])
  t.teardown(() => client.disconnect())
  await keepsTheContract(t, () => redis(client), { flush: async () => await Promise.all(client.nodes('master').map(node => node.flushall())) })
})

t.test('memcached keeps the contract of a backend', async t => {
  const server = await startMemcached(t)
  const client = clientOf(t, server.address)
  const makeAway = async () => memcached(clientOf(t, await nobodysAddress()))
  await keepsTheContract(t, () => memcached(client), { makeAway, flush: () => client.cmd('flush_all') })
})

t.test('memcached over four connections and with a prefix keeps the contract of a backend', async t => {
  const server = await startMemcached(t)
  await keepsTheContract(t, () => memcached(clientOf(t, server.address, 4), { keyPrefix: 'app:' }))
})

t.test('memcached on two servers keeps the contract of a backend', async t => {
  const servers = await Promise.all([startMemcached(t), startMemcached(t)])
  const clients = servers.map(({ address }) => clientOf(t, address, 2))
  const makeAway = async () => memcached([clientOf(t, await nobodysAddress()), clientOf(t, await nobodysAddress())])
  await keepsTheContract(t, () => memcached(clients), { makeAway, flush: async () => await Promise.all(clients.map(client => client.cmd('flush_all'))) })
})

t.test('the backend of docs/backends.md, a table in PostgreSQL, keeps the contract of a backend', async t => {
  const server = await startPostgres(t)
  const pool = new pg.Pool({ connectionString: server.url })
  t.teardown(() => pool.end())
  await pool.query('create unlogged table cache (key bytea primary key, value bytea not null, expires timestamptz not null)')
  const makeAway = async () => {
    const away = new pg.Pool({ host: '127.0.0.1', port: await freePort() })
    t.teardown(() => away.end())
    return postgres(away)
  }
  await keepsTheContract(t, () => postgres(pool), { makeAway })
})

t.test('docs/backends.md shows that very backend', async t => {
  const [page, source] = await Promise.all(['docs/backends.md', 'test/helpers/postgres-backend.ts'].map(path => readFile(new URL(`../../${path}`, import.meta.url), 'utf8')))
  t.ok(page!.includes(`\`\`\`ts\n${source}\`\`\``))
})
