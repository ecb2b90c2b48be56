import { randomUUID } from 'node:crypto'
import { Redis } from 'ioredis'
import { mock } from 'node:test'
import t, { type Test } from 'tap'
import { CachingManager } from '../../../lib/caching-manager.js'
import type { DogpileLock } from '../../../lib/locks/lock.js'
import { redlock } from '../../../lib/locks/redlock.js'
import type { RegionOptions } from '../../../lib/region-options.js'
import { memory } from '../../../lib/backends/memory.js'
import { redis } from '../../../lib/backends/redis.js'
import { eventually, fakeClock, gate } from '../../helpers/doubles.js'
import { startRedis } from '../../helpers/servers.js'

const server = await startRedis(t)

const minute = 60_000

function tierOf (t: Test) {
  const client = new Redis(server.port)
  t.teardown(() => client.disconnect())
  return redis(client)
}

/** A minute fresh, and ten seconds more in grace. */
async function processOf (t: Test, tiers: RegionOptions['tiers'], options: Partial<RegionOptions> = {}, { namespace = randomUUID() as string, clock = fakeClock(), lock }: { namespace?: string, clock?: ReturnType<typeof fakeClock>, lock?: DogpileLock } = {}) {
  const manager = new CachingManager({ namespace, ...lock !== undefined && { lock }, now: clock.now, regions: { people: { tiers, ttl: minute, grace: '10s', jitter: 0, tierTimeout: '20s', ...options } } })
  t.teardown(() => manager.close())
  await manager.ready()
  return { manager, region: manager.region('people'), clock }
}

for (const refresh of ['background', 'inline'] as const) {
  for (const loadTimeout of [undefined, { soft: 10, hard: 20 }]) {
    t.test(`a reload that never ends serves the stale value until its grace is over: ${refresh}, ${loadTimeout === undefined ? 'without' : 'with'} timeouts`, async t => {
      const { region, clock, manager } = await processOf(t, [memory()], { refresh, ...loadTimeout !== undefined && { loadTimeout } })
      const { opened: never, open: end } = gate()
      const loads: (() => unknown)[] = [() => 'old', async () => { await never; return 'late' }]
      const read = async () => await region.getOrCreate('k', async () => await (loads.shift() ?? (() => 'new'))())
      await read()
      await manager.idle()
      clock.advance(minute + 1)
      const first = read().catch(error => error.code)
      await eventually(t, () => loads.length === 0, 'it is reloaded')
      t.equal(await read(), 'old')
      clock.advance(minute)
      const reading = read()
      if (loadTimeout === undefined) {
        await new Promise(setImmediate) // it waits for the load by then
        end()
        t.equal(await reading, 'late')
      } else {
        await t.rejects(reading, { code: 'FST_CACHING_API_LOAD_TIMEOUT' })
        await t.rejects(read(), { code: 'FST_CACHING_API_LOAD_TIMEOUT' }, 'who comes later waits as long, for the same load')
        end()
        await manager.idle()
      }
      t.equal(await read(), 'late')
      await Promise.allSettled([first, reading])
    })
  }
}

t.test('when a load has taken more than a minute, others may try, and nothing of it is kept', async t => {
  const { region, manager } = await processOf(t, [memory()])
  mock.timers.enable({ apis: ['setTimeout'] })
  t.teardown(() => mock.timers.reset())
  const { opened: held, open } = gate()
  const loading = gate()
  const first = region.getOrCreate('k', async () => { loading.open(); await held; return 'late' })
  await loading.opened
  mock.timers.tick(minute)
  t.equal(await region.getOrCreate('k', () => 'new'), 'new')
  open()
  t.equal(await first, 'late')
  mock.timers.reset()
  await manager.idle()
  t.equal(await region.get('k'), 'new')
})

