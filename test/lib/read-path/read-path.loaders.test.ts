import { AsyncLocalStorage } from 'node:async_hooks'
import t from 'tap'
import { cachedObject, loadMany, loadOne } from '../../../lib/cached-object.js'
import { memory } from '../../../lib/backends/memory.js'
import { redis } from '../../../lib/backends/redis.js'
import { countingLoader, gate } from '../../helpers/doubles.js'
import { clientOf, processOf } from '../../helpers/regions.js'
import { startRedis } from '../../helpers/servers.js'

const client = clientOf(t, (await startRedis(t, { shared: true })).port)

t.test('a loader may read other keys, and look at its own', async t => {
  for (const tiers of [[memory()], [redis(client)]] as const) {
    const { region } = await processOf(t, { tiers })
    const value = await region.getOrCreate('a', async () => [
      await region.getOrCreate('b', async () => await region.getOrCreate('c', () => 'c')),
      await region.getOrCreate('c', () => 'not called'),
      await region.get('a')
    ])
    t.strictSame(value, ['c', 'c', undefined])
  }
})

t.test('a loader that waits for its own key gets an error instead of waiting for ever', async t => {
  const { region, manager } = await processOf(t, { tiers: [memory(), redis(client)] })
  const reentrant = (key: string) => ({ code: 'FST_CACHING_API_REENTRANT_LOAD', message: `The loader of '${region.keyspace.prefix}k:${key}' waits for its own value` })

  await t.rejects(region.getOrCreate('a', async () => await region.getOrCreate('a', () => 1)), reentrant('a'), 'directly')
  await t.rejects(region.getOrCreate('a', async () => await region.getOrCreate('b', async () => await region.getOrCreate('a', () => 1))), reentrant('a'), 'through another key')
  await t.rejects(region.getOrCreateMany(['a', 'b'], async () => [await region.getOrCreate('b', () => 1), 2]), reentrant('b'), 'through its batch')

  const rows = countingLoader([{ id: 1 }, { id: 2 }], async ids => {
    if (ids.includes(1)) await manager.createApi().get(Node, 'byName', ['one'])
  })
  const Node = cachedObject({
    name: 'Node',
    region: 'people',
    methods: {
      byId: loadMany({ load: rows.load, idOf: rows.idOf }),
      byName: loadOne(async (_context, _name: string): Promise<unknown> => await manager.createApi().get(Node, 'byId', [2]))
    }
  }) as ReturnType<typeof cachedObject>
  await t.rejects(manager.createApi().getMany(Node, 'byId', [1, 2]), { code: 'FST_CACHING_API_REENTRANT_LOAD' }, 'of a cached object, through a batch')

  t.equal(await region.getOrCreate('a', async () => await region.getOrCreate('a', () => 1).catch(() => 'caught')), 'caught')
  t.equal(await region.get('a'), 'caught')
})

t.test('two loaders that wait for each other get an error, whoever began first and whatever age they ask for', async t => {
  for (const maxAge of [undefined, 1000]) {
    const { region } = await processOf(t, { tiers: [memory(), redis(client)] })
    const read = gate()
    const loadingA = gate()
    const a = region.getOrCreate('a', async () => {
      loadingA.open()
      await read.opened
      return await region.getOrCreate('b', () => 'not called', maxAge === undefined ? {} : { maxAge })
    })
    await loadingA.opened
    const b = region.getOrCreate('b', async () => await region.getOrCreate('a', () => 'not called'))
    read.open()
    const settled = await Promise.allSettled([a, b])
    t.match(settled, Array(2).fill({ status: 'rejected', reason: { code: 'FST_CACHING_API_REENTRANT_LOAD' } }))
  }
})

t.test("loaders run outside of their caller's async context", async t => {
  const storage = new AsyncLocalStorage<string>()
  for (const tiers of [[memory()], [memory(), redis(client)]] as const) {
    const { region, clock, manager } = await processOf(t, { tiers, grace: '1h' })
    const seen: unknown[] = []
    const load = async () => { seen.push(storage.getStore()); await Promise.resolve(); return seen.push(storage.getStore()) }
    await storage.run('a request', async () => {
      await region.getOrCreate('alice', load)
      await manager.idle()
      clock.advance(10_000)
      await region.getOrCreate('alice', load)
      t.equal(storage.getStore(), 'a request', 'the caller keeps its own')
    })
    await manager.idle()
    t.strictSame(seen, [undefined, undefined, undefined, undefined])
  }
})
