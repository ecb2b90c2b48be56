import t from 'tap'
import { redlock } from '../../../lib/locks/redlock.js'
import { memory } from '../../../lib/backends/memory.js'
import { redis } from '../../../lib/backends/redis.js'
import { MapBackend } from '../../helpers/backend-doubles.js'
import { heldLoad } from '../../helpers/doubles.js'
import { clientOf, processOf } from '../../helpers/regions.js'
import { startRedis } from '../../helpers/servers.js'

const server = await startRedis(t, { shared: true })
const client = clientOf(t, server.port)

t.test('close lets loads and writes end, refuses what comes after it, and closes nothing that it was given', async t => {
  const own = new MapBackend()
  const { region, manager } = await processOf(t, { tiers: [memory(), redis(client), own] }, { lock: redlock([client]) })
  const wrapped = region.wrap('fn', () => 1)
  const { load, begun, end } = heldLoad('value')
  const read = region.getOrCreate('alice', load)
  await begun
  let closed = false
  const closing = manager.close().then(() => { closed = true })
  t.equal(manager.close(), manager.close())
  await new Promise(setImmediate)
  t.notOk(closed)
  end()
  t.equal(await read, 'value')
  await closing
  t.equal(await client.exists(`${region.keyspace.prefix}k:alice`), 1)
  t.ok(own.kept.has(`${region.keyspace.prefix}k:alice`))
  t.equal(own.closed, 1, "a backend's own close is called")
  t.equal(await client.ping(), 'PONG')

  const uses: Record<string, () => Promise<unknown>> = {
    get: async () => await region.get('alice'),
    getMany: async () => await region.getMany(['alice']),
    getOrCreate: async () => await region.getOrCreate('alice', () => 1),
    getOrCreateMany: async () => await region.getOrCreateMany(['alice'], () => [1]),
    set: async () => await region.set('alice', 1),
    setMany: async () => await region.setMany([['alice', 1]]),
    delete: async () => await region.delete('alice'),
    deleteMany: async () => await region.deleteMany(['alice']),
    invalidate: async () => await region.invalidate(),
    invalidateTags: async () => await region.invalidateTags('people'),
    wrapped: async () => await wrapped()
  }
  for (const [name, use] of Object.entries(uses)) await t.rejects(use(), { code: 'FST_CACHING_API_CLOSED', statusCode: 503, message: 'Region people was used after close()' }, name)
})

t.test('what could not be delivered before the end is a line in the log', async t => {
  const own = clientOf(t, server.port)
  const { region, manager, logger } = await processOf(t, { tiers: [memory(), redis(own)] })
  await region.set('k', 1)
  own.disconnect()
  await t.rejects(region.delete('k'), { code: 'FST_CACHING_API_INVALIDATION_PENDING' })
  await manager.close()
  const said = logger.lines.warn.map(line => line.message).filter(message => message.startsWith('closed before'))
  t.strictSame(said, [
    'closed before other processes could be told of invalidations: their memory may keep what is to be forgotten until its time is over',
    'closed before a tier was back that is still to forget something: others may find it there until its time is over'
  ])
})
