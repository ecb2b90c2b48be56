import { randomUUID } from 'node:crypto'
import { Redis } from 'ioredis'
import t, { type Test } from 'tap'
import { CachingManager } from '../../../lib/caching-manager.js'
import { cachedObject, loadOne } from '../../../lib/cached-object.js'
import type { Line } from '../../../lib/line.js'
import type { DogpileLock } from '../../../lib/locks/lock.js'
import { redlock } from '../../../lib/locks/redlock.js'
import type { Region } from '../../../lib/region.js'
import type { RegionOptions } from '../../../lib/region-options.js'
import type { Backend, LeasingBackend } from '../../../lib/backends/backend.js'
import { memory } from '../../../lib/backends/memory.js'
import { redis } from '../../../lib/backends/redis.js'
import { echoingLine, eventually, fakeClock, gate, type Gate } from '../../helpers/doubles.js'
import { startRedis } from '../../helpers/servers.js'

const server = await startRedis(t)

function clientOf (t: Pick<Test, 'teardown'>): Redis {
  const client = new Redis(server.port)
  t.teardown(() => client.disconnect())
  return client
}

/** A tier on Redis. Before each of its methods, and before its answer comes, something else may happen. */
function interruptible (t: Test) {
  const before: Partial<Record<keyof LeasingBackend, () => unknown>> = {}
  const after: typeof before = {}
  const own = redis(clientOf(t)) as LeasingBackend
  const backend: LeasingBackend = new Proxy(own, {
    get: (target, name: keyof LeasingBackend) => {
      const member: unknown = Reflect.get(target, name, target)
      if (typeof member !== 'function') return member
      return async (...args: unknown[]) => {
        await before[name]?.()
        const answer: unknown = await member.apply(target, args)
        await after[name]?.()
        return answer
      }
    }
  })
  return { backend, before, after }
}

/** One that the test holds up, when it has found what is there. */
interface Look { readonly found: Gate, readonly late: Gate }

/** What one process has of a region. Another one of the same namespace is another process, as far as the region knows. */
async function processOf (t: Test, tiers: RegionOptions['tiers'], { namespace = randomUUID() as string, bus, lock, ...options }: Partial<RegionOptions> & { namespace?: string, bus?: Line, lock?: DogpileLock } = {}) {
  const clock = fakeClock()
  const manager = new CachingManager({ namespace, ...bus !== undefined && { bus }, ...lock !== undefined && { lock }, now: clock.now, regions: { people: { tiers: [...tiers], ttl: '60s', jitter: 0, tierTimeout: '20s', ...options } } })
  t.teardown(() => manager.close())
  await manager.ready()
  return { manager, region: manager.region('people'), clock }
}

/** A function whose results the test changes. */
function source<T> (region: Region, first: T, options = {}) {
  const it = { value: first as unknown, calls: 0, next: undefined as (() => Promise<T>) | undefined }
  const wrapped = region.wrap('load', async () => {
    it.calls++
    const { next } = it
    it.next = undefined
    return next === undefined ? it.value as T : await next()
  }, options)
  return Object.assign(wrapped, { it })
}

const tiersOf: Record<string, (t: Test) => RegionOptions['tiers']> = {
  memory: () => [memory()],
  Redis: t => [redis(clientOf(t))],
  'memory and Redis': t => [memory(), redis(clientOf(t))],
  'two of Redis': t => [redis(clientOf(t)), redis(clientOf(t), { keyPrefix: randomUUID() })]
}

for (const [name, tiers] of Object.entries(tiersOf)) {
  t.test(`over ${name}`, async t => {
    for (const [what, value, options] of [
      ['no value at all', undefined, {}],
      ['a value that is not to be cached', 'private', { shouldCache: (value: unknown) => value !== 'private' }],
      ['a value that cannot be copied', () => {}, {}]
    ] as const) {
      t.test(`after a refresh that gives ${what}, the old value is not found`, async t => {
        const { region, manager } = await processOf(t, tiers(t), { negativeTtl: 0 })
        const load = source(region, 'old', options)
        await load()
        await manager.idle()
        load.it.value = value
        t.equal(await load.refresh(), value)
        t.equal(await load.get(), undefined)
        t.equal(await load(), value)
      })
    }

    t.test('the earlier of two refreshes, of which the later one fails, leaves nothing old', async t => {
      const { region, manager } = await processOf(t, tiers(t))
      const load = source(region, 'old')
      await load()
      await manager.idle()
      const held = gate()
      load.it.next = async () => { await held.opened; return 'new' }
      const first = load.refresh()
      await eventually(t, () => load.it.calls === 2, 'the first one loads')
      load.it.next = async () => { throw new Error('no luck') }
      await t.rejects(load.refresh(), { message: 'no luck' })
      held.open()
      t.equal(await first, 'new')
      load.it.value = 'new'
      t.equal(await load(), 'new')
    })

    t.test('a refresh that a set has overtaken leaves what was set', async t => {
      const { region, manager } = await processOf(t, tiers(t))
      const load = source(region, 'old')
      const held = gate()
      load.it.next = async () => { await held.opened; return 'new' }
      const refreshed = load.refresh()
      await eventually(t, () => load.it.calls === 1, 'it loads')
      await load.set('set')
      held.open()
      t.equal(await refreshed, 'new')
      await manager.idle()
      t.equal(await load.get(), 'set')
    })
  })
}