t.test('a refresh that has taken more than a minute leaves nothing old', async t => {
  for (const tiers of [[memory()], [memory(), tierOf(t)]] as const) {
    const { region, manager } = await processOf(t, tiers)
    const [loading, held] = [gate(), gate()]
    const loads: (() => unknown)[] = [() => 'old', async () => { loading.open(); await held.opened; return 'new' }]
    const load = region.wrap('f', async () => await (loads.shift() ?? (() => 'newer'))())
    await load()
    await manager.idle()
    mock.timers.enable({ apis: ['setTimeout'] })
    t.teardown(() => mock.timers.reset())
    const refreshed = load.refresh()
    await loading.opened
    mock.timers.tick(minute)
    mock.timers.reset()
    held.open()
    t.equal(await refreshed, 'new')
    t.equal(await load(), 'newer')
  }
})

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

t.test('while a refresh is under way, stale values are served, and reloaded once', async t => {
  for (const refresh of ['background', 'inline'] as const) {
    const { region, clock, manager } = await processOf(t, [memory(), tierOf(t)], { refresh })
    const held = gate()
    const loads: (() => unknown)[] = [() => 'old', async () => { await held.opened; return 'refreshed' }, () => 'reloaded']
    const load = region.wrap('f', async () => await (loads.shift() ?? (() => t.fail('a load too many')))())
    await load()
    await manager.idle()
    clock.advance(minute + 1)
    const refreshed = load.refresh()
    await eventually(t, () => loads.length === 1, 'it loads')
    const reads = await Promise.all(Array.from({ length: 100 }, async () => await load()))
    t.strictSame(new Set(reads), new Set(refresh === 'background' ? ['old'] : ['reloaded', 'old']))
    t.equal(reads.filter(value => value === 'reloaded').length, refresh === 'background' ? 0 : 1)
    await eventually(t, () => loads.length === 0, 'it is reloaded')
    held.open()
    t.equal(await refreshed, 'refreshed')
    t.not(await load(), 'old')
  }
})

t.test('two loaders that wait for each other’s key are told so, though one is a refresh’s', async t => {
  for (const tiers of [[memory()], [memory(), tierOf(t)]] as const) {
    const { region } = await processOf(t, tiers)
    const [a, b] = [gate(), gate()]
    const calls: string[] = []
    const loadA = region.wrap('a', async (): Promise<string> => { calls.push('a'); await a.opened; return `a${await loadB()}` })
    const loadB = region.wrap('b', async (): Promise<string> => { calls.push('b'); await b.opened; return `b${await loadA()}` })
    const refreshed = loadB.refresh()
    await eventually(t, () => calls.includes('b'), 'one loads')
    const read = loadA()
    await eventually(t, () => calls.includes('a'), 'the other one loads')
    a.open()
    b.open()
    for (const one of [refreshed, read]) await t.rejects(one, { code: 'FST_CACHING_API_REENTRANT_LOAD' })
  }
})

for (const [what, value, options] of [
  ['no row', null, {}],
  ['no value', undefined, {}],
  ['a value that is not to be cached', 'private', { shouldCache: (value: unknown) => value !== 'private' }],
  ['a value that cannot be copied', () => {}, {}]
] as const) {
  t.test(`a reload that gives ${what} ends the grace of the old one`, async t => {
    for (const tiers of [[memory()], [tierOf(t)], [memory(), tierOf(t)]] as const) {
      const { region, clock, manager } = await processOf(t, tiers, { negativeTtl: 0 })
      const database = { value: 'old' as unknown }
      const load = region.wrap('f', () => database.value, options)
      await load()
      await manager.idle()
      clock.advance(minute + 1)
      database.value = value
      t.equal(await load(), 'old')
      await manager.idle()
      t.equal(await load(), value)
    }
  })
}

t.test('what somebody has set meanwhile is not taken for the old one', async t => {
  const [namespace, clock] = [randomUUID(), fakeClock()]
  const mine = await processOf(t, [tierOf(t)], {}, { namespace, clock })
  const theirs = await processOf(t, [tierOf(t)], {}, { namespace, clock })
  const held = gate()
  const loads: (() => unknown)[] = [() => 'old', async () => { await held.opened }]
  const load = mine.region.wrap('f', async () => await (loads.shift() ?? (() => 'new'))())
  await load()
  await mine.manager.idle()
  clock.advance(minute + 1)
  await load()
  await eventually(t, () => loads.length === 0, 'it is reloaded')
  await theirs.region.wrap('f', () => '').set('set')
  held.open()
  await mine.manager.idle()
  t.equal(await load(), 'set')
})

