import { Redis } from 'ioredis'
import Fastify from 'fastify'
import { MemcacheClient } from 'memcache-client'
import t, { type Test } from 'tap'
import cachingApi, {
  cacheObject, localRedisObject, memcached, memcachedObject, memory, memoryObject, property, redis, redisObject,
  type Backend, type BackendFailedError
} from '../../plugin/index.js'
import { eventually } from '../helpers/doubles.js'
import { recordedBackend } from '../helpers/recorded-backend.js'
import { recordingProxy } from '../helpers/recording-proxy.js'
import { startMemcached, startRedis } from '../helpers/servers.js'

/*
 * What the README of `cacheobj` shows, example by example and in its words, and what it promises, against real servers.
 * An assignment is saved by `save()` here, where the original wrote at once and waited. The budget is the tests' own: this
 * machine may be busy.
 */
const options = { timeout: '20s' }

async function redisOf (t: Pick<Test, 'teardown'>, port: number): Promise<Redis> {
  const client = new Redis(port, { retryStrategy: () => 20, maxRetriesPerRequest: 0 })
  client.on('error', () => {})
  t.teardown(() => client.disconnect())
  await client.ping()
  return client
}

async function memcachedOf (t: Pick<Test, 'teardown'>, port: number): Promise<MemcacheClient> {
  // Without noDelay, the second of two commands would wait until the first has been acknowledged.
  const client = new MemcacheClient({ server: { server: `127.0.0.1:${port}`, maxConnections: 1 }, noDelay: true })
  t.teardown(() => client.shutdown())
  await client.version()
  return client
}

/** A backend on each kind of server, seen through a proxy, and one in memory that counts. */
async function threeBackends (t: Pick<Test, 'teardown'>) {
  const [redisServer, memcachedServer] = [await startRedis(t), await startMemcached(t)]
  const [redisLine, memcachedLine] = [await recordingProxy(t, redisServer.port), await recordingProxy(t, memcachedServer.port)]
  const { backend: inMemory, calls } = recordedBackend('memory')
  return {
    inMemory,
    inMemcached: memcached(await memcachedOf(t, memcachedLine.port)),
    inRedis: redis(await redisOf(t, redisLine.port)),
    redisServer,
    redisLine,
    memcachedLine,
    memoryCalls: calls,
    reset () {
      calls.length = 0
      redisLine.reset()
      memcachedLine.reset()
    },
    roundTrips: () => [calls.length, memcachedLine.roundTrips, redisLine.roundTrips]
  }
}

t.test('example: a UserCache on the local Redis', async t => {
  const server = await startRedis(t)
  const LocalRedisObject = localRedisObject({ port: server.port })
  t.teardown(() => LocalRedisObject.backend.close!())

  class UserCache extends LocalRedisObject('UserCache', { username: property<string>(), name: property<string>() }, options) {}

  const user = new UserCache(10)
  t.equal(await user.username, null)
  user.username = 'username'
  user.name = 'Real Name'
  // eslint-disable-next-line @typescript-eslint/await-thenable -- TypeScript takes what was assigned for what will be read
  t.equal(await user.username, 'username')
  await user.save()
  const user10 = new UserCache(10)
  t.equal(await user10.username, 'username')
  t.equal(await user10.name, 'Real Name')

  t.test('the cache is stored with class name and given id', async t => {
    t.strictSame((await (await redisOf(t, server.port)).keys('*')).sort(), ['UserCache.10.name', 'UserCache.10.username'])
    t.equal(await new UserCache(11).username, null)
    t.equal(await new (LocalRedisObject('OtherCache', { username: property<string>() }, options))(10).username, null)
  })

  t.test('with useCache, the backend isn\'t hit again', async t => {
    const commands = await server.recordCommands()
    t.equal(await user.get('username', { useCache: true }), 'username')
    t.equal(await user10.get('username', { useCache: true }), 'username')
    t.strictSame(await commands.commands(), [])
    t.equal(await user.get('username'), 'username')
    t.strictSame(await commands.calls(), [['mget', 'UserCache.10.username']])
  })
})