t.test('a value that the serializer refuses replaces the old one by nothing', async t => {
  const refuse = { on: false }
  const serializer = {
    encode: (value: unknown) => { if (refuse.on) throw new Error('refused'); return Buffer.from(JSON.stringify(value)) },
    decode: (bytes: Uint8Array) => JSON.parse(Buffer.from(bytes).toString()) as unknown
  }
  const { region, manager } = await processOf(t, [redis(clientOf(t))], { serializer })
  const load = source(region, 'old')
  await load()
  await manager.idle()
  refuse.on = true
  load.it.value = 'new'
  t.equal(await load.refresh(), 'new')
  t.equal(await load.get(), undefined)
})

t.test('a row that is gone is gone for the next request, when it is loaded anew', async t => {
  const { manager } = await processOf(t, [memory()], { negativeTtl: 0 })
  const database = { row: { id: 1 } as { id: number } | undefined }
  const City = cachedObject({ name: 'City', region: 'people', methods: { getById: loadOne(async (_context, _id: number) => database.row) } })
  t.strictSame(await manager.createApi().get(City, 'getById', [1]), { id: 1 })
  database.row = undefined
  t.equal(await manager.createApi().refresh(City, 'getById', [1]), null)
  t.equal(await manager.createApi().get(City, 'getById', [1]), null)
})

t.test('what a refresh could not claim in a tier is not found there when the tier is back', async t => {
  const namespace = randomUUID()
  const { backend, before } = interruptible(t)
  const { region, manager } = await processOf(t, [memory(), backend], { namespace })
  const { region: theirs } = await processOf(t, [redis(clientOf(t))], { namespace })
  const load = source(region, 'old')
  const others = source(theirs, 'new')
  await load()
  await manager.idle()
  t.equal(await others.get(), 'old')
  const away = () => { throw new Error('away') }
  Object.assign(before, { leaseMany: away, forgetMany: away })
  load.it.value = 'new'
  t.equal(await load.refresh(), 'new')
  before.forgetMany = undefined!
  await eventually(t, async () => await others.get() === undefined, 'it is replayed')
})

t.test('two refreshes in two processes, of which the later one fails, leave nothing old', async t => {
  const namespace = randomUUID()
  const [mine, theirs] = [await processOf(t, [memory(), redis(clientOf(t))], { namespace }), await processOf(t, [memory(), redis(clientOf(t))], { namespace })]
  const [first, second] = [source(mine.region, 'old'), source(theirs.region, 'old')]
  await first()
  await second()
  await Promise.all([mine.manager.idle(), theirs.manager.idle()])
  const [held, heldToo] = [gate(), gate()]
  first.it.next = async () => { await held.opened; return 'new' }
  const refreshed = first.refresh()
  await eventually(t, () => first.it.calls === 2, 'one loads')
  second.it.next = async () => { await heldToo.opened; throw new Error('no luck') }
  const failing = t.rejects(second.refresh(), { message: 'no luck' })
  await eventually(t, () => second.it.calls === 1, 'the other one has taken over')
  held.open()
  t.equal(await refreshed, 'new')
  heldToo.open()
  await failing
  first.it.value = second.it.value = 'new'
  t.strictSame([await first(), await second()], ['new', 'new'])
})

for (const tags of [[], ['t']]) {
  t.test(`a set that another process’s invalidation has overtaken ${tags.length > 0 ? 'by its tag ' : ''}is nowhere, though its claim came after that`, async t => {
    const namespace = randomUUID()
    const { backend, before } = interruptible(t)
    const { region } = await processOf(t, [memory(), backend], { namespace })
    const { region: theirs } = await processOf(t, [memory(), redis(clientOf(t))], { namespace })
    await region.set('k', 'v0', { tags })
    t.equal(await theirs.get('k'), 'v0')
    const [asked, late] = [gate(), gate()]
    before.leaseMany = async () => { asked.open(); await late.opened }
    const set = region.set('k', 'v1', { tags })
    await asked.opened
    t.equal(await region.get('k'), 'v1', 'where it was set')
    if (tags.length > 0) await theirs.invalidateTags('t')
    else await theirs.delete('k')
    late.open()
    await set
    for (const one of [region, theirs]) t.equal(await one.get('k'), undefined)
  })
}

for (const [what, tags, invalidate] of [
  ['an invalidation of its key', [], async theirs => await theirs.delete('k')],
  ['an invalidation of its tag', ['t'], async theirs => await theirs.invalidateTags('t')],
  ['an invalidation of the region', [], async theirs => await theirs.invalidate()]
] as [string, string[], (theirs: Region) => Promise<void>][]) {
  t.test(`a set that ${what} has overtaken is nowhere, though the line was lost that would have told of it`, async t => {
    const namespace = randomUUID()
    const { backend, before } = interruptible(t)
    const { line, interrupt } = echoingLine() // what the other process says isn't heard here
    const { region } = await processOf(t, [memory(), backend], { namespace, bus: line })
    const { region: theirs } = await processOf(t, [redis(clientOf(t))], { namespace })
    await region.set('k', 'v0', { tags })
    const [asked, late] = [gate(), gate()]
    before.leaseMany = async () => { asked.open(); await late.opened }
    const set = region.set('k', 'v1', { tags })
    await asked.opened
    await invalidate(theirs)
    interrupt()
    late.open()
    await set
    for (const one of [region, theirs]) t.equal(await one.get('k'), undefined)
  })
}

