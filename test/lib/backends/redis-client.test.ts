import { once } from 'node:events'
import { Cluster, Redis } from 'ioredis'
import t from 'tap'
import { redlock } from '../../../lib/locks/redlock.js'
import { isLeasing } from '../../../lib/backends/backend.js'
import { useRedis } from '../../../lib/backends/redis-client.js'
import { redis } from '../../../lib/backends/redis.js'
import { startRedisCluster } from '../../helpers/servers.js'

const cluster = await startRedisCluster(t)

t.test('a connection to a node that is lost just after ASKING does not end the process', async t => {
  const unhandled: unknown[] = []
  const note = (reason: unknown): void => { unhandled.push(reason) }
  process.on('unhandledRejection', note)
  t.teardown(() => process.off('unhandledRejection', note))

  for (const when of ['before it knows its nodes', 'when it is connected']) {
    const client = new Cluster([...cluster.addresses])
    t.teardown(() => client.disconnect())
    if (when === 'before it knows its nodes') useRedis(client, 'client')
    await once(client, 'ready')
    for (let times = 0; times < 2; times++) t.equal(useRedis(client, 'client'), client)
    const nodes = client.nodes('master')
    t.equal(nodes.length, 3)
    for (const node of nodes) {
      t.equal(await node.asking(), 'OK', 'asked as before')
      void node.asking() // as ioredis does it
      node.stream.destroy()
      await once(node, 'end')
    }
    await new Promise(setImmediate)
    t.strictSame(unhandled, [], when)
  }
})

t.test('the order of commands is relied on only where the client keeps it', async t => {
  for (const [options, keeps] of [
    [{}, true],
    [{ reconnectOnError: null }, true],
    [{ reconnectOnError: (error: Error) => error.message.startsWith('READONLY') ? 2 : false }, false],
    [{ enableAutoPipelining: true }, false]
  ] as const) {
    const client = new Redis({ ...options, lazyConnect: true })
    const backend = redis(client)
    t.equal(isLeasing(backend) && backend.connection, keeps ? client : undefined)
    t.equal(redlock([client]).connection, keeps ? client : undefined)
    await backend.close?.()
  }
})