t.test('example: the generator for a Redis that is not local', async t => {
  const client = await redisOf(t, (await startRedis(t)).port)
  const MyRedisObject = redisObject(client)
  class MyUserCache extends MyRedisObject('MyUserCache', { username: property<string>() }, options) {}

  const user = new MyUserCache(10)
  user.username = 'username'
  await user.save()
  t.equal(await new MyUserCache(10).username, 'username')
  t.equal(await client.exists('MyUserCache.10.username'), 1)
})

t.test('example: in-memory and memcached objects by the same interface', async t => {
  const client = await memcachedOf(t, (await startMemcached(t)).port)
  for (const UserCache of [memoryObject('UserCache', { username: property<string>() }, options), memcachedObject(client)('UserCache', { username: property<string>() }, options)]) {
    const user = new UserCache(10)
    t.equal(await user.username, null)
    user.username = 'username'
    await user.save()
    t.equal(await new UserCache(10).username, 'username')
    await user.delete('username')
    t.equal(await new UserCache(10).username, null)
  }
})

t.test('example: a SimpleCacheObject with a backend of one\'s choice', async t => {
  const server = await startMemcached(t)
  const client = await memcachedOf(t, server.port)
  class UserCache extends cacheObject({
    name: 'UserCache',
    backend: memcached(client),
    properties: { username: property<string>(), name: property<string>() },
    ...options
  }) {}

  const user = new UserCache(10)
  user.username = 'username'
  user.name = 'Real Name'
  await user.save()
  t.strictSame(await new UserCache(10).getAll(), { username: 'username', name: 'Real Name' })
})

t.test('example: a custom backend is just a few lines', async t => {
  const client = await redisOf(t, (await startRedis(t)).port)
  // One hash for all of it, which the package's own Redis backend would not make.
  const hash: Backend = {
    name: 'hash',
    getMany: async keys => (await client.hmgetBuffer('objects', ...keys)).map(value => value ?? undefined),
    setMany: async entries => { await client.hset('objects', new Map(entries.map(({ key, value }) => [key, Buffer.from(value)]))) },
    deleteMany: async keys => { await client.hdel('objects', ...keys) }
  }
  class UserCache extends cacheObject({ name: 'UserCache', backend: hash, properties: { username: property<string>(), name: property<string>() }, ...options }) {}

  const user = new UserCache(10)
  user.username = 'username'
  await user.save()
  t.strictSame(await new UserCache(10).getAll(), { username: 'username', name: null })
  t.equal(await client.hlen('objects'), 1)
  await user.deleteAll()
  t.equal(await client.hlen('objects'), 0)
})