t.test('what a process sets before it hears of others is there when it does', async t => {
  const { backend, before } = interruptible(t)
  const { line } = echoingLine()
  const heard = gate()
  const manager = new CachingManager({ namespace: randomUUID(), bus: { ...line, catchUp: async () => await heard.opened } as Line, regions: { people: { tiers: [memory(), backend], ttl: '60s', tierTimeout: '20s' } } })
  t.teardown(() => manager.close())
  const region = manager.region('people')
  const [asked, late] = [gate(), gate()]
  before.fillMany = async () => { asked.open(); await late.opened }
  const set = Promise.all([region.set('k', 'set'), region.set('tagged', 'set', { tags: ['t'] })])
  await asked.opened
  heard.open()
  await manager.ready()
  late.open()
  await set
  t.strictSame(await region.getMany(['k', 'tagged']), ['set', 'set'])
})

t.test('what a look finds late does not take the place of what a refresh has put into memory', async t => {
  for (const answered of ['before it is written', 'afterwards']) {
    const namespace = randomUUID()
    const { backend, before, after } = interruptible(t)
    const [found, late, loaded] = [gate(), gate(), gate()]
    after.getMany = async () => {
      found.open()
      await late.opened
    }
    const { region: theirs, manager } = await processOf(t, [redis(clientOf(t))], { namespace })
    await source(theirs, 'old')()
    await manager.idle()
    const { region } = await processOf(t, [memory(), backend], { namespace })
    const load = source(region, 'new')
    load.it.next = async () => { await loaded.opened; return 'new' }
    const refreshed = load.refresh()
    await eventually(t, () => load.it.calls === 1, 'it loads')
    const look = load.get()
    await found.opened
    if (answered === 'before it is written') {
      before.fillMany = async () => {
        late.open()
        t.equal(await look, 'old')
      }
    }
    loaded.open()
    t.equal(await refreshed, 'new')
    late.open()
    t.equal(await look, 'old')
    t.equal(await load.get(), 'new', answered)
  }
})

t.test('what a load’s claim finds late does not take the place of what a set has put into memory', async t => {
  const namespace = randomUUID()
  const [mine, theirs] = [await processOf(t, [memory(), redis(clientOf(t))], { namespace }), await processOf(t, [memory(), redis(clientOf(t))], { namespace })]
  await theirs.region.set('k', 'v1') // whereupon this process looks no more before it claims
  const [read] = await Promise.all([mine.region.getOrCreate('k', () => 'loaded'), mine.region.set('k', 'v2')])
  t.match(read, /^(v1|v2|loaded)$/)
  await mine.manager.idle()
  for (const { region } of [mine, theirs]) t.equal(await region.get('k'), 'v2')
})

t.test('a refresh that finds nothing to keep leaves what was set meanwhile', async t => {
  const { region } = await processOf(t, [memory(), redis(clientOf(t))])
  const load = source<string | undefined>(region, 'old')
  const held = gate()
  load.it.next = async () => { await held.opened; return undefined }
  const refreshed = load.refresh()
  await eventually(t, () => load.it.calls === 1, 'it loads')
  await load.set('set')
  held.open()
  t.equal(await refreshed, undefined)
  t.equal(await load.get(), 'set')
})

t.test('who waits for the load of another, which fails, gets his own stale value', async t => {
  for (const order of [[{}, { maxAge: 1000 }], [{ maxAge: 1000 }, {}]]) {
    const { region, clock } = await processOf(t, [memory()], { grace: '60s', refresh: 'inline' })
    await region.set('k', 'old')
    clock.advance(70_000)
    const reads = order.map(options => region.getOrCreate('k', () => { throw new Error('no luck') }, options))
    const results = await Promise.allSettled(reads)
    t.match(results.map((result, i) => 'maxAge' in order[i]! ? result.status : (result as { value?: unknown }).value), order.map(options => 'maxAge' in options ? 'rejected' : 'old'))
  }
})

t.test('of one key that is set twice at once, the last value stays', async t => {
  const namespace = randomUUID()
  const { region } = await processOf(t, [memory(), redis(clientOf(t))], { namespace })
  const { region: theirs } = await processOf(t, [redis(clientOf(t))], { namespace })
  await region.setMany([['a', 1], ['b', 1], ['a', 2]])
  for (const one of [region, theirs]) t.strictSame(await one.getMany(['a', 'b']), [2, 1])
})

