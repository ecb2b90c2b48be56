import { Redis } from 'ioredis'
import t from 'tap'
import { eventually } from './doubles.js'
import { recordingProxy } from './recording-proxy.js'
import { ask, type Owner } from './server-process.js'
import { startMemcached, startRedis } from './servers.js'

t.test('commands that are sent together are one round trip', async t => {
  const { client, proxy } = await throughProxy(t)
  await client.mset('a', '1', 'b', 'x'.repeat(300_000))
  t.equal(proxy.roundTrips, 1)
  await Promise.all([client.get('a'), client.get('b')])
  t.equal(proxy.roundTrips, 2)
  await client.get('a')
  t.equal(proxy.roundTrips, 3)
  t.strictSame(proxy.commands, ['mset', 'get', 'get', 'get'])
  t.strictSame(proxy.calls[1], ['get', 'a'])
  t.ok(proxy.bytesToServer > 300_000)
  t.ok(proxy.bytesToClient > 300_000)
})

t.test('a paused direction holds its bytes back, and loses none', async t => {
  const { client, proxy } = await throughProxy(t)
  proxy.pause('replies')
  const answer = client.incr('n')
  await eventually(t, () => proxy.commands.length === 1, 'the request passes')
  t.equal(proxy.roundTrips, 0)
  proxy.resume()
  t.equal(await answer, 1)

  proxy.pause()
  const later = client.incr('n')
  proxy.resume()
  t.equal(await later, 2)
})

t.test('a cut line refuses clients until it is restored', async t => {
  const { client, proxy } = await throughProxy(t)
  await proxy.cut()
  await t.rejects(client.ping())
  t.equal(proxy.connections, 0)
  await proxy.restore()
  await eventually(t, async () => await client.ping() === 'PONG', 'it is back')
})

t.test("memcached's commands are told from the data that they carry", async t => {
  const memcached = await startMemcached(t)
  const proxy = await recordingProxy(t, memcached.port)
  await ask(proxy.port, 'set k 0 0 10\r\nget a\r\nget\r\nget k l', /END\r\n/)
  t.strictSame(proxy.calls, [['set', 'k', '0', '0', '10'], ['get', 'k', 'l']])
})

async function throughProxy (t: Owner) {
  const redis = await startRedis(t)
  const proxy = await recordingProxy(t, redis.port)
  const client = new Redis(proxy.port, { retryStrategy: () => 10, maxRetriesPerRequest: 0 })
  client.on('error', () => {})
  t.teardown(() => client.disconnect())
  await client.ping()
  proxy.reset()
  return { client, proxy }
}
