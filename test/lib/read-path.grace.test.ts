import { randomUUID } from 'node:crypto'
import { Redis } from 'ioredis'
import t, { type Test } from 'tap'
import { CachingManager } from '../../lib/caching-manager.js'
import type { RegionOptions } from '../../lib/region-options.js'
import { memory } from '../../lib/tiers/memory.js'
import { redis } from '../../lib/tiers/redis.js'
import { eventually, fakeClock, gate } from '../helpers/doubles.js'
import { startRedis } from '../helpers/servers.js'

const server = await startRedis(t)

const minute = 60_000

function tierOf (t: Test) {
  const client = new Redis(server.port)
  t.teardown(() => client.disconnect())
  return redis(client)
}

/** A minute fresh, and ten seconds more in grace. */
async function processOf (t: Test, tiers: RegionOptions['tiers'], options: Partial<RegionOptions> = {}, { namespace = randomUUID() as string, clock = fakeClock() } = {}) {
  const manager = new CachingManager({ namespace, now: clock.now, regions: { people: { tiers, ttl: minute, grace: '10s', jitter: 0, tierTimeout: '20s', ...options } } })
  t.teardown(() => manager.close())
  await manager.ready()
  return { manager, region: manager.region('people'), clock }
}

for (const refresh of ['background', 'inline'] as const) {
  for (const loadTimeout of [undefined, { soft: 10, hard: 20 }]) {
    t.test(`a reload that never ends serves the stale value until its grace is over: ${refresh}, ${loadTimeout === undefined ? 'without' : 'with'} timeouts`, async t => {
      const { region, clock, manager } = await processOf(t, [memory()], { refresh, ...loadTimeout !== undefined && { loadTimeout } })
      const { opened: never, open: end } = gate()
      const loads: (() => unknown)[] = [() => 'old', async () => await never]
      const read = async () => await region.getOrCreate('k', async () => await (loads.shift() ?? (() => 'new'))())
      await read()
      await manager.idle()
      clock.advance(minute + 1)
      const first = read().catch(error => error.code)
      await eventually(t, () => loads.length === 0, 'it is reloaded')
      t.equal(await read(), 'old')
      clock.advance(minute)
      t.equal(await read(), 'new')
      t.equal(await read(), 'new', 'which is kept')
      end()
      await first
    })
  }
}

t.test('where a reload never ends, what another process has loaded is found', async t => {
  const [namespace, clock] = [randomUUID(), fakeClock()]
  const mine = await processOf(t, [tierOf(t)], { loadTimeout: { hard: 20 } }, { namespace, clock })
  const theirs = await processOf(t, [tierOf(t)], {}, { namespace, clock })
  await theirs.region.getOrCreate('k', () => 'old')
  await theirs.manager.idle()
  clock.advance(minute + 1)
  const { opened: never, open: end } = gate()
  t.equal(await mine.region.getOrCreate('k', async () => await never), 'old')
  clock.advance(minute)
  t.equal(await theirs.region.getOrCreate('k', () => 'new'), 'new')
  await theirs.manager.idle()
  t.equal(await mine.region.getOrCreate('k', () => 'newer'), 'new')
  end()
})

t.test('what is stale when a load takes too long may be gone by then', async t => {
  for (const loadTimeout of [{ soft: 1, hard: 100 }, { hard: 100 }]) {
    const { region, clock, manager } = await processOf(t, [memory()], { refresh: 'inline', loadTimeout })
    await region.getOrCreate('k', () => 'old')
    await manager.idle()
    clock.advance(minute + 1)
    const { opened: never, open: end } = gate()
    const reading = region.getOrCreate('k', async () => {
      clock.advance(minute)
      return await never
    })
    await t.rejects(reading, { code: 'FST_CACHING_API_LOAD_TIMEOUT' })
    end()
  }
})

for (const [state, age] of [['fresh', 0], ['in grace', minute + 1]] as const) {
  t.test(`who reads while a refresh is under way that fails gets what is there: ${state}`, async t => {
    const { region, clock, manager } = await processOf(t, [tierOf(t)])
    const held = gate()
    const loads: (() => unknown)[] = [() => 'old', async () => { await held.opened; throw new Error('no luck') }]
    const load = region.wrap('f', async () => await (loads.shift() ?? (() => 'new'))())
    await load()
    await manager.idle()
    clock.advance(age)
    const failing = t.rejects(load.refresh(), { message: 'no luck' })
    await eventually(t, () => loads.length === 0, 'it loads')
    t.equal(await load(), 'old')
    held.open()
    await failing
  })
}

t.test('who reads what is not there, while a refresh is under way, waits for it', async t => {
  const { region } = await processOf(t, [tierOf(t)])
  const held = gate()
  let calls = 0
  const load = region.wrap('f', async () => { calls++; await held.opened; return 'new' })
  const refreshed = load.refresh()
  await eventually(t, () => calls === 1, 'it loads')
  const read = load()
  await load.get()
  held.open()
  t.strictSame([await read, await refreshed, calls], ['new', 'new', 1])
})

t.test('a hard timeout is for the load, and not for what a refresh has to tell others', async t => {
  // In the first moments of a process, others have to be waited for.
  const { region, manager } = await processOf(t, [memory(), tierOf(t)], { loadTimeout: { hard: 50 } })
  const load = region.wrap('f', () => 'v')
  const refreshed = load.refresh()
  t.equal(await refreshed, 'v')
  await manager.idle()
})