t.test('a set that is invalidated while it is written, or by a refresh that fails, is not found', async t => {
  for (const how of ['delete', 'refresh'] as const) {
    const { backend, before } = interruptible(t)
    const { region } = await processOf(t, [memory(), backend])
    const load = source(region, 'old')
    await load()
    let overtaking: Promise<unknown> | undefined
    before.fillMany = () => {
      before.fillMany = undefined!
      if (how === 'delete') overtaking = load.invalidate()
      else {
        load.it.next = async () => { throw new Error('no luck') }
        overtaking = t.rejects(load.refresh(), { message: 'no luck' })
      }
    }
    await load.set('set')
    await overtaking
    t.not(await load.get(), 'old', how)
  }
})

t.test('who reads after a tag was invalidated gets no stale value of a load that took off before', async t => {
  for (const refresh of ['background', 'inline'] as const) {
    const { region, clock, manager } = await processOf(t, [memory()], { ttl: '1s', grace: '60s', refresh })
    const database = { value: 'old' }
    const read = async () => await region.getOrCreate('k', () => database.value, { tags: ['t'] })
    await read()
    await manager.idle() // all of the following is in one tick
    clock.advance(2000)
    const before = read()
    database.value = 'new'
    await region.invalidateTags('t')
    const after = read()
    await region.invalidateTags('another')
    t.equal(await after, 'new', refresh)
    await before
  }
})

t.test('of several who want a key in one tick, one carries nothing stale from before an invalidation: that one loads for all', async t => {
  const { region, clock, manager } = await processOf(t, [memory()], { ttl: '10s', grace: '60s', refresh: 'inline' })
  let loads = 0
  const read = async (maxAge?: number) => await region.getOrCreate('k', () => ++loads, { tags: ['t'], ...maxAge !== undefined && { maxAge } })
  await read()
  await manager.idle()
  clock.advance(62_000)
  const reads = [read(1000), read()]
  await region.invalidateTags('t')
  reads.push(read())
  t.strictSame([await Promise.all(reads), loads], [[2, 1, 2], 2], 'who began before the invalidation may have what is stale')
})

t.test('who joins a reload gets no stale value that is too old for him', async t => {
  for (const tiers of [[memory()], [redis(clientOf(t))]] as [Backend][]) {
    const { region, clock, manager } = await processOf(t, tiers, { grace: '60s' })
    const held = gate()
    const loads: (() => unknown)[] = [() => 'old', async () => { await held.opened; return 'new' }]
    const read = async (options = {}) => await region.getOrCreate('k', async () => await (loads.shift() ?? (() => 'newer'))(), options)
    await read()
    await manager.idle()
    clock.advance(100_000)
    t.equal(await read(), 'old')
    await eventually(t, () => loads.length === 0, 'it is reloaded')
    const strict = [read({ maxAge: 1 }), read({ maxAge: '30s' })]
    t.equal(await read(), 'old', 'and served to those who take it')
    held.open()
    for (const value of await Promise.all(strict)) t.match(value, /^new/)
  }
})

t.test('a refresh that a set has overtaken resolves when that is written, and not before', async t => {
  const { backend, before } = interruptible(t)
  const namespace = randomUUID()
  const { region } = await processOf(t, [backend], { namespace })
  const { region: theirs } = await processOf(t, [redis(clientOf(t))], { namespace })
  const load = source(region, 'old')
  await load.refresh() // the first change of a process takes longer
  const [loaded, writing, written] = [gate(), gate(), gate()]
  load.it.next = async () => { await loaded.opened; return 'new' }
  const refreshed = load.refresh()
  await eventually(t, () => load.it.calls === 2, 'it loads')
  before.fillMany = async () => { writing.open(); await written.opened }
  const set = load.set('set')
  await writing.opened
  loaded.open()
  const found = refreshed.then(async () => await source(theirs, 'other').get())
  for (let i = 0; i < 100; i++) await theirs.get('else') // time enough for it to end
  written.open()
  t.equal(await found, 'set')
  await set
})

t.test('two refreshes that a set has overtaken leave what was set', async t => {
  const { region } = await processOf(t, [redis(clientOf(t))])
  const load = source(region, 'old')
  const held = [gate(), gate()]
  const refreshed: Promise<string>[] = []
  for (const [i, { opened }] of held.entries()) {
    load.it.next = async () => { await opened; return `new ${i}` }
    refreshed.push(load.refresh())
    await eventually(t, () => load.it.calls > i, 'it loads')
  }
  await load.set('set')
  for (const [i, { open }] of held.entries()) {
    open()
    t.equal(await refreshed[i], `new ${i}`)
  }
  t.equal(await load.get(), 'set')
})

t.test('what a refresh gives replaces what another process has loaded anew just before, of which it is told late', async t => {
  for (const inMemory of [false, true]) {
    const namespace = randomUUID()
    const { backend, after } = interruptible(t)
    const mine = await processOf(t, inMemory ? [memory(), redis(clientOf(t))] : [redis(clientOf(t))], { namespace })
    const theirs = await processOf(t, inMemory ? [memory(), backend] : [backend], { namespace })
    const [load, other] = [source(mine.region, 'new'), source(theirs.region, 'old')]
    const heard = gate()
    load.it.next = async () => { await heard.opened; return 'new' }
    let refreshed: Promise<unknown> | undefined
    after.fillMany = async () => {
      refreshed = load.refresh()
      await eventually(t, () => load.it.calls === 1, 'it has seen what the other one has put there')
    }
    t.equal(await other.refresh(), 'old')
    after.fillMany = undefined!
    heard.open()
    t.equal(await refreshed, 'new')
    t.strictSame([await other.get(), await load.get()], ['new', 'new'], inMemory ? 'with memory' : 'without')
  }
})

