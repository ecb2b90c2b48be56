import { randomUUID } from 'node:crypto'
import t from 'tap'
import type { Backend } from '../../../lib/backends/backend.js'
import { memory } from '../../../lib/backends/memory.js'
import { MapBackend } from '../../helpers/backend-doubles.js'
import { eventually, gate } from '../../helpers/doubles.js'
import { processOf } from '../../helpers/regions.js'

t.test('an empty tier of three methods is asked once; those who find it empty at a time agree on its stamp', async t => {
  const backend = new MapBackend()
  const { region, manager } = await processOf(t, { tiers: [backend] })
  t.equal(await region.get('nobody'), undefined)
  t.equal(backend.kept.size, 0, 'who only looks leaves nothing there')
  const both = gate()
  backend.afterRead = async () => {
    if (backend.reads.length === 3) both.open()
    await both.opened
  }
  const first = region.getOrCreate('alice', () => 1)
  await eventually(t, () => backend.reads.length === 2, 'it is asked')
  t.strictSame([await region.getOrCreate('bob', () => 2), await first], [2, 1])
  await manager.idle()
  t.strictSame(backend.reads.map(keys => keys.length), [1, 1, 1])
  t.strictSame(await region.getMany(['alice', 'bob']), [1, 2])
})

t.test("a tier of three methods of one's own is all that a region needs", async t => {
  const kept = new Map<string, Uint8Array>()
  const own: Backend = {
    name: 'own',
    getMany: async keys => keys.map(key => kept.get(key)),
    setMany: async entries => { for (const { key, value } of entries) kept.set(key, value) },
    deleteMany: async keys => { for (const key of keys) kept.delete(key) }
  }
  const namespace = randomUUID()
  const { region, manager, logger, clock } = await processOf(t, { tiers: [own], grace: '10s' }, { namespace })
  t.match(logger.lines.info, [{ message: 'region people: own has no compare-and-set: a value that is invalidated while it is loaded may be written back there, and invalidating a tag makes every value with tags be loaded anew' }])
  const other = await processOf(t, { tiers: [memory(), own], grace: '10s' }, { namespace, now: clock.now })

  t.equal(await region.getOrCreate('alice', () => 'created'), 'created')
  await region.setMany([['bob', 1], ['carol', 2]], { tags: ['team'] })
  await manager.idle()
  t.strictSame(await other.region.getMany(['alice', 'bob', 'dan', 'carol']), ['created', 1, undefined, 2])
  await region.delete('alice')
  t.equal(await region.get('alice'), undefined)
  await region.invalidateTags('team')
  t.strictSame(await region.getMany(['bob', 'carol']), [undefined, undefined])
  await region.set('bob', 3)
  t.equal(await region.get('bob'), 3)
  await region.invalidate({ soft: true })
  t.equal(await region.getOrCreate('bob', () => 4), 3)
  await manager.idle()
  t.equal(await region.get('bob'), 4)
  await region.invalidate()
  t.equal(await region.get('bob', { maxAge: Infinity }), undefined)
})
