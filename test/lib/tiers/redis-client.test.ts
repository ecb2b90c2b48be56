import { once } from 'node:events'
import { Cluster } from 'ioredis'
import t from 'tap'
import { useRedis } from '../../../lib/tiers/redis-client.js'
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