t.test('a value that the serializer refuses is not set, and nothing is changed', async t => {
  const namespace = randomUUID()
  const serializer = {
    encode: (value: unknown) => { if (value === 'bad') throw new Error('refused'); return Buffer.from(JSON.stringify(value)) },
    decode: (bytes: Uint8Array) => JSON.parse(Buffer.from(bytes).toString()) as unknown
  }
  const [mine, theirs] = await Promise.all([1, 2].map(async () => await processOf(t, [memory(), redis(clientOf(t))], { namespace, serializer })))
  await mine!.region.setMany([['a', 'old'], ['b', 'old']])
  const load = source(mine!.region, 'older')
  await load()
  const held = gate()
  load.it.next = async () => { await held.opened; return 'new' }
  const refreshed = load.refresh()
  await eventually(t, () => load.it.calls === 2, 'it loads')
  await t.rejects(mine!.region.setMany([['a', 'good'], ['b', 'bad']]), { message: 'refused' })
  await t.rejects(load.set('bad'), { message: 'refused' })
  for (const { region } of [mine!, theirs!]) t.strictSame(await region.getMany(['a', 'b']), ['old', 'old'])
  held.open()
  await refreshed
  t.equal(await load.get(), 'new', 'nor what is being loaded anew')
})

t.test('a set that a tag has overtaken is not found, though another process has set the key as well', async t => {
  const namespace = randomUUID()
  const { backend, before } = interruptible(t)
  const { region } = await processOf(t, [memory(), backend], { namespace })
  const { region: theirs } = await processOf(t, [memory(), redis(clientOf(t))], { namespace })
  const [asked, late] = [gate(), gate()]
  before.leaseMany = async () => { asked.open(); await late.opened }
  const set = region.set('k', 'mine', { tags: ['t'] })
  await asked.opened
  await theirs.set('k', 'theirs')
  await theirs.invalidateTags('t')
  late.open()
  await set
  t.not(await theirs.get('k'), 'mine')
  t.not(await region.get('k'), 'mine')
})

t.test('of two sets in one process the later one stays, though a refresh elsewhere has taken over from the first', async t => {
  for (const inMemory of [false, true]) {
    const namespace = randomUUID()
    const { backend, before, after } = interruptible(t)
    const { region } = await processOf(t, inMemory ? [memory(), backend] : [backend], { namespace })
    const { region: theirs, manager } = await processOf(t, [redis(clientOf(t))], { namespace })
    const [mine, other] = [source(region, 'loaded'), source(theirs, 'loaded')]
    await mine.set('old')
    const held = gate()
    let failing: Promise<unknown> | undefined
    let second: Promise<unknown> | undefined
    before.fillMany = async () => {
      before.fillMany = undefined!
      other.it.next = async () => { await held.opened; throw new Error('no luck') }
      failing = t.rejects(other.refresh(), { message: 'no luck' })
      await eventually(t, () => other.it.calls === 1, 'it has taken over')
      after.getMany = () => { // the first one has looked at what has become of it
        after.getMany = undefined!
        second = mine.set('two')
      }
    }
    await mine.set('one')
    t.not(second, undefined)
    await second
    held.open()
    await failing
    await manager.idle()
    t.strictSame([await mine.get(), await other.get()], ['two', 'two'])
  }
})

t.test('a row that came with an older load does not take the place that a refreshed one has left in memory', async t => {
  const [held, loading] = [gate(), gate()]
  const database = { version: 1 }
  const Person = cachedObject({
    name: 'Person',
    region: 'people',
    methods: {
      byId: loadOne(async (_context, id: number) => {
        const row = { id, name: 'alice', ...database }
        loading.open()
        await held.opened
        return row
      }, { primes: { byName: row => [row.name] } }),
      byName: loadOne((_context, name: string) => ({ id: 1, name, ...database }))
    }
  })
  const { manager, region } = await processOf(t, [memory({ maxEntries: 2 })])
  const older = manager.createApi().get(Person, 'byId', [1])
  await loading.opened
  database.version = 2
  t.match(await manager.createApi().refresh(Person, 'byName', ['alice']), { version: 2 })
  for (const key of ['a', 'b', 'c']) await region.getOrCreate(key, () => key) // make room
  held.open()
  await older
  t.match(await manager.createApi().get(Person, 'byName', ['alice']), { version: 2 })
})

t.test('an older refresh that finds nothing leaves what was set after an invalidation', async t => {
  for (const tiers of [[memory()], [redis(clientOf(t))]] as [Backend][]) {
    const { region, manager } = await processOf(t, tiers)
    const load = source<string | undefined>(region, 'old')
    const held = gate()
    load.it.next = async () => { await held.opened; return undefined }
    const refreshed = load.refresh()
    await eventually(t, () => load.it.calls === 1, 'it loads')
    await load.invalidate()
    await load.set('set')
    held.open()
    await refreshed
    await manager.idle()
    t.equal(await load.get(), 'set')
  }
})