t.test('example: a composite of memory, memcached and Redis', async t => {
  const { inMemory, inMemcached, inRedis, redisServer, redisLine, memcachedLine, reset, roundTrips } = await threeBackends(t)
  class CompositeCache extends cacheObject({
    name: 'CompositeCache',
    properties: {
      mem1: property<string>({ backend: inMemory }),
      mem2: property<string>({ backend: inMemory }),
      mc1: property<string>({ backend: inMemcached }),
      mc2: property<string>({ backend: inMemcached }),
      redis1: property<string>({ backend: inRedis }),
      redis2: property<string>({ backend: inRedis })
    },
    timeout: '2s'
  }) {}
  const all = { mem1: 'a', mem2: 'b', mc1: 'c', mc2: 'd', redis1: 'e', redis2: 'f' }

  const c = new CompositeCache(1)
  Object.assign(c, all)
  reset()
  await c.save()
  t.strictSame(roundTrips(), [1, 1, 1], 'one round trip for each backend')

  const other = new CompositeCache(1)
  reset()
  t.equal(await other.mem1, 'a')
  t.strictSame(roundTrips(), [1, 0, 0], 'with backend memory')
  t.equal(await other.mc1, 'c')
  t.strictSame(roundTrips(), [1, 1, 0], 'with backend memcached')
  t.equal(await other.redis1, 'e')
  t.strictSame(roundTrips(), [1, 1, 1], 'with backend redis')
  t.match(memcachedLine.calls, [['gets', 'CompositeCache.1.mc1']])
  t.match(redisLine.calls, [['mget', 'CompositeCache.1.redis1']])

  reset()
  other.mem1 = other.mc1 = other.redis1 = 'new'
  other.mem2 = other.mc2 = other.redis2 = null
  await other.save()
  t.strictSame(roundTrips(), [2, 1, 1], 'set and deleted together: two calls of memory, one round trip of a server')
  t.strictSame(await c.getAll(), { mem1: 'new', mem2: null, mc1: 'new', mc2: null, redis1: 'new', redis2: null })
  await c.deleteAll()
  Object.assign(c, all)
  await c.save()

  t.test('a backend that is away costs only its own properties, with an error that names them', async t => {
    await redisServer.kill()
    await eventually(t, () => c.get('redis1').then(() => false, () => true), 'Redis is away')
    const error = await c.getAll().then(() => undefined, error => error as BackendFailedError)
    t.match(error, { code: 'FST_CACHING_API_BACKEND_FAILED', message: /^CompositeCache '1': redis1, redis2 could not be read from redis: /, properties: ['redis1', 'redis2'] })
    t.strictSame(error!.values, { mem1: 'a', mem2: 'b', mc1: 'c', mc2: 'd' })
    const [mem1, mc1, redis1] = await Promise.allSettled([c.mem1, c.mc1, c.get('redis1')])
    t.strictSame([mem1, mc1].map(read => read.status), ['fulfilled', 'fulfilled'])
    t.match(redis1, { status: 'rejected', reason: { properties: ['redis1'] } })

    c.mem1 = c.mc1 = c.redis1 = 'later'
    await t.rejects(c.save(), { code: 'FST_CACHING_API_BACKEND_FAILED', properties: ['redis1'] })
    t.equal(await new CompositeCache(1).get('mc1'), 'later')

    await redisServer.start()
    await eventually(t, () => c.save().then(() => true, () => false), 'what was not taken is saved when Redis is back')
    t.equal(await new CompositeCache(1).get('redis1'), 'later')
  })
})

t.test('a hundred objects of three properties over three backends: getAll on all in one tick is three round trips', async t => {
  const { inMemory, inMemcached, inRedis, reset, roundTrips } = await threeBackends(t)
  const Composite = cacheObject({
    name: 'Composite',
    properties: { a: property<number>({ backend: inMemory }), b: property<number>({ backend: inMemcached }), c: property<number>({ backend: inRedis }) },
    ...options
  })
  const ids = Array.from({ length: 100 }, (_, i) => i)
  await Promise.all(ids.map(async id => {
    const object = new Composite(id)
    Object.assign(object, { a: id, b: id + 0.5, c: -id })
    await object.save()
  }))
  reset()
  const read = await Promise.all(ids.map(id => new Composite(id).getAll()))
  t.strictSame(roundTrips(), [1, 1, 1])
  t.strictSame(read, ids.map(id => ({ a: id, b: id + 0.5, c: id === 0 ? -0 : -id })))

  t.test('the properties of many objects of a request are a round trip for each backend, too', async t => {
    const app = Fastify()
    t.teardown(() => app.close())
    await app.register(cachingApi, { regions: { objects: { tiers: [memory()], ttl: '1m' } } })
    app.get('/', async ({ cachingApi }) => {
      const sums = await Promise.all(ids.map(async id => {
        const [a, b, c] = await Promise.all([cachingApi.object(Composite, id).a, cachingApi.object(Composite, id).b, cachingApi.object(Composite, id).c])
        return a! + b! + c!
      }))
      cachingApi.object(Composite, 0).c = sums.length
      return sums
    })
    reset()
    t.strictSame((await app.inject('/')).json(), ids.map(id => id + 0.5))
    t.strictSame(roundTrips(), [1, 1, 2], 'and one more, which saved what was assigned before the response was sent')
    t.equal(await new Composite(0).c, 100)
  })
})

