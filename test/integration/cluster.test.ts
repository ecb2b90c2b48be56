import { randomUUID } from 'node:crypto'
import { Cluster } from 'ioredis'
import t, { type Test } from 'tap'
import { CachingManager } from '../../lib/caching-manager.js'
import { redlock } from '../../lib/locks/redlock.js'
import { memory } from '../../lib/backends/memory.js'
import { redis } from '../../lib/backends/redis.js'
import { eventually } from '../helpers/doubles.js'
import { ReplicatedCluster } from '../torture/cluster.js'

const cluster = await ReplicatedCluster.start(t)

/** One process of an application. */
async function processOf (t: Pick<Test, 'teardown'>, namespace: string) {
  const client = new Cluster(cluster.nodes.map(({ host, port }) => ({ host, port })))
  client.on('error', () => {})
  t.teardown(() => client.disconnect())
  const manager = new CachingManager({ namespace, lock: redlock([client]), regions: { rows: { tiers: [memory(), redis(client)], ttl: '1h', jitter: 0 } } })
  t.teardown(() => manager.close())
  await manager.ready()
  return { manager, region: manager.region('rows') }
}

/**
 * Until it is over, a row is changed and forgotten in one process and read in both. Resolves to how often.
 * @throws where somebody reads what was forgotten
 */
async function whileItLasts (trouble: Promise<void>, [mine, theirs]: readonly Awaited<ReturnType<typeof processOf>>[], t: Test): Promise<number> {
  let [version, rounds] = [0, 0]
  const its = { over: false }
  const end = () => { its.over = true }
  trouble.then(end, end)
  while (!its.over) {
    version++
    const isForgotten = await mine!.region.delete('k').then(() => true, (error: { code: string }) => {
      if (error.code !== 'FST_CACHING_API_INVALIDATION_PENDING') throw error
      return false
    })
    for (const { region } of [mine!, theirs!]) {
      const read = await region.getOrCreate('k', () => version)
      if (region === mine!.region || isForgotten) t.equal(read, version, isForgotten ? 'forgotten' : 'pending')
    }
    rounds++
  }
  await trouble
  return rounds
}

/** What one process writes, another finds in the Cluster. */
async function isUsed (t: Test, [mine, theirs]: readonly Awaited<ReturnType<typeof processOf>>[]): Promise<void> {
  await eventually(t, async () => {
    const key = randomUUID()
    await mine!.region.getOrCreate(key, () => 'written')
    await mine!.manager.idle()
    const api = theirs!.manager.createApi()
    return await api.region('rows').get(key) === 'written' && api.stats.tiers['redis'] === 1
  }, 'the Cluster is used')
  await mine!.region.delete('anything') // by now they know each other
}

t.test('a slot that moves while its values are read, filled and forgotten: nothing old is found', async t => {
  const namespace = randomUUID()
  const processes = [await processOf(t, namespace), await processOf(t, namespace)]
  await isUsed(t, processes)
  for (const key of [`${namespace}:rows:k:k`, `{${namespace}:rows}:stamp`]) {
    const slot = await cluster.slotOf(key)
    t.ok(await whileItLasts(cluster.move(slot, 100), processes, t) > 1, key)
    await cluster.settled()
  }
  await isUsed(t, processes)
})

t.test('a master that dies, and whose replica takes over: reads are answered, and nothing old is found', async t => {
  const namespace = randomUUID()
  const processes = [await processOf(t, namespace), await processOf(t, namespace)]
  await isUsed(t, processes)
  const master = await cluster.masterOf(`${namespace}:rows:k:k`)
  t.ok(await whileItLasts(cluster.failover(master, 500, () => () => {}), processes, t) > 1)
  await cluster.settled()
  await isUsed(t, processes)
})