t.test('an invalidation that is delivered late leaves what was set since', async t => {
  const { backend, before } = interruptible(t)
  const { region, manager } = await processOf(t, [backend])
  await region.setMany([['a', 'old'], ['b', 'old']])
  before.forgetMany = () => { throw new Error('away') }
  await t.rejects(region.deleteMany(['a', 'b']), { code: 'FST_CACHING_API_INVALIDATION_PENDING' })
  await region.set('a', 'new')
  t.equal(await region.get('a'), 'new')
  let replayed = 0
  before.forgetMany = () => { replayed++ }
  await eventually(t, async () => replayed > 0 && await region.get('a') === 'new', 'it is replayed, and the tier believed again')
  await manager.idle()
  t.strictSame(await region.getMany(['a', 'b']), ['new', undefined])
})

t.test('a request whose refresh fails keeps what it has written, or forgotten, meanwhile', async t => {
  for (const how of ['set', 'invalidated', 'nothing'] as const) {
    const { manager } = await processOf(t, [memory()])
    const held = gate()
    const loads: (() => unknown)[] = [() => ({ id: 1, name: 'old' }), async () => { await held.opened; throw new Error('no luck') }]
    const Person = cachedObject({
      name: 'Person',
      region: 'people',
      methods: { byId: loadOne(async (_context, _id: number) => await (loads.shift() ?? (() => ({ id: 1, name: 'new' })))() as { id: number, name: string }) }
    })
    const api = manager.createApi()
    await api.get(Person, 'byId', [1])
    const failing = t.rejects(api.refresh(Person, 'byId', [1]), { message: 'no luck' })
    if (how === 'set') await api.set(Person, 'byId', [1], { id: 1, name: 'new' })
    if (how === 'invalidated') await api.invalidate(Person, 'byId', [1])
    held.open()
    await failing
    t.match(await api.get(Person, 'byId', [1]), { name: how === 'nothing' ? 'old' : 'new' }, how)
  }
})

t.test('a set stays when other tags are invalidated, or the region softly, while it is written', async t => {
  for (const [what, stays] of [['mine', false], ['other', true], ['softly', true]] as const) {
    const { backend, before } = interruptible(t)
    const { region } = await processOf(t, [memory(), backend], { grace: '60s' })
    let invalidated: Promise<void> | undefined
    before.fillMany = () => {
      before.fillMany = undefined!
      invalidated = what === 'softly' ? region.invalidate({ soft: true }) : region.invalidateTags(what)
    }
    await region.set('k', 'set', { tags: ['mine'] })
    await invalidated
    t.equal(await region.getOrCreate('k', () => 'loaded'), stays ? 'set' : 'loaded', what)
  }
})

for (const [state, age] of [['fresh', 5000], ['stale', 80_000]] as const) {
  t.test(`who joins a load with a maxAge gets nothing older that it finds in a tier: ${state}`, async t => {
    const namespace = randomUUID()
    const { backend, before } = interruptible(t)
    const { region, clock } = await processOf(t, [backend], { namespace })
    const { region: theirs } = await processOf(t, [redis(clientOf(t))], { namespace, grace: '60s' })
    await region.delete('k') // forgotten just now: it is claimed without a look
    await theirs.set('k', 'old')
    clock.advance(age)
    const [claiming, held] = [gate(), gate()]
    before.getMany = before.leaseMany = async () => { claiming.open(); await held.opened }
    const reads = [region.getOrCreate('k', () => 'new')]
    await claiming.opened
    reads.push(region.getOrCreate('k', () => 'newer', { maxAge: 100 }))
    held.open()
    t.strictSame(await Promise.all(reads), ['new', 'new'])
  })
}

t.test('what a look finds late does not take the place that a refresh has left, which another one has overtaken', async t => {
  const { backend, after } = interruptible(t)
  const { region } = await processOf(t, [memory({ maxEntries: 1 }), backend])
  const load = source(region, 'old')
  await load()
  await region.set('else', 'makes room')
  const refreshes = [gate(), gate()].map((held, i) => ({ held, loads: async () => { await held.opened; return `new ${i}` } }))
  const refreshed: Promise<string>[] = []
  for (const [i, { loads }] of refreshes.entries()) {
    load.it.next = loads
    refreshed.push(load.refresh())
    await eventually(t, () => load.it.calls === 2 + i, 'it loads')
  }
  const [found, late] = [gate(), gate()]
  after.getMany = async () => { found.open(); await late.opened }
  const look = load.get()
  await found.opened
  refreshes[0]!.held.open()
  t.equal(await refreshed[0], 'new 0')
  late.open()
  t.equal(await look, 'old')
  after.getMany = undefined!
  t.not(await load.get(), 'old')
  refreshes[1]!.held.open()
  await refreshed[1]
  t.not(await load.get(), 'old')
})