t.test('the ttl is written in the same command as the value, and applies', async t => {
  const [redisServer, memcachedServer] = [await startRedis(t), await startMemcached(t)]
  const line = await recordingProxy(t, memcachedServer.port)
  const client = await redisOf(t, redisServer.port)
  const commands = await redisServer.recordCommands()
  const Session = cacheObject({
    name: 'Session',
    properties: {
      short: property<string>({ backend: redis(client), ttl: 1000 }),
      long: property<string>({ backend: redis(client), ttl: '1h' }),
      unlimited: property<string>({ backend: redis(client) }),
      mcShort: property<string>({ backend: memcached(await memcachedOf(t, line.port)), ttl: 1000, default: 'gone' }),
      memShort: property<string>({ backend: memory(), ttl: 1000, default: 'gone' })
    },
    ...options
  })
  const session = new Session(1)
  Object.assign(session, { short: 'a', long: 'b', unlimited: 'c', mcShort: 'd', memShort: 'e' })
  line.reset()
  await session.save()
  const calls = await commands.calls()
  t.strictSame(calls.map(([name, key, , px, ms]) => [name, key, px, ms]), [
    ['set', 'Session.1.short', 'PX', '1000'],
    ['set', 'Session.1.long', 'PX', '3600000'],
    ['set', 'Session.1.unlimited', 'PX', '31536000000']
  ])
  t.equal(line.calls.length, 1)
  const [name, key, , exptime] = line.calls[0]!
  t.strictSame([name, key], ['set', 'Session.1.mcShort'])
  t.ok(Number(exptime) >= 1 && Number(exptime) <= 2, 'memcached counts seconds')
  await eventually(t, async () => {
    const { short, mcShort, memShort } = await session.getAll()
    return short === null && mcShort === 'gone' && memShort === 'gone'
  }, 'the short ones are gone')
  t.match(await session.getAll(), { long: 'b', unlimited: 'c' })
})

t.test('any id can be stored, read and deleted, and nothing else is touched', async t => {
  const [redisServer, memcachedServer] = [await startRedis(t), await startMemcached(t)]
  const LocalRedisObject = localRedisObject({ port: redisServer.port, db: 1 })
  t.teardown(() => LocalRedisObject.backend.close!())
  const backends = {
    memory: memory(),
    redis: redis(await redisOf(t, redisServer.port)),
    localRedis: LocalRedisObject.backend,
    memcached: memcached(await memcachedOf(t, memcachedServer.port), { keyPrefix: 'x'.repeat(50) })
  }
  const ids = [
    'a b', ' ', '', '\r\n', 'a\r\nset k 0 0 1\r\nx\r\n', 'get k\r\n', '\0', 'a\0b', '{tag}', '{', '}{', '😀', 'é', '\ud83d', '\ude00', 'x'.repeat(10_000), 'é'.repeat(10_000), 'x'.repeat(9_999) + 'y',
    '|', 'a|b', '%7C', 'a%7Cb', '*', '?', '../..', '__proto__', 'constructor', '#', '"', "'", '1|name', '1', 'Any.1.name', '9007199254740993', '-1', '1e21'
  ]
  for (const [where, backend] of Object.entries(backends)) {
    t.test(`any id can be stored, read and deleted on ${where}`, async t => {
      const Any = cacheObject({ name: 'Any', backend, properties: { name: property<string>(), size: property<number>() }, ...options })
      const Other = cacheObject({ name: 'Other', backend, properties: { name: property<string>() }, ...options })
      const read = () => Promise.all([...ids.map(id => new Any(id).getAll()), new Other('a b').getAll()])
      await new Other('a b').set('name', 'untouched')
      await Promise.all(ids.map(async (id, i) => {
        const object = new Any(id)
        object.name = id
        object.size = i
        await object.save()
      }))
      const expected: object[] = [...ids.map((id, i) => ({ name: id, size: i })), { name: 'untouched' }]
      t.strictSame(await read(), expected)
      for (const [i, id] of ids.entries()) {
        await new Any(id).delete('name')
        expected[i] = { name: null, size: i }
        t.strictSame(await read(), expected, JSON.stringify(id.slice(0, 20)))
        await new Any(id).deleteAll()
        expected[i] = { name: null, size: null }
        if (i % 8 === 0) t.strictSame(await read(), expected)
      }
      t.strictSame(await read(), expected)
    })
  }
})
