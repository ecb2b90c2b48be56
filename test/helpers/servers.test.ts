import { Cluster, Redis } from 'ioredis'
import pg from 'pg'
import t from 'tap'
import { eventually } from './doubles.js'
import { ask } from './server-process.js'
import { startMemcached, startPostgres, startRedis, startRedisCluster } from './servers.js'

t.test('a Redis can be paused, killed and started again on its port', async t => {
  const redis = await startRedis(t)
  const client = new Redis(redis.url, { commandTimeout: 500, maxRetriesPerRequest: 0, retryStrategy: () => 10 })
  client.on('error', () => {})
  t.teardown(() => client.disconnect())
  t.equal(await client.set('k', 'v'), 'OK')

  redis.pause()
  await t.rejects(client.get('k'), { message: 'Command timed out' })
  redis.resume()
  await eventually(t, async () => await client.get('k') === 'v', 'it answers again')

  await redis.kill()
  await t.rejects(client.get('k'))
  await redis.start()
  await eventually(t, async () => await client.get('k') === null, 'it is back, and empty')

  redis.pause()
  await redis.restart()
  await eventually(t, async () => await client.ping() === 'PONG', 'even a paused one restarts')
})

t.test('a Redis tells which commands its clients have sent', async t => {
  const redis = await startRedis(t)
  const client = new Redis(redis.url)
  t.teardown(() => client.disconnect())
  await client.ping()

  const recorder = await redis.recordCommands()
  await client.mset('a', '1', 'b', 'two words')
  await client.eval("return redis.call('get', KEYS[1])", 1, 'a')
  t.strictSame(await recorder.commands(), ['mset', 'eval'], 'without those that the script calls')
  t.strictSame((await recorder.calls())[0], ['mset', 'a', '1', 'b', 'two words'])
  await recorder.reset()
  t.strictSame(await recorder.commands(), [])
})

t.test('a Redis Cluster takes keys of any slot', async t => {
  const cluster = await startRedisCluster(t)
  const client = new Cluster([...cluster.addresses])
  t.teardown(() => client.disconnect())
  const keys = Array.from({ length: 20 }, (_, i) => `key-${i}`)
  await Promise.all(keys.map(async key => await client.set(key, key)))
  t.strictSame(await Promise.all(keys.map(async key => await client.get(key))), keys)
})

t.test('a memcached is started, and comes back empty', async t => {
  const memcached = await startMemcached(t)
  t.match(await ask(memcached.port, 'set k 0 0 1\r\nv', /\r\n/), 'STORED')
  t.match(await ask(memcached.port, 'get k', /END\r\n/), 'VALUE k 0 1')
  await memcached.restart()
  t.equal(await ask(memcached.port, 'get k', /END\r\n/), 'END\r\n')
})

t.test('a PostgreSQL keeps what was committed when it is killed', async t => {
  const postgres = await startPostgres(t)
  const query = async (text: string): Promise<unknown[]> => {
    const client = new pg.Client(postgres.url)
    client.on('error', () => {})
    await client.connect()
    return await client.query(text).then(({ rows }) => rows).finally(async () => await client.end())
  }
  await query('create table city (id int primary key, name text)')
  await query("insert into city values (1, 'Córdoba')")
  await postgres.kill()
  await t.rejects(query('select 1'))
  await postgres.start()
  t.strictSame(await query('select name from city where id = any(array[1, 2])'), [{ name: 'Córdoba' }])
})

t.test('a shared server is taken from the environment and cannot be hurt', async t => {
  const { url } = await startRedis(t)
  const before = process.env['REDIS_URL']
  process.env['REDIS_URL'] = url
  t.teardown(() => {
    if (before === undefined) delete process.env['REDIS_URL']
    else process.env['REDIS_URL'] = before
  })
  const shared = await startRedis(t, { shared: true })
  t.equal(shared.url, url)
  await t.rejects(shared.kill(), /is shared/)
})