t.test('a later set stays, though a tag has overtaken the earlier one', async t => {
  for (const inMemory of [false, true]) {
    const { backend, before } = interruptible(t)
    const { region } = await processOf(t, inMemory ? [memory(), backend] : [backend])
    before.fillMany = async () => {
      before.fillMany = undefined!
      await region.invalidateTags('t')
      await region.set('k', 'later', { tags: ['t'] })
    }
    await region.set('k', 'earlier', { tags: ['t'] })
    t.equal(await region.get('k'), 'later')
  }
})

t.test('who reads after an invalidation that this process could not hear of gets no stale value that a longer look has found before', async t => {
  for (const refresh of ['background', 'inline'] as const) {
    const namespace = randomUUID()
    const { line } = echoingLine()
    let cut = false
    const bus: Line = {
      ...line,
      listen: async (channel, listener, interrupted) => await line.listen(channel, message => { if (!cut) listener(message) }, interrupted),
      catchUp: async () => { if (cut) throw new Error('no line') }
    }
    const { backend, after } = interruptible(t)
    const { region, clock } = await processOf(t, [backend], { namespace, bus, grace: '60s', refresh })
    const { region: theirs } = await processOf(t, [redis(clientOf(t))], { namespace, bus: line })
    await region.set('k', 'old')
    clock.advance(70_000)
    const [earlier, later] = [0, 1].map(() => ({ found: gate(), late: gate() })) as [Look, Look]
    const looks = [earlier, later]
    after.getMany = async () => {
      const look = looks.shift()
      look?.found.open()
      await look?.late.opened
    }
    const [loading, held] = [gate(), gate()]
    const before = [{}, { maxAge: '30s' }].map(async options => await region.getOrCreate('k', async () => { loading.open(); await held.opened; return 'new' }, options))
    await earlier.found.opened
    cut = true
    await theirs.delete('k') // which has waited until this process can know that it hears nothing
    const reading = region.getOrCreate('k', () => 'new', { maxAge: '30s' })
    await later.found.opened
    earlier.late.open()
    await loading.opened
    later.late.open()
    t.equal(await reading, 'new', refresh)
    held.open()
    await Promise.all(before)
  }
})

t.test('a refresh leaves nothing old, though the invalidation that has overtaken it could not be delivered', async t => {
  const namespace = randomUUID()
  const { backend, before } = interruptible(t)
  const mine = await processOf(t, [memory(), redis(clientOf(t))], { namespace })
  const theirs = await processOf(t, [memory(), backend], { namespace })
  const load = source(mine.region, 'old')
  await load()
  await mine.manager.idle()
  const held = gate()
  load.it.next = async () => { await held.opened; return 'new' }
  const refreshed = load.refresh()
  await eventually(t, () => load.it.calls === 2, 'it loads')
  before.forgetMany = () => { throw new Error('away') }
  await t.rejects(source(theirs.region, 'theirs').invalidate(), { code: 'FST_CACHING_API_INVALIDATION_PENDING' })
  held.open()
  t.equal(await refreshed, 'new')
  t.not(await load.get(), 'old')
  before.forgetMany = undefined!
})

t.test('a request whose refreshes fail, one after another, keeps what it has read', async t => {
  for (const first of [0, 1]) {
    const { manager } = await processOf(t, [memory()])
    const held = [gate(), gate()]
    const failing = held.map(({ opened }) => async () => { await opened; throw new Error('no luck') })
    const loads: (() => unknown)[] = [() => ({ id: 1, name: 'old' }), ...failing]
    const Person = cachedObject({
      name: 'Person',
      region: 'people',
      methods: { byId: loadOne(async (_context, _id: number) => await (loads.shift() ?? (() => t.fail('it was read')))() as { id: number, name: string }) }
    })
    const api = manager.createApi()
    const read = await api.get(Person, 'byId', [1])
    const refreshes = held.map(async () => { await t.rejects(api.refresh(Person, 'byId', [1]), { message: 'no luck' }) })
    for (const i of [first, 1 - first]) {
      held[i]!.open()
      await refreshes[i]
    }
    t.equal(await api.get(Person, 'byId', [1]), read)
  }
})

t.test('two loaders that wait for each other get an error, though one of them has waited before it was clear for whom', async t => {
  const { backend, after } = interruptible(t)
  const { region } = await processOf(t, [backend])
  const [looks, asked] = [[gate(), gate(), gate()], [gate(), gate(), gate()]] as const
  let looked = 0
  after.getMany = async () => {
    const look = looked++
    asked[look]?.open()
    await looks[look]?.opened
  }
  const waiting = gate()
  const b = async (options = {}) => await region.getOrCreate('b', async () => { const waited = a(); waiting.open(); return await waited }, options)
  const a = async (): Promise<unknown> => await region.getOrCreate('a', async () => await b({ maxAge: '30s' }))
  const codeOf = async (reading: Promise<unknown>) => await reading.catch(error => error.code)
  const readingB = codeOf(b())
  await asked[0].opened
  const readingA = codeOf(a())
  looks[1].open()
  await asked[2].opened // of b, which nobody loads yet
  looks[0].open()
  await waiting.opened
  looks[2].open()
  t.equal(await readingA, 'FST_CACHING_API_REENTRANT_LOAD')
  t.equal(await readingB, 'FST_CACHING_API_REENTRANT_LOAD')
})

