import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { Cluster } from 'ioredis'
import t from 'tap'
import { redlock } from '../../../lib/locks/redlock.js'
import { memory } from '../../../lib/backends/memory.js'
import { redis } from '../../../lib/backends/redis.js'
import { eventually, heldLoad } from '../../helpers/doubles.js'
import { processOf, tags } from '../../helpers/regions.js'
import { startRedisCluster } from '../../helpers/servers.js'

t.test('a Redis Cluster of three masters serves as a tier, a line and a lock', async t => {
  const { addresses } = await startRedisCluster(t)
  const connect = () => {
    const cluster = new Cluster([...addresses])
    t.teardown(() => cluster.disconnect())
    return cluster
  }
  const namespace = randomUUID()
  const join = async () => {
    const cluster = connect()
    return await processOf(t, { tiers: [memory(), redis(cluster)], grace: '1h' }, { namespace, lock: redlock([cluster]) })
  }
  const a = await join()
  const b = await join()
  const keys = Array.from({ length: 30 }, (_, i) => `key ${i}`)

  await a.region.setMany(keys.map((key, i) => [key, i] as const), { tags })
  t.strictSame(await b.region.getMany([...keys, 'none']), [...keys.map((_, i) => i), undefined])
  await a.region.deleteMany(keys.slice(0, 10))
  const found = keys.map((_, i) => i < 10 ? undefined : i)
  t.strictSame(await a.region.getMany(keys), found)
  await eventually(t, async () => (await b.region.get('key 9')) === undefined, 'the other process hears of it')

  const { load, begun, end } = heldLoad('value')
  const first = a.region.getOrCreate('alice', load, { tags })
  await begun
  const second = b.region.getOrCreate('alice', () => 'not called', { tags })
  end()
  t.strictSame([await first, await second], ['value', 'value'])
  await a.manager.idle()

  await b.region.invalidateTags('people')
  t.strictSame(await b.region.getMany([...keys, 'alice']), [...keys, 'alice'].map(() => undefined))
  const c = await processOf(t, { tiers: [redis(connect())], grace: '1h' }, { namespace })
  await eventually(t, async () => {
    // News of the deletion may come late, from node to node, and refuse what is loaded at that moment.
    await b.region.getOrCreateMany(keys, missing => [...missing], { tags })
    await b.manager.idle()
    assert.deepEqual(await c.region.getMany(keys), keys)
    return true
  }, 'what one process creates, others find')
  await a.region.invalidate({ soft: true })
  t.equal(await a.region.getOrCreate('key 1', () => 'new'), 'key 1')
  await a.manager.idle()
  t.equal(await a.region.get('key 1'), 'new')
  await a.region.invalidate()
  t.equal(await a.region.get('key 1'), undefined)

  const late = heldLoad('old')
  const overtaken = a.region.getOrCreate('bob', late.load)
  await late.begun
  await b.region.delete('bob')
  late.end()
  t.equal(await overtaken, 'old')
  await a.manager.idle()
  t.equal(await b.region.get('bob'), undefined)
})
