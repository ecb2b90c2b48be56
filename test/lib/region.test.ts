import { randomUUID } from 'node:crypto'
import { readdir, readFile } from 'node:fs/promises'
import { Redis } from 'ioredis'
import t, { type Test } from 'tap'
import { cachedObject, loadOne } from '../../lib/cached-object.js'
import { CachingManager, type CachingManagerOptions } from '../../lib/caching-manager.js'
import type { RegionOptions } from '../../lib/region-options.js'
import { memory } from '../../lib/backends/memory.js'
import { redis } from '../../lib/backends/redis.js'
import { fakeClock, gate, silentLogger } from '../helpers/doubles.js'
import { startRedis } from '../helpers/servers.js'

const server = await startRedis(t, { shared: true })
const client = new Redis(server.url)
t.teardown(() => client.disconnect())

const setUps: Record<string, () => RegionOptions['tiers']> = {
  memory: () => [memory()],
  redis: () => [redis(client)],
  'memory + redis': () => [memory(), redis(client)]
}

const ttl = 10_000
const second = 1000

type SetUp = (t: Test, options?: Partial<RegionOptions>, managerOptions?: Partial<CachingManagerOptions>) => ReturnType<typeof regionOf>

/** A region without a past, on a clock that the test moves. */
async function regionOf (t: Test, options: Partial<RegionOptions> & Pick<RegionOptions, 'tiers'>, managerOptions: Partial<CachingManagerOptions>) {
  const clock = fakeClock()
  const logger = silentLogger()
  const manager = new CachingManager({
    namespace: randomUUID(),
    now: clock.now,
    logger,
    regions: { people: { ttl, jitter: 0, tierTimeout: '20s', ...options } },
    ...managerOptions
  })
  t.teardown(() => manager.close())
  await manager.ready()
  /** At once: what was created may still be on its way into the tiers. */
  const pass = async (ms: number) => { clock.advance(ms) }
  return { manager, region: manager.region('people'), pass, logger }
}

/** Counts its calls: value n for the nth of them. */
function counter () {
  const create = () => ++create.calls
  create.calls = 0
  return create
}

for (const [name, tiers] of Object.entries(setUps)) {
  t.test(name, async t => {
    await behaves(t, async (t, options = {}, managerOptions = {}) => await regionOf(t, { tiers: tiers(), ...options }, managerOptions))
  })
}

