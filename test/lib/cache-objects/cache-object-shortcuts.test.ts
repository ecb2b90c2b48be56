import { Redis } from 'ioredis'
import { MemcacheClient } from 'memcache-client'
import t from 'tap'
import { property } from '../../../lib/cache-objects/cache-object.js'
import { modelOf } from '../../../lib/cache-objects/cache-object-model.js'
import { LocalRedisObject, localRedisObject, memcachedObject, memoryObject, redisObject } from '../../../lib/cache-objects/cache-object-shortcuts.js'
import { startMemcached, startRedis } from '../../helpers/servers.js'

const properties = () => ({ username: property<string>(), name: property<string>() })
const key = 'UserCache.10.username'

// This machine may be busy: the default budget is none of these tests'.
const options = { timeout: '20s' }
async function written (user: { username: unknown, save (): Promise<void> }): Promise<void> {
  user.username = 'alice'
  await user.save()
}

t.test('memoryObject: each class has a memory of its own', async t => {
  const [UserCache, Same] = [memoryObject('UserCache', properties(), options), memoryObject('UserCache', properties(), options)]
  await written(new UserCache(10))
  t.equal(await new UserCache(10).username, 'alice')
  t.equal(await new Same(10).username, null)
})

t.test('redisObject: classes of one client', async t => {
  const { port } = await startRedis(t)
  const client = new Redis(port)
  t.teardown(() => client.disconnect())
  await client.ping()
  const UserCache = redisObject(client)('UserCache', properties(), options)
  await written(new UserCache(10))
  t.equal(await new (redisObject(client)('UserCache', properties(), options))(10).username, 'alice')
  t.equal(await client.exists(key), 1)
  const Prefixed = redisObject(client, { keyPrefix: 'app:' })('UserCache', properties(), options)
  t.equal(await new Prefixed(10).username, null)
  await written(new Prefixed(10))
  t.equal(await client.exists(`app:${key}`), 1)
  t.throws(() => redisObject({}), { code: 'FST_CACHING_API_INVALID_OPTIONS' })
})

t.test('memcachedObject: classes of one client', async t => {
  const { address } = await startMemcached(t)
  const client = new MemcacheClient({ server: { server: address, maxConnections: 1 } })
  t.teardown(() => client.shutdown())
  await client.version()
  const MemcachedObject = memcachedObject(client)
  await written(new (MemcachedObject('UserCache', properties(), options))(10))
  t.equal(await new (MemcachedObject('UserCache', properties(), options))(10).username, 'alice')
  const Prefixed = memcachedObject(client, { keyPrefix: 'app:' })('UserCache', properties(), options)
  t.equal(await new Prefixed(10).username, null)
  t.throws(() => memcachedObject({}), { code: 'FST_CACHING_API_INVALID_OPTIONS' })
})

t.test('localRedisObject: connects when it is first used', async t => {
  const server = await startRedis(t)
  const commands = await server.recordCommands()
  const LocalObject = localRedisObject({ port: server.port })
  t.teardown(() => LocalObject.backend.close!())
  const UserCache = LocalObject('UserCache', properties(), options)
  const user = new UserCache(10)
  t.strictSame(await commands.commands(), [])
  await written(user)
  t.equal(await user.username, 'alice')
  t.equal((await commands.commands()).filter(name => name === 'mget').length, 1)
})

t.test('LocalRedisObject: Redis\' own port, and no connection before it is used', async t => {
  const UserCache = LocalRedisObject('UserCache', properties(), options)
  t.strictSame([...modelOf(UserCache)!.backends], [LocalRedisObject.backend])
  t.equal(modelOf(UserCache)!.timeout, 20_000)
  t.equal(modelOf(LocalRedisObject('UserCache', {}))!.timeout, 250)
  t.equal(LocalRedisObject.backend.name, 'redis')
})