t.test('who can do with nothing stale waits for another process that reloads', async t => {
  const [namespace, clock] = [randomUUID(), fakeClock()]
  const lockOf = () => {
    const client = new Redis(server.port)
    t.teardown(() => client.disconnect())
    return redlock([client])
  }
  const theirs = await processOf(t, [tierOf(t)], {}, { namespace, clock, lock: lockOf() })
  const mine = await processOf(t, [tierOf(t)], {}, { namespace, clock, lock: lockOf() })
  await theirs.region.getOrCreate('k', () => 'old')
  await theirs.manager.idle()
  clock.advance(minute + 1)
  const [held, loading] = [gate(), gate()]
  await theirs.region.getOrCreate('k', async () => { loading.open(); await held.opened; return 'new' })
  await loading.opened
  const [any, young] = [{}, { maxAge: 1000 }].map(options => mine.region.getOrCreate('k', () => t.fail('one loads'), options))
  t.equal(await any, 'old')
  held.open()
  t.equal(await young, 'new')
})

t.test('a hard timeout is for the load, and not for what a refresh has to tell others', async t => {
  // In the first moments of a process, others have to be waited for.
  const { region, manager } = await processOf(t, [memory(), tierOf(t)], { loadTimeout: { hard: 50 } })
  const load = region.wrap('f', () => 'v')
  const refreshed = load.refresh()
  t.equal(await refreshed, 'v')
  await manager.idle()
})

t.test('a loader that has got a stale value waits no more for whoever reloads it, who may ask for what it loads', async t => {
  const namespace = randomUUID()
  const client = new Redis(server.port)
  t.teardown(() => client.disconnect())
  const tier = redis(client)
  const theirs = await processOf(t, [tierOf(t)], {}, { namespace })
  const { region, clock } = await processOf(t, [tier], { refresh: 'inline' }, { namespace, lock: redlock([client]) })
  clock.advance(minute + 1)
  const [loading, asked, found, held] = [gate(), gate(), gate(), gate()]
  const a = region.getOrCreate('a', async () => {
    loading.open()
    await asked.opened
    return `a ${await region.getOrCreate('b', () => t.fail('one loads'), { maxAge: minute - 1 })}`
  })
  await loading.opened
  const getMany = tier.getMany.bind(tier)
  tier.getMany = async keys => {
    const entries = await getMany(keys)
    tier.getMany = getMany
    found.open()
    await held.opened
    return entries
  }
  const b = region.getOrCreate('b', async () => `b ${await region.getOrCreate('a', () => t.fail('it is loaded'))}`)
  asked.open()
  await found.opened
  await theirs.region.getOrCreate('b', () => 'old') // between the look and the one that comes with the claim
  await theirs.manager.idle()
  held.open()
  t.equal(await b, 'b a old')
  t.equal(await a, 'a old')
})

t.test('who reads when the lease is over joins nobody who has brought a stale value from memory before', async t => {
  const client = new Redis(server.port)
  t.teardown(() => client.disconnect())
  const clock = fakeClock()
  const lease = 200
  const namespace = randomUUID()
  const manager = new CachingManager({ namespace, lineLease: lease, now: clock.now, regions: { people: { tiers: [memory(), redis(client)], ttl: minute, grace: '10s', jitter: 0, refresh: 'inline' } } })
  t.teardown(() => manager.close())
  await manager.ready()
  const region = manager.region('people')
  await region.set('k', 'old')
  await client.del(`${namespace}:people:k:k`)
  clock.advance(minute + 1)
  const read = async () => await region.getOrCreate('k', () => 'new')
  const first = read()
  for (const started = performance.now(); performance.now() - started <= lease;); // nothing is heard in one tick
  t.equal(await read(), 'new')
  t.equal(await first, 'old', 'who has begun before may have it')
})