async function behaves (t: Test, setUp: SetUp): Promise<void> {
  // ─── dogpile.cache's own ─────────────────────────────────────────────────────────────────────

  await t.test('what is set is got, what is not set is no value', async t => {
    const { region } = await setUp(t)
    t.equal(await region.get('alice'), undefined)
    await region.set('alice', { age: 30 })
    t.strictSame(await region.get('alice'), { age: 30 })
    await region.set('alice', { age: 31 })
    t.strictSame(await region.get('alice'), { age: 31 })
  })

  await t.test('what is deleted is no value, and deleting nothing is no error', async t => {
    const { region } = await setUp(t)
    await region.set('alice', 1)
    await region.delete('alice')
    t.equal(await region.get('alice'), undefined)
    await region.delete('alice')
    await region.deleteMany([])
  })

  await t.test('many are set, got and deleted together; those that are not there are undefined', async t => {
    const { region } = await setUp(t)
    await region.setMany(new Map([['a', 1], ['b', 2], ['c', 3]]))
    t.strictSame(await region.getMany(['c', 'x', 'a', 'c']), [3, undefined, 1, 3])
    await region.deleteMany(['a', 'c', 'x'])
    t.strictSame(await region.getMany(['a', 'b', 'c']), [undefined, 2, undefined])
    t.strictSame(await region.getMany([]), [])
    await region.setMany([])
  })

  await t.test('null is a value, undefined is none', async t => {
    const { region } = await setUp(t)
    await region.set('alice', null)
    t.equal(await region.get('alice'), null)
    t.equal(await region.getOrCreate<string | null>('alice', () => 'not called'), null)

    const create = counter()
    t.equal(await region.getOrCreate('bob', () => { create() }), undefined)
    t.equal(await region.getOrCreate('bob', () => { create() }), undefined)
    t.equal(create.calls, 2, 'an undefined is returned and not kept')
    await t.rejects(region.set('bob', undefined), { code: 'FST_CACHING_API_INVALID_ARGUMENT', message: /value must be anything but undefined/ })
  })

  await t.test('a creator is called when there is no value, and not again', async t => {
    const { region } = await setUp(t)
    const create = counter()
    t.equal(await region.getOrCreate('alice', create), 1)
    t.equal(await region.getOrCreate('alice', create), 1)
    t.equal(await region.getOrCreate('bob', async () => await Promise.resolve(create())), 2)
    t.equal(await region.get('bob'), 2)
    t.equal(create.calls, 2)
  })

  await t.test('a creator is called again when its value was deleted', async t => {
    const { region } = await setUp(t)
    const create = counter()
    await region.getOrCreate('alice', create)
    await region.delete('alice')
    t.equal(await region.getOrCreate('alice', create), 2)
  })

  await t.test('callers of one key at the same time share one call of the creator', async t => {
    const { region } = await setUp(t)
    const create = counter()
    const values = await Promise.all(Array.from({ length: 20 }, async () => await region.getOrCreate('alice', create)))
    t.strictSame(values, Array(20).fill(1))
  })

  await t.test('values are missing from the very millisecond in which their ttl is over', async t => {
    const { region, manager, pass } = await setUp(t)
    const create = counter()
    await region.set('alice', 'a')
    await region.getOrCreate('bob', create)
    await manager.idle() // with a millisecond left when it is written, a server would have dropped it
    await pass(ttl - 1)
    t.strictSame(await region.getMany(['alice', 'bob']), ['a', 1])
    t.equal(await region.getOrCreate('bob', create), 1)
    await pass(1)
    t.strictSame(await region.getMany(['alice', 'bob']), [undefined, undefined])
    t.equal(await region.getOrCreate('bob', create), 2)
  })

  await t.test('of many, just those whose time is over are created again', async t => {
    const { region, pass } = await setUp(t)
    await region.setMany([['a', 'old'], ['c', 'old']])
    await pass(ttl - 1)
    await region.set('b', 'old')
    await pass(1)
    const asked: string[][] = []
    const create = (missing: readonly string[]) => { asked.push([...missing]); return missing.map(key => `new ${key}`) }
    t.strictSame(await region.getOrCreateMany(['a', 'b', 'c'], create), ['new a', 'old', 'new c'])
    t.strictSame(asked, [['a', 'c']])
  })

  await t.test('a hard invalidation makes every value of the region missing', async t => {
    const { region } = await setUp(t, { grace: '1h' })
    const create = counter()
    await region.set('alice', 'a')
    await region.getOrCreate('bob', create)
    await region.invalidate()
    t.strictSame(await region.getMany(['alice', 'bob'], { maxAge: Infinity }), [undefined, undefined])
    t.equal(await region.getOrCreate('bob', create), 2)
    t.equal(await region.get('bob'), 2, 'what is created afterwards is kept')
    await region.set('alice', 'b')
    t.equal(await region.get('alice'), 'b')
  })

  await t.test('a hard invalidation forgets one region and no other', async t => {
    const regions = { people: { tiers: setUps['memory + redis']!(), ttl }, animals: { tiers: setUps['memory + redis']!(), ttl } }
    const { manager, region } = await setUp(t, {}, { regions })
    const animals = manager.region('animals')
    await region.set('alice', 'a person')
    await animals.set('alice', 'a cat')
    await region.invalidate()
    t.equal(await region.get('alice'), undefined)
    t.equal(await animals.get('alice'), 'a cat')
  })

  await t.test('a soft invalidation makes values stale: served while they are created again', async t => {
    const { region, manager } = await setUp(t, { grace: '1h' })
    const create = counter()
    await region.getOrCreate('alice', create)
    await region.invalidate({ soft: true })
    t.equal(await region.get('alice'), undefined, 'get wants what is fresh')
    t.equal(await region.getOrCreate('alice', create), 1)
    await manager.idle()
    t.equal(await region.getOrCreate('alice', create), 2)
    t.equal(await region.get('alice'), 2)
    t.equal(create.calls, 2)
  })

  await t.test("a soft invalidation with refresh: 'inline' lets one caller wait, as in dogpile", async t => {
    const { region } = await setUp(t, { grace: '1h', refresh: 'inline' })
    const create = counter()
    await region.getOrCreate('alice', create)
    await region.getOrCreateMany(['bob', 'carol'], keys => keys.map(create))
    await region.invalidate({ soft: true })
    t.equal(await region.getOrCreate('alice', create), 4)
    t.strictSame(await region.getOrCreateMany(['carol', 'bob'], keys => keys.map(create)), [5, 6])
    t.strictSame(await region.getMany(['alice', 'bob', 'carol']), [4, 6, 5])
  })

  await t.test('without grace there is nothing to be served stale: a soft invalidation is a hard one', async t => {
    const { region } = await setUp(t)
    const create = counter()
    await region.getOrCreate('alice', create)
    await region.invalidate({ soft: true })
    t.equal(await region.getOrCreate('alice', create), 2)
  })

  await t.test('what was invalidated hard does not come back when it is then invalidated softly', async t => {
    const { region } = await setUp(t, { grace: '1h' })
    const create = counter()
    await region.getOrCreate('alice', create)
    await region.invalidate()
    await region.invalidate({ soft: true })
    t.equal(await region.getOrCreate('alice', create), 2)

    await region.invalidate({ soft: true })
    await region.invalidate()
    t.equal(await region.getOrCreate('alice', create), 3)
  })

  await t.test('a value that shouldCache refuses goes to all who wait for it, and is created anew next time', async t => {
    const { region } = await setUp(t)
    const create = counter()
    const shouldCache = (value: number) => value === 3
    const both = [region.getOrCreate('alice', create, { shouldCache }), region.getOrCreate('alice', create, { shouldCache })]
    t.strictSame(await Promise.all(both), [1, 1])
    t.equal(await region.get('alice'), undefined)
    t.equal(await region.getOrCreate('alice', create, { shouldCache }), 2)
    t.equal(await region.getOrCreate('alice', create, { shouldCache }), 3)
    t.equal(await region.getOrCreate('alice', create, { shouldCache }), 3)
  })

  await t.test('of many, just those that shouldCache refuses are created anew', async t => {
    const { region } = await setUp(t)
    const create = (keys: readonly string[]) => keys.map(key => `${key} of ${keys}`)
    const shouldCache = (value: string) => !value.startsWith('b')
    await region.getOrCreateMany(['a', 'b', 'c'], create, { shouldCache })
    t.strictSame(await region.getOrCreateMany(['a', 'b', 'c'], create, { shouldCache }), ['a of a,b,c', 'b of b', 'c of a,b,c'])
  })

  // ─── dogpile's decorator: wrap ───────────────────────────────────────────────────────────────

  await t.test('a wrapped function is called once for each arguments, told apart by type and position', async t => {
    const { region } = await setUp(t)
    const calls: unknown[][] = []
    const wrapped = region.wrap('find', (...args: unknown[]) => { calls.push(args); return calls.length })
    const different = [[1], ['1'], [1n], [], [undefined], [null], ['a', 'b'], ['ab'], ['a,b'], [['a', 'b']], [{ a: 1, b: 2 }], ['1 2', 3], ['1', '2 3']]
    for (const [i, args] of different.entries()) t.equal(await wrapped(...args), i + 1)
    for (const [i, args] of different.entries()) t.equal(await wrapped(...args), i + 1)
    t.equal(await wrapped({ b: 2, a: 1 }), 11, 'in whatever order an object has its properties')
    t.strictSame(calls, different)
  })

  await t.test('functions that are wrapped under two names share nothing, and nothing with keys', async t => {
    const { region } = await setUp(t)
    const one = region.wrap('one', (id: number) => `one ${id}`)
    const other = region.wrap('one(1)', () => 'other')
    await region.set('one(1)', 'a key')
    t.equal(await one(1), 'one 1')
    t.equal(await other(), 'other')
    t.equal(await region.get('one(1)'), 'a key')
  })

  await t.test('a wrapped function can get, set, refresh and invalidate what it keeps, and has the original', async t => {
    const { region } = await setUp(t)
    const create = counter()
    const fn = (id: number) => id * 100 + create()
    const wrapped = region.wrap('fn', fn)
    t.equal(await wrapped.get(1), undefined)
    t.equal(await wrapped(1), 101)
    t.equal(await wrapped.get(1), 101)
    t.equal(await wrapped.get(2), undefined)

    await wrapped.set(7, 1)
    t.equal(await wrapped(1), 7)
    t.equal(await wrapped.refresh(1), 102)
    t.equal(await wrapped(1), 102)
    await wrapped.invalidate(1)
    t.equal(await wrapped.get(1), undefined)
    t.equal(await wrapped(1), 103)
    t.equal(await wrapped.refresh(3), 304, 'where there is nothing yet, too')

    t.equal(wrapped.original, fn)
    t.equal(wrapped.original(1), 105)
    t.equal(await wrapped.get(1), 103)
  })

  await t.test('a wrapped function has a ttl, a grace, a maxAge, tags and a shouldCache of its own', async t => {
    const { region, pass, manager } = await setUp(t)
    const create = counter()
    const short = region.wrap('short', create, { ttl: second, grace: second })
    await short()
    await pass(second)
    t.equal(await short(), 1, 'stale')
    await manager.idle()
    t.equal(await short(), 2)
    await pass(2 * second)
    t.equal(await short(), 3)

    const young = region.wrap('young', create, { maxAge: second })
    t.equal(await young(), 4)
    await pass(second)
    t.equal(await young.get(), undefined)
    t.equal(await young(), 5)

    const tagged = region.wrap('tagged', (name: string) => `${name} ${create()}`, { tags: value => [value[0]!], shouldCache: value => value !== 'b 7' })
    t.strictSame([await tagged('a'), await tagged('b'), await tagged('b')], ['a 6', 'b 7', 'b 8'])
    await tagged.set('c by hand', 'c')
    await region.invalidateTags('a', 'c')
    t.strictSame([await tagged.get('a'), await tagged.get('b'), await tagged.get('c')], [undefined, 'b 8', undefined])

    const fixed = region.wrap('fixed', create, { tags: ['all'] })
    await fixed.set(0)
    await region.invalidateTags('all')
    t.equal(await fixed.get(), undefined)
  })

  // ─── ttl, grace, jitter, maxAge ──────────────────────────────────────────────────────────────

  await t.test('an entry keeps the ttl and the grace that it was written with', async t => {
    const { region, pass, manager } = await setUp(t)
    const create = counter()
    await region.set('long', 'l', { ttl: '1m' })
    await region.setMany([['short', 's'], ['graceful', 'g']], { ttl: '1s', grace: '5s' })
    await region.getOrCreate('created', create, { ttl: 2 * second })
    await pass(second)
    t.strictSame(await region.getMany(['long', 'short', 'graceful', 'created']), ['l', undefined, undefined, 1])
    t.equal(await region.getOrCreate('graceful', () => 'new'), 'g', 'stale')
    await manager.idle()
    t.equal(await region.get('graceful'), 'new')
    await pass(second)
    t.equal(await region.getOrCreate('created', create, { ttl: 2 * second }), 2)
    await pass(5 * second)
    t.equal(await region.getOrCreate('short', () => 'new'), 'new', 'its grace is over')
    await pass(53 * second - 1)
    t.equal(await region.get('long'), 'l')
    await pass(1)
    t.equal(await region.get('long'), undefined)
  })

  await t.test('grace lasts until its very last millisecond', async t => {
    const { region, pass, manager } = await setUp(t, { grace: 5 * second })
    await region.set('a', 'old')
    await region.set('b', 'old')
    await pass(ttl + 5 * second - 1)
    t.equal(await region.getOrCreate('a', () => 'new'), 'old')
    await manager.idle()
    await pass(1)
    t.equal(await region.getOrCreate('b', () => 'new'), 'new')
  })

  await t.test('jitter lengthens or shortens a ttl by its fraction at most', async t => {
    const { region, pass } = await setUp(t, { jitter: 0.2 })
    const keys = Array.from({ length: 200 }, (_, i) => `key ${i}`)
    await region.setMany(keys.map(key => [key, 1] as const))
    const found = async () => (await region.getMany(keys)).filter(value => value === 1).length
    await pass(0.8 * ttl - 1)
    t.equal(await found(), 200)
    await pass(0.2 * ttl + 1)
    const halfway = await found()
    t.ok(halfway > 0 && halfway < 200, 'they end one after another')
    await pass(0.2 * ttl)
    t.equal(await found(), 0)
  })

  await t.test('negativeTtl is for rows that there are not: of a region, null is a value like others', async t => {
    const { region, pass, manager } = await setUp(t, { negativeTtl: second })
    await region.getOrCreate('alice', () => null)
    const create = counter()
    const User = cachedObject({ name: 'User', region: 'people', methods: { find: loadOne((_context, _id: number) => { create(); return null }) } })
    const find = async () => await manager.createApi().get(User, 'find', [1])
    t.strictSame([await find(), await find()], [null, null])
    t.equal(create.calls, 1)
    await pass(second)
    t.equal(await region.get('alice'), null)
    await find()
    t.equal(create.calls, 2)

    const forgetful = await setUp(t, { negativeTtl: 0 })
    for (const calls of [3, 4]) {
      await forgetful.manager.createApi().get(User, 'find', [1])
      t.equal(create.calls, calls, 'not remembered at all')
    }
  })

  await t.test('a value whose time is over is loaded anew, though it is still on its way into the tiers', async t => {
    const { region, pass, manager } = await setUp(t)
    const create = counter()
    t.equal(await region.getOrCreate('alice', create), 1)
    t.equal(await region.getOrCreate('alice', create), 1, 'until then it is joined')
    await pass(ttl)
    t.equal(await region.getOrCreate('alice', create), 2)
    t.strictSame(await region.getOrCreateMany(['alice'], () => [3]), [2])
    await manager.idle()
    t.equal(await region.get('alice'), 2, 'the new one is kept')
  })

  await t.test('what was too old for one reader alone stays, whatever he got instead', async t => {
    const { region, pass, manager } = await setUp(t, { grace: '1h' })
    await region.set('alice', 'good')
    await pass(second)
    for (const value of ['bad', undefined]) {
      for (let times = 0; times < 2; times++) await region.getOrCreate('alice', () => value, { maxAge: 100, shouldCache: value => value !== 'bad' })
      await manager.idle()
      t.equal(await region.get('alice'), 'good')
    }
  })

  await t.test('an endless maxAge takes whatever is there: what was invalidated softly, too', async t => {
    const { region } = await setUp(t, { grace: '1h' })
    await region.set('alice', 1)
    await region.invalidate({ soft: true })
    t.equal(await region.get('alice'), undefined)
    t.equal(await region.get('alice', { maxAge: '1h' }), undefined)
    t.equal(await region.get('alice', { maxAge: Infinity }), 1)
    t.equal(await region.getOrCreate('alice', () => 2, { maxAge: Infinity }), 1)
    t.equal(await region.get('alice'), undefined, 'and nothing was reloaded')
  })

  await t.test('maxAge decides what is young enough, for one read alone', async t => {
    const { region, pass } = await setUp(t)
    await region.set('alice', 1)
    await pass(5 * second)
    t.equal(await region.get('alice', { maxAge: 5 * second }), undefined)
    t.equal(await region.get('alice', { maxAge: 5 * second + 1 }), 1)
    t.strictSame(await region.getMany(['alice', 'bob'], { maxAge: '5s' }), [undefined, undefined])
    t.equal(await region.get('alice', { maxAge: 0 }), undefined)
    t.equal(await region.get('alice'), 1)
    t.equal(await region.getOrCreate('alice', () => 2, { maxAge: '1s' }), 2)
    t.equal(await region.get('alice'), 2)
    t.strictSame(await region.getOrCreateMany(['alice', 'bob'], keys => keys.map(() => 3), { maxAge: 0 }), [3, 3])
  })

  await t.test('maxAge: Infinity takes whatever is there, after ttl and grace as well', async t => {
    const { region, pass } = await setUp(t)
    await region.set('alice', 1)
    await pass(ttl)
    t.equal(await region.get('alice', { maxAge: Infinity }), 1)
    t.equal(await region.getOrCreate('alice', () => 2, { maxAge: Infinity }), 1)
    t.equal(await region.get('alice'), undefined)
    t.equal(await region.get('bob', { maxAge: Infinity }), undefined)
  })

  await t.test('grace follows the maxAge of a read', async t => {
    const { region, pass, manager } = await setUp(t, { grace: 5 * second })
    await region.set('alice', 'old')
    await pass(2 * second)
    t.equal(await region.getOrCreate('alice', () => 'new', { maxAge: second }), 'old', 'stale, by that age')
    await manager.idle()
    t.equal(await region.get('alice'), 'new')
    await pass(6 * second)
    t.equal(await region.getOrCreate('alice', () => 'newer', { maxAge: second }), 'newer', 'gone, by that age')
  })

  await t.test('whether a stale value is served when its reload fails is for the maxAge of the read to say, too', async t => {
    const { region, pass } = await setUp(t, { grace: 5 * second, refresh: 'inline' })
    const failing = () => { throw new Error('no database') }
    await region.set('alice', 'old')
    await pass(18 * second)
    t.equal(await region.getOrCreate('alice', failing, { maxAge: 15 * second }), 'old', 'stale by that age, though gone by its own')
    await t.rejects(region.getOrCreate('alice', failing), { message: 'no database' })
  })

  // ─── stale values ────────────────────────────────────────────────────────────────────────────

  await t.test("refresh: 'background' serves everybody the stale value at once, and reloads it once", async t => {
    const { region, pass, manager } = await setUp(t, { grace: '1h' })
    await region.set('alice', 'old')
    await pass(ttl)
    const held = gate()
    const create = counter()
    const reload = async () => { create(); await held.opened; return 'new' }
    const both = [region.getOrCreate('alice', reload), region.getOrCreate('alice', reload)]
    t.strictSame(await Promise.all(both), ['old', 'old'])
    t.equal(await region.getOrCreate('alice', reload), 'old')
    held.open()
    await manager.idle()
    t.equal(await region.getOrCreate('alice', reload), 'new')
    t.equal(create.calls, 1)
  })

  await t.test("refresh: 'inline' lets the first caller wait for the new value, and serves the others the stale one", async t => {
    const { region, pass } = await setUp(t, { grace: '1h', refresh: 'inline' })
    await region.set('alice', 'old')
    await pass(ttl)
    const held = gate()
    const create = counter()
    const reload = async () => { create(); await held.opened; return 'new' }
    const first = region.getOrCreate('alice', reload)
    t.equal(await region.getOrCreate('alice', reload), 'old')
    t.equal(await region.getOrCreate('alice', reload), 'old')
    held.open()
    t.equal(await first, 'new')
    t.equal(await region.getOrCreate('alice', reload), 'new')
    t.equal(create.calls, 1)
  })

  for (const refresh of ['background', 'inline'] as const) {
    await t.test(`refresh: '${refresh}': when a reload fails the stale value is served, and the next try waits a little`, async t => {
      const { region, pass, manager, logger } = await setUp(t, { grace: '1h', refresh })
      await region.set('alice', 'old')
      await pass(ttl)
      const create = counter()
      const failing = () => { create(); throw new Error('no database') }
      t.equal(await region.getOrCreate('alice', failing), 'old')
      await manager.idle()
      t.equal(create.calls, 1)
      t.match(logger.lines.warn, [{ message: /a reload failed/, details: { err: { message: 'no database' } } }])
      await pass(second - 1)
      t.equal(await region.getOrCreate('alice', failing), 'old')
      await manager.idle()
      t.equal(create.calls, 1)
      await pass(1)
      t.equal(await region.getOrCreate('alice', () => 'new'), refresh === 'inline' ? 'new' : 'old')
      await manager.idle()
      t.equal(await region.get('alice'), 'new')
    })
  }

  await t.test('a reload that takes longer than loadTimeout.soft lets its caller have the stale value, and goes on', async t => {
    const { region, pass, manager } = await setUp(t, { grace: '1h', refresh: 'inline', loadTimeout: { soft: 10 } })
    await region.set('alice', 'old')
    await pass(ttl)
    const held = gate()
    t.equal(await region.getOrCreate('alice', async () => { await held.opened; return 'new' }), 'old')
    held.open()
    await manager.idle()
    t.equal(await region.get('alice'), 'new')
  })

  await t.test('after loadTimeout.soft, who has no stale value goes on waiting', async t => {
    const { region, pass } = await setUp(t, { grace: '1h', refresh: 'inline', loadTimeout: { soft: 10 } })
    await region.set('alice', 'old')
    await pass(ttl)
    const held = gate()
    const load = async () => { await held.opened; return 'new' }
    const bob = region.getOrCreate('bob', load)
    // Both in one batch: by the time that one of them has timed out, the other could have.
    t.equal(await region.getOrCreate('alice', load), 'old')
    held.open()
    t.equal(await bob, 'new')
  })

  await t.test('a load that takes longer than loadTimeout.hard rejects; it goes on, and its value is kept', async t => {
    const { region, manager } = await setUp(t, { loadTimeout: { hard: 10 } })
    const held = gate()
    const load = async () => { await held.opened; return 'late' }
    const both = await Promise.allSettled([region.getOrCreate('alice', load), region.getOrCreate('alice', load)])
    for (const one of both) t.match(one, { status: 'rejected', reason: { code: 'FST_CACHING_API_LOAD_TIMEOUT', statusCode: 503, message: /alice.* took longer than 10 ms/ } })
    held.open()
    await manager.idle()
    t.equal(await region.get('alice'), 'late')
  })

  await t.test('a reload that takes longer than loadTimeout.hard lets its caller have the stale value', async t => {
    const { region, pass, manager } = await setUp(t, { grace: '1h', refresh: 'inline', loadTimeout: { hard: 10 } })
    await region.set('alice', 'old')
    await pass(ttl)
    const held = gate()
    const quick = region.getOrCreate('bob', () => 'quick')
    t.equal(await region.getOrCreate('alice', async () => { await held.opened; return 'new' }), 'old')
    t.equal(await quick, 'quick')
    held.open()
    await manager.idle()
    t.equal(await region.get('alice'), 'new')
  })

  // ─── tags ────────────────────────────────────────────────────────────────────────────────────

  await t.test('an invalidated tag takes every value that has it, and no other', async t => {
    const { region } = await setUp(t)
    await region.set('alice', 1, { tags: ['people', 'team red'] })
    await region.set('bob', 2, { tags: ['people', 'team blue'] })
    await region.getOrCreate('carol', () => 3, { tags: value => [`number ${value}`, 'team red'] })
    await region.getOrCreateMany(['dan', 'eve'], () => [4, 5], { tags: value => [`number ${value}`] })
    await region.set('rex', 6)
    const all = async () => await region.getMany(['alice', 'bob', 'carol', 'dan', 'eve', 'rex'])

    await region.invalidateTags('nobody has this')
    await region.invalidateTags()
    t.strictSame(await all(), [1, 2, 3, 4, 5, 6])
    await region.invalidateTags('team red', 'number 4', 'team red')
    t.strictSame(await all(), [undefined, 2, undefined, undefined, 5, 6])
    await region.invalidateTags('people')
    t.strictSame(await all(), [undefined, undefined, undefined, undefined, 5, 6])
  })

  await t.test('what is set in the millisecond in which its tag was invalidated stays', async t => {
    const { region, manager } = await setUp(t)
    for (let round = 0; round < 100; round++) {
      await region.set('set', `old ${round}`, { tags: ['a', 'b'] })
      await region.getOrCreate('created', () => `old ${round}`, { tags: ['b'] })
      await manager.idle()
      await region.invalidateTags('b')
      await region.set('set', `new ${round}`, { tags: ['a', 'b'] })
      const created = await region.getOrCreate('created', () => `new ${round}`, { tags: ['b'] })
      await manager.idle()
      const found = [await region.get('set'), created, await region.get('created')]
      if (found.some(value => value !== `new ${round}`)) return t.fail(`round ${round}`, { found })
      await region.invalidateTags('b')
    }
    t.pass('a hundred times')
  })

  await t.test('what is no value is not asked for its tags', async t => {
    const { region } = await setUp(t)
    t.equal(await region.getOrCreate<string | undefined>('alice', () => undefined, { tags: value => [value!.slice(1)] }), undefined)
  })

  await t.test('tags that are no strings are refused', async t => {
    const { region } = await setUp(t)
    const expected = { code: 'FST_CACHING_API_INVALID_ARGUMENT', message: /tags must be an array of strings/ }
    await t.rejects(region.set('alice', 1, { tags: 'people' as unknown as string[] }), expected)
    await t.rejects(region.getOrCreate('alice', () => 1, { tags: [1] as unknown as string[] }), expected)
    await t.rejects(region.getOrCreate('alice', () => 1, { tags: () => undefined as unknown as string[] }), expected)
    await t.rejects(region.invalidateTags(1 as unknown as string), expected)
    t.equal(await region.get('alice'), undefined)
  })

  // ─── many ────────────────────────────────────────────────────────────────────────────────────

  await t.test('a batch creator is asked once, for each missing key once, and its values come in the order of the caller', async t => {
    const { region } = await setUp(t)
    await region.set('b', 'there')
    const asked: string[][] = []
    const create = async (missing: readonly string[]) => { asked.push([...missing]); return missing.map(key => `created ${key}`) }
    const values = await region.getOrCreateMany(['c', 'a', 'b', 'c', 'a'], create)
    t.strictSame(values, ['created c', 'created a', 'there', 'created c', 'created a'])
    t.strictSame(asked, [['c', 'a']])
    t.strictSame(await region.getOrCreateMany(['a', 'c'], create), ['created a', 'created c'])
    t.strictSame(await region.getOrCreateMany([], create), [])
    t.equal(asked.length, 1)
  })

  await t.test('what a batch creator has no value for is created again next time; the others are kept', async t => {
    const { region } = await setUp(t)
    const create = (missing: readonly string[]) => missing.map(key => key === 'b' ? undefined : `${key} of ${missing}`)
    t.strictSame(await region.getOrCreateMany(['a', 'b'], create), ['a of a,b', undefined])
    t.strictSame(await region.getOrCreateMany(['a', 'b'], create), ['a of a,b', undefined])
    t.equal(await region.getOrCreate('b', () => 'b'), 'b')
  })

  await t.test('a gap in what a batch creator returns is a key that it has no value for', async t => {
    const { region } = await setUp(t)
    const values = new Array<number>(2)
    values[1] = 1
    t.strictSame(await region.getOrCreateMany(['a', 'b'], () => values), [undefined, 1])
    t.strictSame(await region.getMany(['a', 'b']), [undefined, 1])
  })

  await t.test('a batch creator may take what it is asked for out of its array', async t => {
    const { region } = await setUp(t)
    const create = (missing: readonly string[]) => (missing as string[]).splice(0).map(key => `new ${key}`)
    t.strictSame(await region.getOrCreateMany(['a', 'b'], create), ['new a', 'new b'])
  })

  await t.test('a batch creator that returns another number of values fails the batch, and nothing is kept', async t => {
    const { region } = await setUp(t)
    const expected = (got: string) => ({ code: 'FST_CACHING_API_BATCH_MISMATCH', message: `A creator of region people was asked for 2 values, in the order of its keys, and returned ${got}` })
    await t.rejects(region.getOrCreateMany(['a', 'b'], () => [1]), expected('1'))
    await t.rejects(region.getOrCreateMany(['a', 'b'], () => [1, 2, 3]), expected('3'))
    await t.rejects(region.getOrCreateMany(['a', 'b'], () => new Map() as unknown as number[]), expected('an instance of Map'))
    t.strictSame(await region.getMany(['a', 'b']), [undefined, undefined])
  })

  await t.test('a key that is being created already is joined by a batch, and by single reads', async t => {
    const { region } = await setUp(t)
    const begun = gate()
    const held = gate()
    const single = region.getOrCreate('b', async () => { begun.open(); await held.opened; return 'single b' })
    await begun.opened
    const asked: string[][] = []
    const begunBatch = gate()
    const batch = region.getOrCreateMany(['a', 'b', 'c'], async missing => {
      asked.push([...missing])
      begunBatch.open()
      await held.opened
      return missing.map(key => `batch ${key}`)
    })
    await begunBatch.opened
    const joined = region.getOrCreate('c', () => 'not called')
    held.open()
    t.equal(await single, 'single b')
    t.strictSame(await batch, ['batch a', 'single b', 'batch c'])
    t.equal(await joined, 'batch c')
    t.strictSame(asked, [['a', 'c']])
  })

  await t.test("what fails for one value of a batch, its tags or its shouldCache, fails that one's reader alone", async t => {
    const { region } = await setUp(t)
    const create = async (tags: (value: string) => string[], shouldCache: (value: string) => boolean) => {
      const values: Promise<string[]>[] = []
      const many = region.getOrCreateMany(['a', 'bad', 'b'], missing => [...missing], { tags, shouldCache })
      // Single reads join the flights of the batch: each one shows what became of its own key.
      for (const key of ['a', 'bad', 'b']) values.push(region.getOrCreate(key, () => 'not called').then(value => [value]))
      const settled = await Promise.allSettled(values)
      await t.rejects(many, { message: 'bad' })
      t.match(settled, [{ value: ['a'] }, { reason: { message: 'bad' } }, { value: ['b'] }])
      t.strictSame(await region.getMany(['a', 'bad', 'b']), ['a', undefined, 'b'])
      await region.deleteMany(['a', 'b'])
    }
    const refuse = (value: string) => { if (value === 'bad') throw new Error('bad') }
    await create(value => { refuse(value); return [] }, () => true)
    await create(() => [], value => { refuse(value); return true })
  })

  // ─── wrong use ───────────────────────────────────────────────────────────────────────────────

  await t.test('wrong use is refused with an error that names what is wrong', async t => {
    const { region } = await setUp(t)
    const invalidArgument = (message: RegExp) => ({ code: 'FST_CACHING_API_INVALID_ARGUMENT', message })
    await t.rejects(region.get(1 as unknown as string), invalidArgument(/A key must be a string, got 1/))
    await t.rejects(region.getMany('alice' as unknown as string[]), invalidArgument(/keys must be an array of strings, got 'alice'/))
    await t.rejects(region.getMany(['alice', null] as unknown as string[]), invalidArgument(/A key must be a string, got null/))
    await t.rejects(region.deleteMany('alice' as unknown as string[]), invalidArgument(/keys must be an array/))
    await t.rejects(region.getOrCreate('alice', 'bob' as unknown as () => string), invalidArgument(/creator must be a function, got 'bob'/))
    await t.rejects(region.getOrCreateMany(['alice'], undefined as unknown as () => string[]), invalidArgument(/creator must be a function, got undefined/))
    t.throws(() => region.wrap('', () => 1), invalidArgument(/name must be a string that is not empty/))
    t.throws(() => region.wrap(1 as unknown as string, () => 1), invalidArgument(/name must be a string/))
    t.throws(() => region.wrap('one', 1 as unknown as () => number), invalidArgument(/fn must be a function, got 1/))
    await t.rejects(region.wrap('one', (fn: () => void) => fn)(() => {}), invalidArgument(/one\[0\] must be made of strings/))

    const invalidOptions = (message: RegExp) => ({ code: 'FST_CACHING_API_INVALID_OPTIONS', message })
    await t.rejects(region.get('alice', { maxAge: 'soon' }), invalidOptions(/options\.maxAge must be a duration/))
    await t.rejects(region.getMany(['alice'], { maxAge: -1 }), invalidOptions(/options\.maxAge/))
    await t.rejects(region.set('alice', 1, { ttl: 0 }), invalidOptions(/options\.ttl must be a duration .*at least 1 ms/))
    await t.rejects(region.set('alice', 1, { ttl: Infinity }), invalidOptions(/options\.ttl/))
    await t.rejects(region.set('alice', 1, { grace: -1 }), invalidOptions(/options\.grace/))
    await t.rejects(region.getOrCreate('alice', () => 1, { shouldCache: true as unknown as () => boolean }), invalidOptions(/options\.shouldCache must be a function/))
    t.throws(() => region.wrap('one', () => 1, { ttl: 'never' }), invalidOptions(/options\.ttl/))
    t.equal(await region.get('alice'), undefined)
  })

  await t.test('a request that reads a region counts where its values came from', async t => {
    const { manager, region } = await setUp(t)
    await region.set('alice', 1)
    const api = manager.createApi()
    t.equal(await api.region('people').get('alice'), 1)
    t.equal(await api.region('people').getOrCreate('bob', () => 2), 2)
    const [nearest] = region.path.tiers
    t.match(api.stats, { tiers: { [nearest!.name]: 1 }, loaded: 1, loads: 1 })
  })

  await t.test('a value that cannot be kept is refused by set, and what was there stays', async t => {
    const { region } = await setUp(t)
    await region.set('alice', 'old')
    await t.rejects(region.set('alice', () => {}), { code: 'FST_CACHING_API_INVALID_ARGUMENT' })
    await t.rejects(region.setMany<unknown>([['bob', 1], ['alice', Symbol('s')]]), { code: 'FST_CACHING_API_INVALID_ARGUMENT' })
    t.strictSame(await region.getMany(['alice', 'bob']), ['old', undefined])
  })
}

t.test('regions need no web framework: nothing in lib imports one', async t => {
  const lib = new URL('../../lib/', import.meta.url)
  const files = (await readdir(lib, { recursive: true })).filter(file => file.endsWith('.ts'))
  t.ok(files.includes('region.ts'))
  for (const file of files) {
    const imports = (await readFile(new URL(file, lib), 'utf8')).matchAll(/^(?:import|export|\}).* from '([^']+)'/gm)
    t.strictSame(Array.from(imports, ([, from]) => from).filter(from => /^fastify/.test(from!) || from!.includes('plugin/')), [], file)
  }
})