/** A process that notes in which order its tier is asked. */
async function notingProcess (t: Test, options: Parameters<typeof processOf>[2] = {}) {
  const { backend, before } = interruptible(t)
  const asked: string[] = []
  before.getMany = () => { asked.push('look') }
  before.fillMany = before.fillUnchanged = () => { asked.push('fill') }
  const { region, manager } = await processOf(t, [backend], options)
  let loads = 0
  /** Whether it was written back before its caller had it. */
  const isWrittenFirst = async () => {
    await region.getOrCreate(`k${loads++}`, () => 'new')
    const isWritten = asked.includes('fill')
    await manager.idle()
    asked.length = 0
    return isWritten
  }
  return { region, manager, asked, isWrittenFirst }
}

t.test('callers have what was loaded before it is written back, and so does what they read next', async t => {
  const { region, manager, asked, isWrittenFirst } = await notingProcess(t)
  t.notOk(await isWrittenFirst())
  await region.set('other', 'known')
  asked.length = 0
  t.equal(await region.getOrCreate('k', () => 'new'), 'new')
  t.equal(await region.getOrCreate('other', () => 'new'), 'known')
  await manager.idle()
  t.strictSame(asked, ['look', 'look', 'fill'])
  t.equal(await region.get('k'), 'new')
})

t.test('an elected load is written back before its callers have it, unless there is no other process', async t => {
  const namespace = randomUUID()
  const { isWrittenFirst } = await notingProcess(t, { namespace, lock: redlock([clientOf(t)]) })
  t.ok(await isWrittenFirst(), 'perhaps there are others')
  await eventually(t, async () => !await isWrittenFirst(), 'there are none')
  const other = await processOf(t, [redis(clientOf(t))], { namespace })
  await eventually(t, isWrittenFirst, 'there is one')
  await other.manager.close()
})

t.test('what a backend of three methods is given, it is given before its callers have it', async t => {
  const kept = new Map<string, Uint8Array>()
  const backend: Backend = {
    name: 'map',
    getMany: async keys => keys.map(key => kept.get(key)),
    setMany: async entries => { for (const { key, value } of entries) kept.set(key, value) },
    deleteMany: async keys => { for (const key of keys) kept.delete(key) }
  }
  const { region } = await processOf(t, [backend])
  await region.getOrCreate('k', () => 'new')
  t.ok([...kept.keys()].some(key => key.endsWith(':k')))
})

t.test('a load that others may not join any more is found by who reads after it', async t => {
  for (const invalidate of [async (region: Region) => await region.invalidateTags('unrelated'), async (region: Region) => await region.invalidate({ soft: true })]) {
    const { region, manager } = await processOf(t, [interruptible(t).backend], { grace: '60s' })
    const [loading, held] = [gate(), gate()]
    const reading = region.getOrCreate('k', async () => { loading.open(); await held.opened; return 'first' })
    await loading.opened
    await invalidate(region)
    held.open()
    await reading
    t.equal(await region.getOrCreate('k', () => 'second'), 'first')
    await manager.idle()
  }
})

t.test('rows that came along with a load are in memory when its callers go on', async t => {
  let loads = 0
  const Person = cachedObject({
    name: 'Person',
    region: 'people',
    methods: {
      getById: loadOne(async (_context, id: number) => ({ id, name: `n${id}` }), { primes: { getByName: row => [row.name] } }),
      getByName: loadOne(async (_context, name: string) => { loads++; return { id: 1, name } })
    }
  })
  const { manager } = await processOf(t, [memory(), redis(clientOf(t))])
  await manager.createApi().get(Person, 'getById', [1])
  t.strictSame(await manager.createApi().get(Person, 'getByName', ['n1']), { id: 1, name: 'n1' })
  t.equal(loads, 0)
})

t.test('what comes after a load in its own process finds it done', async t => {
  const { backend } = interruptible(t)
  const namespace = randomUUID()
  const { region, manager } = await processOf(t, [backend], { namespace, grace: '60s' })
  const load = async (options = {}) => await region.getOrCreate('k', count, options)
  let loads = 0
  const count = () => ++loads
  t.equal(await load(), 1)
  t.equal(await region.get('k'), 1, 'who only looks')
  await region.delete('k')
  t.equal(await load(), 2)
  t.equal(await load({ maxAge: '30s' }), 2, 'who wants it younger')
  await region.delete('k')
  t.equal(await load(), 3)
  await region.invalidate({ soft: true })
  t.equal(await load(), 3, 'who softens it')
  await manager.idle()
  await region.delete('k')
  t.equal(await load(), 5)
  await region.set('k', 'set')
  t.equal(await load(), 'set', 'who sets it')
  await region.delete('k')
  const wrapped = region.wrap('f', count)
  t.equal(await wrapped(), 6)
  t.equal(await wrapped.refresh(), 7, 'who loads it anew')
  t.equal(await wrapped(), 7)
  t.equal(await load(), 8)
  await manager.close()
  const { region: theirs } = await processOf(t, [redis(clientOf(t))], { namespace })
  t.equal(await theirs.get('k'), 8, 'who closes')
})
