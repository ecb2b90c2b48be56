import { randomUUID } from 'node:crypto'
import t from 'tap'
import type { CachingManagerOptions } from '../../../lib/caching-manager.js'
import { redlock } from '../../../lib/locks/redlock.js'
import { memory } from '../../../lib/backends/memory.js'
import { redis } from '../../../lib/backends/redis.js'
import { MapBackend } from '../../helpers/backend-doubles.js'
import { eventually, gate, heldLoad } from '../../helpers/doubles.js'
import { clientOf, invalidations, processOf, type ProcessOptions, tags } from '../../helpers/regions.js'
import { startRedis } from '../../helpers/servers.js'

const client = clientOf(t, (await startRedis(t, { shared: true })).port)

for (const [invalidation, invalidate] of Object.entries(invalidations)) {
  t.test(`who reads right before and right after ${invalidation} gets a value, ${invalidation === 'its deletion' ? 'by a load each' : 'by one load'}`, async t => {
    const { region } = await processOf(t, { tiers: [redis(client)] }, { lock: redlock([client]) })
    let loads = 0
    const load = () => { loads++; return 'value' }
    const before = region.getOrCreate('alice', load, { tags })
    const invalidated = invalidate(region)
    const after = region.getOrCreate('alice', load, { tags })
    t.strictSame(await Promise.all([before, after, invalidated]), ['value', 'value', undefined])
    t.equal(loads, invalidation === 'its deletion' ? 2 : 1)
  })

  t.test(`a read that ${invalidation} has overtaken on its way to the loader is not joined there`, async t => {
    const backend = new MapBackend()
    const { region } = await processOf(t, { tiers: [backend] })
    const looked = gate()
    const held = gate()
    backend.afterRead = async () => { looked.open(); await held.opened }
    const { load, begun, end } = heldLoad('old')
    const first = region.getOrCreate('alice', load, { tags })
    await looked.opened
    backend.afterRead = () => {}
    await invalidate(region)
    held.open()
    await begun
    t.equal(await region.getOrCreate('alice', () => 'new', { tags }), 'new')
    end()
    t.equal(await first, 'old')
  })
}

for (const [name, options] of Object.entries<() => [ProcessOptions, Partial<CachingManagerOptions>?]>({
  memory: () => [{ tiers: [memory()] }],
  redis: () => [{ tiers: [redis(client)] }],
  'memory + redis': () => [{ tiers: [memory(), redis(client)] }],
  "a tier of three methods of one's own": () => [{ tiers: [new MapBackend()] }],
  'memory + redis with a lock': () => [{ tiers: [memory(), redis(client)] }, { lock: redlock([client]) }]
})) {
  for (const [invalidation, invalidate] of Object.entries(invalidations)) {
    t.test(`${name}: a load that was overtaken by ${invalidation} is not written back`, async t => {
      const { region, manager } = await processOf(t, ...options())
      const { load, begun, end } = heldLoad('old')
      const first = region.getOrCreate('alice', load, { tags })
      await begun
      const joined = region.getOrCreate('alice', () => 'not called', { tags })
      await invalidate(region)
      end()
      t.strictSame(await Promise.all([first, joined]), ['old', 'old'], 'who began before gets it')
      await manager.idle()
      t.equal(await region.get('alice'), undefined)
      t.equal(await region.getOrCreate('alice', () => 'new', { tags }), 'new')
    })

    t.test(`${name}: who comes after ${invalidation} does not join the load before it`, async t => {
      const { region, manager } = await processOf(t, ...options())
      const { load, begun, end } = heldLoad('old')
      const first = region.getOrCreate('alice', load, { tags })
      await begun
      await invalidate(region)
      const second = region.getOrCreate('alice', () => 'new', { tags })
      // With a lock, that is held by the first load of this same process: the second one waits for its end.
      if (!name.endsWith('lock')) t.equal(await second, 'new')
      end()
      t.equal(await first, 'old')
      t.equal(await second, 'new')
      await manager.idle()
      // Where nothing compares, the old one may take the new one's place; it is not believed there.
      if (name.startsWith('a tier')) t.not(await region.get('alice'), 'old')
      else t.equal(await region.get('alice'), 'new')
    })
  }

  t.test(`${name}: what is set while a load is under way stays`, async t => {
    const { region, manager } = await processOf(t, ...options())
    const { load, begun, end } = heldLoad('old')
    const first = region.getOrCreate('alice', load)
    await begun
    await region.set('alice', 'new')
    end()
    t.equal(await first, 'old')
    await manager.idle()
    t.equal(await region.get('alice'), 'new')
  })

  t.test(`${name}: a refresh overtakes the loads that are under way`, async t => {
    const { region, manager } = await processOf(t, ...options())
    const { load, begun, end } = heldLoad('old')
    let fn: () => string | Promise<string> = load
    const wrapped = region.wrap('fn', () => fn())
    const first = wrapped()
    await begun
    fn = () => 'new'
    t.equal(await wrapped.refresh(), 'new')
    end()
    t.equal(await first, 'old')
    await manager.idle()
    t.equal(await wrapped.get(), 'new')
  })

  t.test(`${name}: reads, deletions and refreshes of one tick all come to an end`, async t => {
    const { region, manager } = await processOf(t, ...options())
    let calls = 0
    const wrapped = region.wrap('fn', () => ++calls, { tags })
    const values = await Promise.all([
      wrapped(), wrapped.invalidate(), wrapped(), wrapped.invalidate(), wrapped(),
      wrapped.refresh(), wrapped(), region.invalidateTags('people'), wrapped(), region.invalidate(), wrapped()
    ])
    t.equal(values.length, 11)
    await manager.idle()
    t.equal(await wrapped(), await wrapped())
  })
}

for (const [invalidation, invalidate] of Object.entries(invalidations)) {
  t.test(`a load that was overtaken in another process by ${invalidation} is not written back`, async t => {
    const namespace = randomUUID()
    const { region, manager } = await processOf(t, { tiers: [memory(), redis(client)] }, { namespace })
    const other = await processOf(t, { tiers: [memory(), redis(client)] }, { namespace })
    const { load, begun, end } = heldLoad('old')
    const first = region.getOrCreate('alice', load, { tags })
    await begun
    await invalidate(other.region)
    end()
    t.equal(await first, 'old')
    await manager.idle()
    t.equal(await other.region.get('alice'), undefined)
    await eventually(t, async () => await region.get('alice') === undefined, 'nor kept by its own memory')
  })
}

const own = clientOf(t, (await startRedis(t)).port)

t.test('a flush, or an eviction, refuses what was loaded before it, in memory too', async t => {
  for (const lose of [async () => await own.flushall(), async () => await own.unlink(...await own.keys('*:k:*'))]) {
    for (const value of ['old', NaN, { name: 'old' }]) {
      const { region, manager } = await processOf(t, { tiers: [memory(), redis(own)] })
      const { load, begun, end } = heldLoad(value)
      const first = region.getOrCreate('alice', load)
      await begun
      await lose()
      end()
      t.strictSame(await first, value)
      await manager.idle()
      t.equal(await region.get('alice'), undefined)
      await region.getOrCreate('alice', () => 'new')
      await manager.idle()
      t.equal(await region.get('alice'), 'new')
    }
  }
})
