import t from 'tap'
import { CachingManager } from '../../lib/caching-manager.js'
import { memory } from '../../lib/backends/memory.js'

t.test('setMany takes any list of pairs, and refuses what would write nothing', async t => {
  const manager = new CachingManager({ regions: { objects: { tiers: [memory()], ttl: 1000 } } })
  t.teardown(() => manager.close())
  const region = manager.region('objects')
  const pairs = function * () { yield ['g', 1] as const }
  for (const entries of [[['a', 1]], new Map([['m', 1]]), pairs(), []]) await region.setMany(entries as Iterable<[string, number]>)
  t.strictSame(await region.getMany(['a', 'm', 'g']), [1, 1, 1])
  for (const [entries, got] of [[{ a: 1 }, 'an object'], ['ab', "'ab'"], [null, 'null'], [undefined, 'undefined'], [['ab'], "'ab'"], [new Set(['x']), "'x'"]] as const) {
    await t.rejects(region.setMany(entries as never), {
      code: 'FST_CACHING_API_INVALID_ARGUMENT',
      message: `entries must be pairs of a key and a value: an array of them, or a Map, got ${got}`
    })
  }
})

t.test('a set or a deletion of nothing asks nobody, and fails with nobody', async t => {
  let asked = 0
  const away = async () => {
    asked++
    throw new Error('away')
  }
  const manager = new CachingManager({ regions: { objects: { tiers: [{ name: 'away', getMany: away, setMany: away, deleteMany: away }], ttl: 1000 } } })
  t.teardown(() => manager.close())
  const region = manager.region('objects')
  await region.setMany([])
  t.equal(asked, 0)
  for (let i = 0; i < 3; i++) await t.rejects(region.deleteMany(['a']), { code: 'FST_CACHING_API_INVALIDATION_PENDING' })
  await region.deleteMany([])
  await region.setMany([])
})
