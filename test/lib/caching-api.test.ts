import { AsyncLocalStorage } from 'node:async_hooks'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { Redis } from 'ioredis'
import t, { type Test } from 'tap'
import { cacheObject, property } from '../../lib/cache-objects/cache-object.js'
import { cachedObject, loadMany, loadOne } from '../../lib/cached-object.js'
import type { CachingApi } from '../../lib/caching-api.js'
import { CachingManager, type CachingManagerOptions } from '../../lib/caching-manager.js'
import type { RegionOptions } from '../../lib/region-options.js'
import type { Backend } from '../../lib/backends/backend.js'
import { memory } from '../../lib/backends/memory.js'
import { nothing } from '../../lib/backends/nothing.js'
import { redis } from '../../lib/backends/redis.js'
import { collectGarbage } from '../helpers/garbage.js'
import { countingLoader, eventually, fakeClock, gate, silentLogger } from '../helpers/doubles.js'
import { startRedis } from '../helpers/servers.js'

interface User { id: number, name: string, photoId: number }
const alice: User = { id: 1, name: 'alice', photoId: 10 }
const bob: User = { id: 2, name: 'bob', photoId: 20 }

function managerOf (t: Pick<Test, 'teardown'>, region: Partial<RegionOptions> = {}, options: Partial<CachingManagerOptions> = {}): CachingManager {
  const manager = new CachingManager({ regions: { objects: { tiers: [memory()], ttl: '1m', jitter: 0, ...region } }, ...options })
  t.teardown(() => manager.close())
  return manager
}

/** Users, and a count of how they were loaded. */
function usersOf (rows: readonly User[] = [alice, bob], before?: (ids: readonly number[]) => unknown) {
  const loader = countingLoader<number, User>(rows, before)
  const User = cachedObject({
    name: 'User',
    region: 'objects',
    methods: { getById: loadMany({ load: loader.load, idOf: loader.idOf }) }
  })
  return { User, ...loader }
}

/** A backend of bytes that counts what it is asked. */
function countingBackend (): Backend & { reads: number, writes: number } {
  const inner = memory({ maxEntries: 20_000 })
  return {
    name: 'counted',
    reads: 0,
    writes: 0,
    getMany (keys) { this.reads++; return inner.getMany(keys) },
    setMany (entries) { this.writes++; return inner.setMany(entries) },
    deleteMany: keys => inner.deleteMany(keys)
  }
}

const failing = (message: string) => () => { throw new Error(message) }

t.test('what memory has needs no key when it is read again, with whatever options', async t => {
  const { User, calls } = usersOf()
  const manager = managerOf(t)
  const bound = manager.method(User, 'getById')
  await manager.createApi().get(User, 'getById', [1])
  await manager.createApi().get(User, 'getById', [1]) // by its key, for the last time
  bound.key = failing('no key is needed')
  for (const options of [undefined, {}, { maxAge: '1h' }, { maxAge: Infinity }, { force: true }]) {
    const request = manager.createApi()
    t.strictSame(await request.get(User, 'getById', [1], options), alice)
    t.strictSame(await request.getMany(User, 'getById', [1, 1], options), [alice, alice])
    t.equal(request.stats.local, options?.force === true ? 0 : 2)
  }
  await t.rejects(manager.createApi().get(User, 'getById', [1], { maxAge: 0 }), { message: 'no key is needed' }, 'what is too old does')
  t.strictSame(calls, [[1]])
})

t.test('the seed: every capability of pyramid_caching_api', async t => {
  t.test('cached info comes from the request, then the cloud, then the database', async t => {
    const { User, calls } = usersOf()
    const cloud = countingBackend()
    const manager = managerOf(t, { tiers: [cloud] })

    const request = manager.createApi()
    t.strictSame(await request.get(User, 'getById', [1]), alice)
    t.strictSame(calls, [[1]], 'the database')
    await manager.idle()

    const other = manager.createApi()
    t.strictSame(await other.get(User, 'getById', [1]), alice)
    t.strictSame(calls, [[1]], 'the cloud')
    t.strictSame(other.stats.tiers, { counted: 1 })

    const { reads } = cloud
    t.strictSame(await other.get(User, 'getById', [1]), alice)
    t.equal(cloud.reads, reads, 'the request')
    t.equal(other.stats.local, 1)
  })

  t.test('what a request has seen has no expiry: a cache server is not asked twice for the same object', async t => {
    const { User, calls } = usersOf()
    const clock = fakeClock()
    const cloud = countingBackend()
    const manager = managerOf(t, { tiers: [cloud], ttl: 1000 }, { now: clock.now })
    const request = manager.createApi()
    const seen = await request.get(User, 'getById', [1])
    await manager.idle()
    const { reads } = cloud
    clock.advance(7 * 24 * 60 * 60 * 1000)
    t.equal(await request.get(User, 'getById', [1]), seen)
    t.equal(cloud.reads, reads)
    t.equal(calls.length, 1)
  })

  t.test('two phases: keys are split into hits and misses, and the misses are one parallel select', async t => {
    const { User, calls } = usersOf([alice, bob, { id: 3, name: 'carol', photoId: 30 }, { id: 4, name: 'dan', photoId: 40 }])
    const cloud = countingBackend()
    const manager = managerOf(t, { tiers: [cloud] })
    await manager.createApi().getMany(User, 'getById', [2, 4])
    await manager.idle()
    calls.length = 0
    cloud.reads = 0

    const request = manager.createApi()
    const names = (await request.getMany(User, 'getById', [1, 2, 3, 4])).map(user => user?.name)
    t.strictSame(names, ['alice', 'bob', 'carol', 'dan'])
    t.strictSame(calls, [[1, 3]])
    t.match(request.stats, { tiers: { counted: 2 }, loaded: 2, loads: 1 })
    t.equal(cloud.reads, 1, 'once for all keys')
  })

  t.test('a regions manager is made at application startup, and an api for each request', async t => {
    const manager = managerOf(t)
    t.strictSame([...manager.regions.keys()], ['objects'])
    t.not(manager.createApi(), manager.createApi())
  })

  t.test('no database is opened unless data is missing everywhere', async t => {
    const { User } = usersOf()
    let opened = 0
    const manager = managerOf(t, {}, { context: (async () => { opened++; return {} }) as never })
    const seen = manager.createApi()
    await seen.set(User, 'getById', [1], alice)
    await seen.get(User, 'getById', [1])
    await manager.createApi().get(User, 'getById', [1])
    t.equal(opened, 0)
    await manager.createApi().get(User, 'getById', [2])
    t.equal(opened, 1)
  })

  t.test('get (object, \'get_by_id\', (1,))', async t => {
    const { User } = usersOf()
    t.strictSame(await managerOf(t).createApi().get(User, 'getById', [1]), alice)
  })

  t.test('relationships are lazyloaded functions of an object: user.photo', async t => {
    const { User } = usersOf()
    const photos = countingLoader([{ id: 10, url: '/10.jpg' }])
    const Photo = cachedObject({ name: 'Photo', region: 'objects', methods: { getById: loadMany({ load: photos.load, idOf: photos.idOf }) } })
    const request = managerOf(t).createApi()
    const user = await request.get(User, 'getById', [1])
    const withPhoto = request.lazyload(user!, 'photo', Photo, 'getById', [user!.photoId])
    t.strictSame(photos.calls, [], 'nothing is loaded before it is read')
    t.strictSame(await withPhoto.photo, { id: 10, url: '/10.jpg' })
    t.strictSame(photos.calls, [[10]])
  })

  t.test('load multiple objects, record all the needed ids, and cache them into the request', async t => {
    const { User } = usersOf()
    const photos = countingLoader([{ id: 10, url: '/10.jpg' }, { id: 20, url: '/20.jpg' }])
    const Photo = cachedObject({ name: 'Photo', region: 'objects', methods: { getById: loadMany({ load: photos.load, idOf: photos.idOf }) } })
    const request = managerOf(t).createApi()
    const users = await request.getMany(User, 'getById', [1, 2])
    await request.getMany(Photo, 'getById', users.map(user => user!.photoId))
    t.strictSame(await request.get(Photo, 'getById', [20]), { id: 20, url: '/20.jpg' })
    t.strictSame(photos.calls, [[10, 20]])
  })

  t.test('pre-cache and post-cache hooks', async t => {
    const loader = countingLoader([{ id: 1, name: 'alice', password: 'secret' }])
    const User = cachedObject({
      name: 'User',
      region: 'objects',
      methods: {
        getById: loadMany({
          load: loader.load,
          idOf: loader.idOf,
          preCache: ({ password, ...rest }) => rest,
          postCache: user => ({ ...user, greeting: `Hello ${user.name}` })
        })
      }
    })
    const manager = managerOf(t)
    const expected = { id: 1, name: 'alice', greeting: 'Hello alice' }
    t.strictSame(await manager.createApi().get(User, 'getById', [1]), expected, 'from the database')
    t.strictSame(await manager.createApi().get(User, 'getById', [1]), expected, 'from the cloud')
  })

  t.test('To Do 1: multiple-select functions are paired with single-select ones, and populate the request', async t => {
    const { User, calls } = usersOf()
    const request = managerOf(t, { tiers: [nothing()] }).createApi()
    await request.get(User, 'getById', [1])
    await request.getMany(User, 'getById', [1, 2])
    t.strictSame(calls, [[1], [2]], 'the request\'s own data is looked at first')
    await request.get(User, 'getById', [2])
    t.strictSame(calls, [[1], [2]], 'and what came with others is found')
  })
})

t.test('request memory', async t => {
  t.test('a second read gives the same promise and the same object', async t => {
    const { User } = usersOf()
    const api = managerOf(t).createApi()
    const first = api.get(User, 'getById', [1])
    t.equal(api.get(User, 'getById', [1]), first, 'while it loads')
    const user = await first
    t.equal(api.get(User, 'getById', [1]), first, 'and afterwards')
    t.equal(await api.get(User, 'getById', [1]), user)
    t.equal((await api.getMany(User, 'getById', [1]))[0], user)
  })

  t.test('arguments that need a key give the same promise as well, whatever the order of their properties', async t => {
    const calls: unknown[] = []
    const Search = cachedObject({
      name: 'Search',
      region: 'objects',
      methods: { find: loadOne(async (_context, filter: { name: string, page: number }, limit: number) => { calls.push([filter, limit]); return { limit } }) }
    })
    const api = managerOf(t).createApi()
    const first = api.get(Search, 'find', [{ name: 'a', page: 1 }, 10])
    t.equal(api.get(Search, 'find', [{ page: 1, name: 'a' }, 10]), first)
    t.not(api.get(Search, 'find', [{ page: 2, name: 'a' }, 10]), first)
    await api.get(Search, 'find', [{ name: 'a', page: 2 }, 10])
    t.equal(calls.length, 2)
  })

  t.test('1, \'1\' and 1n are different arguments, and so are null, undefined and none at all', async t => {
    const Any = cachedObject({ name: 'Any', region: 'objects', methods: { show: loadOne((_context, ...args: unknown[]) => ({ args })) } })
    const api = managerOf(t).createApi()
    for (const args of [[1], ['1'], [1n], [null], [undefined], [], [1, 2], [[1, 2]], ['a', 'b'], ['ab'], [NaN], [true], ['true'], ['__proto__'], ['constructor']]) {
      t.strictSame(await api.get(Any, 'show', args), { args })
      t.equal(api.stats.local, 0)
    }
  })

  t.test('arguments that are changed after the call change nothing: not what is loaded, not where it is kept', async t => {
    const { User, calls } = usersOf()
    const Search = cachedObject({ name: 'Search', region: 'objects', methods: { find: loadOne((_context, filter: { page: number }) => ({ found: filter.page })) } })
    const manager = managerOf(t)
    const api = manager.createApi()
    const args: [number] = [1]
    const first = api.get(User, 'getById', args)
    args[0] = 2
    const second = api.get(User, 'getById', args)
    const filter = { page: 1 }
    const page = api.get(Search, 'find', [filter])
    filter.page = 2
    t.strictSame(await first, alice)
    t.strictSame(await second, bob)
    t.strictSame(await page, { found: 1 })
    t.strictSame(calls, [[1, 2]])
    t.strictSame(await manager.createApi().get(User, 'getById', [1]), alice)
    t.strictSame(await manager.createApi().get(Search, 'find', [{ page: 1 }]), { found: 1 })
  })

  t.test('a rejected load is not remembered: the next read tries again', async t => {
    let down = true
    const error = new Error('the database is away')
    const { User, calls } = usersOf([alice], () => { if (down) throw error })
    const api = managerOf(t).createApi()
    t.equal(await api.get(User, 'getById', [1]).catch(reason => reason), error, 'the error comes unchanged')
    down = false
    t.strictSame(await api.get(User, 'getById', [1]), alice)
    t.equal(calls.length, 2)
  })

  t.test('a failed read whose key was read anew meanwhile does not forget the newer one', async t => {
    const doors = [gate(), gate()]
    let call = 0
    const { User } = usersOf([alice], async () => {
      const mine = call++
      await doors[mine]!.opened
      if (mine === 0) throw new Error('too late')
    })
    const api = managerOf(t).createApi()
    const failed = api.get(User, 'getById', [1])
    await new Promise(setImmediate)
    const refreshed = api.refresh(User, 'getById', [1])
    doors[1]!.open()
    const newer = await refreshed
    doors[0]!.open()
    await t.rejects(failed, /too late/)
    t.equal(await api.get(User, 'getById', [1]), newer)
  })

  t.test('a request sees nothing of what others write, invalidate or refresh meanwhile', async t => {
    const { User, rows } = usersOf()
    const manager = managerOf(t)
    const api = manager.createApi()
    const seen = await api.get(User, 'getById', [1])
    const other = manager.createApi()
    await other.set(User, 'getById', [1], { ...alice, name: 'Alice' })
    t.equal(await api.get(User, 'getById', [1]), seen)
    await other.invalidate(User, 'getById', [1])
    t.equal(await api.get(User, 'getById', [1]), seen)
    rows.set(1, { ...alice, name: 'ALICE' })
    await other.refresh(User, 'getById', [1])
    t.equal(await api.get(User, 'getById', [1]), seen)
    t.equal((await manager.createApi().get(User, 'getById', [1]))?.name, 'ALICE')
  })

  t.test('what one request does to its object, no other request sees', async t => {
    const row = { id: 1, name: 'alice', tags: ['a'], born: new Date(0) }
    const loader = countingLoader([row])
    const Person = cachedObject({ name: 'Person', region: 'objects', methods: { getById: loadMany({ load: loader.load, idOf: loader.idOf }) } })
    const manager = managerOf(t)
    const [mine, yours] = await Promise.all([manager.createApi().get(Person, 'getById', [1]), manager.createApi().get(Person, 'getById', [1])])
    mine!.name = 'changed'
    mine!.born.setFullYear(1)
    t.throws(() => mine!.tags.push('b'), TypeError)
    const later = await manager.createApi().get(Person, 'getById', [1])
    for (const theirs of [yours, later, row]) t.strictSame(theirs, { id: 1, name: 'alice', tags: ['a'], born: new Date(0) })
    t.notOk(Object.isFrozen(row.tags), 'the loader\'s own objects are not frozen')
  })

  t.test('its own write is seen at once, even before the tiers have it', async t => {
    const { User, calls } = usersOf()
    const door = gate()
    const slow = countingBackend()
    const manager = managerOf(t, { tiers: [slow], tierTimeout: '20s' })
    const api = manager.createApi()
    const old = await api.get(User, 'getById', [2])
    await manager.idle()
    const { setMany } = slow
    slow.setMany = async function (entries) { await door.opened; await setMany.call(this, entries) }
    const written = api.set(User, 'getById', [2], { ...bob, name: 'Bob' })
    const seen = await api.get(User, 'getById', [2])
    t.equal(seen?.name, 'Bob')
    t.equal(old?.name, 'bob', 'what was given out before stays as it was')
    t.equal(await api.get(User, 'getById', [2]), seen)
    door.open()
    await written
    t.equal((await manager.createApi().get(User, 'getById', [2]))?.name, 'Bob')
    t.strictSame(calls, [[2]])
  })

  t.test('its own invalidation is seen at once', async t => {
    const { User, rows, calls } = usersOf()
    const api = managerOf(t).createApi()
    await api.get(User, 'getById', [1])
    rows.set(1, { ...alice, name: 'Alice' })
    const invalidated = api.invalidate(User, 'getById', [1])
    const after = api.get(User, 'getById', [1])
    await invalidated
    t.equal((await after)?.name, 'Alice')
    t.strictSame(calls, [[1], [1]])
  })

  t.test('a read after an own invalidation does not get what a load that began before it brings', async t => {
    const doors = [gate(), gate()]
    const { rows } = usersOf([alice])
    const calls: number[][] = []
    const Slow = cachedObject({
      name: 'Slow',
      region: 'objects',
      methods: {
        getById: loadOne(async (_context, id: number) => {
          const row = rows.get(id)
          const mine = calls.push([id]) - 1
          await doors[mine]!.opened
          return row
        })
      }
    })
    const api = managerOf(t).createApi()
    const before = api.get(Slow, 'getById', [1])
    await eventually(t, () => calls.length === 1, 'the first load is under way')
    rows.set(1, { ...alice, name: 'Alice' })
    await api.invalidate(Slow, 'getById', [1])
    const after = api.get(Slow, 'getById', [1])
    doors[1]!.open()
    t.equal((await after)?.name, 'Alice')
    doors[0]!.open()
    t.equal((await before)?.name, 'alice')
    t.equal((await api.get(Slow, 'getById', [1]))?.name, 'Alice')
  })

  t.test('nothing of it outlives the request', async t => {
    setFlagsFromString('--expose-gc')
    const gc = runInNewContext('gc') as () => void
    const manager = managerOf(t)
    const User = cachedObject({
      name: 'User',
      region: 'objects',
      methods: {
        getById: loadMany({
          load: async (_context, ids: readonly number[]) => ids.map(id => ({ id, name: `user ${id}` })),
          idOf: row => row.id,
          primes: { getByName: row => [row.name] },
          postCache: (row, api: CachingApi) => api.lazyload(row, 'twin', Named, 'getByName', [row.name])
        }),
        getByName: loadOne(async (_context, name: string) => ({ id: 0, name }))
      }
    })
    const Named = cachedObject({ name: 'Named', region: 'objects', methods: { getByName: loadOne(async (_context, name: string) => ({ name })) } })
    const gone = new Set<string>()
    const registry = new FinalizationRegistry<string>(name => { gone.add(name) })
    await (async () => {
      const api = manager.createApi()
      const user = await api.get(User, 'getById', [1])
      const twin = await user!.twin
      const stashed = api.stash('key', { anything: true })
      const made = await api.region('objects').getOrCreate('made', () => ({ made: true }))
      for (const [name, object] of Object.entries({ api, user, twin, stashed, made })) registry.register(object!, name)
    })()
    await manager.idle()
    await eventually(t, () => { gc(); return gone.size === 5 }, 'the api, its rows and its stash have been collected')
  })
})

t.test('getMany', async t => {
  t.test('gives one value for each entry, in the caller\'s order, duplicates repeated and absences null', async t => {
    const { User, calls } = usersOf()
    const api = managerOf(t).createApi()
    const users = await api.getMany(User, 'getById', [2, 99, 1, 2, 98])
    t.strictSame(users, [bob, null, alice, bob, null])
    t.equal(users[0], users[3])
    t.strictSame(calls, [[2, 99, 1, 98]])
  })

  t.test('takes arguments as tuples, bare, or mixed', async t => {
    const { User } = usersOf()
    const api = managerOf(t).createApi()
    t.strictSame(await api.getMany(User, 'getById', [[1], [2]]), [alice, bob])
    t.strictSame(await api.getMany(User, 'getById', [2, [1]]), [bob, alice])
    const Sum = cachedObject({ name: 'Sum', region: 'objects', methods: { of: loadOne((_context, a: number, b: number) => ({ sum: a + b })) } })
    t.strictSame(await api.getMany(Sum, 'of', [[1, 2], [3, 4]]), [{ sum: 3 }, { sum: 7 }])
  })

  t.test('of nothing is nothing, and asks nobody', async t => {
    const { User, calls } = usersOf()
    const cloud = countingBackend()
    t.strictSame(await managerOf(t, { tiers: [cloud] }).createApi().getMany(User, 'getById', []), [])
    t.strictSame([calls.length, cloud.reads], [0, 0])
  })

  t.test('of 10,000 ids reads the tier once, and loads in batches of 1000', async t => {
    const ids = Array.from({ length: 10_000 }, (_, i) => i)
    const loader = countingLoader(ids.map(id => ({ id })))
    const Row = cachedObject({ name: 'Row', region: 'objects', methods: { getById: loadMany({ load: loader.load, idOf: loader.idOf }) } })
    const cloud = countingBackend()
    const manager = managerOf(t, { tiers: [cloud], tierTimeout: '20s' })
    const rows = await manager.createApi().getMany(Row, 'getById', ids)
    t.ok(rows.every((row, i) => row?.id === i))
    t.strictSame(loader.calls.map(call => call.length), Array(10).fill(1000))
    t.ok(cloud.reads <= 2, `${cloud.reads} reads`)
    await manager.idle()

    cloud.reads = 0
    const again = await manager.createApi().getMany(Row, 'getById', ids)
    t.ok(again.every((row, i) => row?.id === i))
    t.equal(cloud.reads, 1)
    t.equal(loader.calls.length, 10)
  })

  t.test('rows that come in another order, or for nobody, reach the right ids', async t => {
    const logger = silentLogger()
    const User = cachedObject({
      name: 'User',
      region: 'objects',
      methods: { getById: loadMany({ load: async (_context, _ids: readonly number[]) => [bob, { ...alice, id: 7 }, alice], idOf: row => row.id }) }
    })
    t.strictSame(await managerOf(t, {}, { logger }).createApi().getMany(User, 'getById', [1, 3, 2]), [alice, null, bob])
    t.equal(logger.lines.warn.length, 1)
  })

  t.test('one key\'s failure touches no other key', async t => {
    const { User } = usersOf()
    const Fussy = cachedObject({
      name: 'Fussy',
      region: 'objects',
      methods: { getById: loadOne((_context, id: number) => { if (id === 2) throw new Error('not 2'); return { id } }) }
    })
    const api = managerOf(t).createApi()
    const one = api.get(Fussy, 'getById', [1])
    await t.rejects(api.getMany(Fussy, 'getById', [1, 2, 3]), /not 2/)
    t.strictSame(await one, { id: 1 })
    t.strictSame(await api.get(Fussy, 'getById', [3]), { id: 3 })
    t.strictSame(await api.get(User, 'getById', [1]), alice)
  })

  t.test('a key that is known does not wait for keys that are not', async t => {
    const door = gate()
    const { User } = usersOf([alice, bob], async ids => { if (ids.includes(2)) await door.opened })
    const manager = managerOf(t)
    await manager.createApi().get(User, 'getById', [1])
    const api = manager.createApi()
    const known = api.get(User, 'getById', [1])
    const all = api.getMany(User, 'getById', [1, 2])
    t.strictSame(await known, alice)
    door.open()
    t.strictSame(await all, [alice, bob])
  })

  t.test('joins what single reads, its own and other requests\', are already loading', async t => {
    const door = gate()
    const { User, calls } = usersOf([alice, bob], async ids => { if (ids.includes(1)) await door.opened })
    const manager = managerOf(t)
    const mine = manager.createApi()
    const single = mine.get(User, 'getById', [1])
    await eventually(t, () => calls.length === 1, 'the single read is loading')
    const many = mine.getMany(User, 'getById', [1, 2])
    const others = manager.createApi().getMany(User, 'getById', [2, 1])
    await eventually(t, () => calls.length === 2, 'only the new one is loaded')
    door.open()
    t.equal((await many)[0], await single)
    t.strictSame(await others, [bob, alice])
    t.strictSame(calls, [[1], [2]])
  })

  t.test('keys missing in one tick, from all requests together, make one load', async t => {
    const { User, calls } = usersOf()
    const manager = managerOf(t)
    await Promise.all([
      manager.createApi().get(User, 'getById', [1]),
      manager.createApi().getMany(User, 'getById', [2, 1]),
      manager.createApi().get(User, 'getById', [3])
    ])
    t.strictSame(calls, [[1, 2, 3]])
  })
})

t.test('serverTiming shows the same, and how long it took', async t => {
  const { User } = usersOf()
  const manager = managerOf(t, { tiers: [memory(), countingBackend()] })
  const api = manager.createApi()
  await api.getMany(User, 'getById', [1, 2])
  await api.get(User, 'getById', [1])
  t.match(api.serverTiming, /^cache-local;desc="1", cache-counted;desc="0";dur=[\d.]+, cache-load;desc="2 in 1";dur=[\d.]+$/)
})

t.test('peek', async t => {
  t.test('shows what the request already holds, and never touches a tier or a loader', async t => {
    const { User, calls } = usersOf()
    const cloud = countingBackend()
    const manager = managerOf(t, { tiers: [cloud] })
    const api = manager.createApi()
    t.equal(api.peek(User, 'getById', [1]), undefined)
    const reading = api.get(User, 'getById', [1])
    t.equal(api.peek(User, 'getById', [1]), undefined, 'not while it is on its way')
    const user = await reading
    t.equal(api.peek(User, 'getById', [1]), user)
    const other = manager.createApi()
    t.equal(other.peek(User, 'getById', [1]), undefined)
    await other.set(User, 'getById', [1], user!)
    t.strictSame(other.peek(User, 'getById', [1]), user)
    await manager.idle()
    const { reads } = cloud
    api.peek(User, 'getById', [2])
    await manager.idle()
    t.equal(cloud.reads, reads)
    t.strictSame(calls, [[1]])
    t.equal(api.stats.local, 0, 'it is no read')
  })

  t.test('shows what was read before while that is read anew', async t => {
    const { User } = usersOf()
    const api = managerOf(t).createApi()
    const user = await api.get(User, 'getById', [1])
    const forced = api.get(User, 'getById', [1], { force: true, maxAge: 0 })
    const before = api.peek(User, 'getById', [1])
    const refresh = api.refresh(User, 'getById', [1])
    t.strictSame([before === user, api.peek(User, 'getById', [1]) === user], [true, true])
    await forced
    t.equal(await refresh, api.peek(User, 'getById', [1]))
  })

  t.test('shows what was read while it was being read anew', async t => {
    const [begun, held, heldAnew] = [gate(), gate(), gate()]
    const loads = [async () => { begun.open(); await held.opened; return { v: 1 } }, async () => { await heldAnew.opened; return { v: 2 } }]
    const User = cachedObject({ name: 'User', region: 'objects', methods: { find: loadOne(async (_context, _id: number) => await loads.shift()!()) } })
    const api = managerOf(t, { tiers: [nothing()], tierTimeout: '20s' }).createApi()
    const first = api.get(User, 'find', [1])
    await begun.opened
    const refresh = api.refresh(User, 'find', [1])
    held.open()
    const read = await first
    t.equal(api.peek(User, 'find', [1]), read)
    heldAnew.open()
    t.equal(await refresh, api.peek(User, 'find', [1]))
  })

  t.test('shows what was read before though one of two later reads has failed', async t => {
    const held = [gate(), gate()]
    const loads = [async () => ({ v: 1 }), ...held.map(({ opened }) => async () => { await opened; throw new Error('away') })]
    const User = cachedObject({ name: 'User', region: 'objects', methods: { find: loadOne(async (_context, _id: number) => await loads.shift()!()) } })
    const manager = managerOf(t)
    const api = manager.createApi()
    const user = await api.get(User, 'find', [1])
    const again = held.map(async () => {
      await manager.createApi().invalidate(User, 'find', [1])
      return await api.get(User, 'find', [1], { force: true })
    })
    const failed = again.map(async read => { await t.rejects(read, { message: 'away' }) })
    for (const [i, { open }] of held.entries()) {
      open()
      await failed[i]
      t.equal(api.peek(User, 'find', [1]), user)
    }
  })

  t.test('shows null for a row that is known not to exist, and nothing after an invalidation', async t => {
    const { User } = usersOf()
    const api = managerOf(t).createApi()
    await api.getMany(User, 'getById', [1, 99])
    t.equal(api.peek(User, 'getById', [99]), null)
    await api.invalidate(User, 'getById', [1])
    t.equal(api.peek(User, 'getById', [1]), undefined)
  })
})

t.test('set', async t => {
  t.test('takes a row as the loader would give it: preCache, postCache, tags and primes apply', async t => {
    const User = cachedObject({
      name: 'User',
      region: 'objects',
      methods: {
        getById: loadOne(failing('never loaded') as unknown as (context: unknown, id: number) => User & { password: string }, {
          preCache: ({ password, ...user }): User => user,
          postCache: user => ({ ...user, shown: user.name.toUpperCase() }),
          tags: user => [`photo-${user.photoId}`],
          primes: { getByName: user => [user.name] }
        }),
        getByName: loadOne(failing('never loaded') as unknown as (context: unknown, name: string) => User & { password: string }, {
          preCache: ({ password, ...user }): User => user
        })
      }
    })
    const manager = managerOf(t)
    const api = manager.createApi()
    await api.set(User, 'getById', [1], { ...alice, password: 'secret' })
    t.strictSame(await api.get(User, 'getById', [1]), { ...alice, shown: 'ALICE' })
    t.strictSame(await manager.createApi().get(User, 'getById', [1]), { ...alice, shown: 'ALICE' })
    t.strictSame(await manager.createApi().get(User, 'getByName', ['alice']), alice)
    await manager.region('objects').invalidateTags('photo-10')
    await t.rejects(manager.createApi().get(User, 'getById', [1]), /never loaded/)
  })

  t.test('is not undone by a load that was under way', async t => {
    const door = gate()
    const { User } = usersOf([alice], async () => { await door.opened })
    const manager = managerOf(t, { tiers: [memory(), countingBackend()] })
    const loading = manager.createApi().get(User, 'getById', [1])
    await new Promise(setImmediate)
    const api = manager.createApi()
    await api.set(User, 'getById', [1], { ...alice, name: 'Alice' })
    door.open()
    t.equal((await loading)?.name, 'alice')
    await manager.idle()
    t.equal((await manager.createApi().get(User, 'getById', [1]))?.name, 'Alice')
  })

  t.test('of null says that there is no such row', async t => {
    const { User, calls } = usersOf()
    const manager = managerOf(t)
    const api = manager.createApi()
    await api.set(User, 'getById', [1], null)
    t.equal(await api.get(User, 'getById', [1]), null)
    t.equal(await manager.createApi().get(User, 'getById', [1]), null)
    t.strictSame(calls, [])
  })

  t.test('is seen at once by methods that it primes, though this request has read them', async t => {
    const load = (_context: unknown, _name: string): User => alice
    const User = cachedObject({
      name: 'User',
      region: 'objects',
      methods: {
        getById: loadOne((_context, _id: number): User => alice, { primes: { getByName: user => [user.name] } }),
        getByName: loadOne(load)
      }
    })
    const api = managerOf(t).createApi()
    t.equal((await api.get(User, 'getByName', ['alice']))?.photoId, 10)
    const written = api.set(User, 'getById', [1], { ...alice, photoId: 11 })
    t.equal((await api.get(User, 'getByName', ['alice']))?.photoId, 11)
    await written
  })

  t.test('takes the place of a row that came with another and was not read yet', async t => {
    const User = cachedObject({
      name: 'User',
      region: 'objects',
      methods: {
        getById: loadOne((_context, _id: number): User => alice),
        getByName: loadOne((_context, _name: string): User => alice, { primes: { getById: user => [user.id] } })
      }
    })
    const api = managerOf(t).createApi()
    await api.get(User, 'getByName', ['alice'])
    await api.set(User, 'getById', [1], bob)
    t.strictSame(await api.get(User, 'getById', [1]), bob)
  })

  t.test('of null with a ttl of its own is remembered for that', async t => {
    const clock = fakeClock()
    const { User, calls } = usersOf()
    const manager = managerOf(t, { negativeTtl: 0 }, { now: clock.now })
    await manager.createApi().set(User, 'getById', [1], null, { ttl: 1000 })
    clock.advance(999)
    t.equal(await manager.createApi().get(User, 'getById', [1]), null)
    clock.advance(1)
    t.strictSame(await manager.createApi().get(User, 'getById', [1]), alice)
    t.strictSame(calls, [[1]])
  })

  t.test('of null, where absences are not to be remembered, forgets what was there', async t => {
    const { User, calls } = usersOf()
    const manager = managerOf(t, { negativeTtl: 0 })
    const api = manager.createApi()
    await api.set(User, 'getById', [1], { ...alice, name: 'Alice' })
    await api.set(User, 'getById', [1], null)
    t.equal(await api.get(User, 'getById', [1]), null, 'the request knows')
    t.strictSame(await manager.createApi().get(User, 'getById', [1]), alice, 'others load')
    t.strictSame(calls, [[1]])
  })

  t.test('has its own ttl, grace and tags where it is given them', async t => {
    const { User, calls } = usersOf()
    const clock = fakeClock()
    const manager = managerOf(t, {}, { now: clock.now })
    await manager.createApi().set(User, 'getById', [1], alice, { ttl: '1s', grace: '1s', tags: ['x'] })
    await manager.createApi().set(User, 'getById', [2], bob, { tags: ['x'] })
    clock.advance(1500)
    const api = manager.createApi()
    await api.get(User, 'getById', [1])
    t.equal(api.stats.stale, 1)
    await manager.idle()
    t.strictSame(calls, [[1]])
    await manager.region('objects').invalidateTags('x')
    await manager.createApi().get(User, 'getById', [2])
    t.strictSame(calls, [[1], [2]])
  })

  t.test('keeps a copy: what the caller does to its row afterwards changes nothing', async t => {
    const { User } = usersOf()
    const manager = managerOf(t)
    const api = manager.createApi()
    const row = { ...alice }
    await api.set(User, 'getById', [1], row)
    row.name = 'changed'
    t.strictSame(await api.get(User, 'getById', [1]), alice)
    t.strictSame(await manager.createApi().get(User, 'getById', [1]), alice)
  })
})

t.test('invalidate', async t => {
  t.test('makes every later request load anew', async t => {
    const { User, rows, calls } = usersOf()
    const manager = managerOf(t, { tiers: [memory(), countingBackend()] })
    await manager.createApi().get(User, 'getById', [1])
    await manager.idle()
    rows.set(1, { ...alice, name: 'Alice' })
    await manager.createApi().invalidate(User, 'getById', [1])
    t.equal((await manager.createApi().get(User, 'getById', [1]))?.name, 'Alice')
    t.strictSame(calls, [[1], [1]])
  })

  t.test('of a key that nobody has read is fine', async t => {
    const { User } = usersOf()
    const Search = cachedObject({ name: 'Search', region: 'objects', methods: { find: loadOne((_context, a: number, b: number) => ({ a, b })) } })
    const api = managerOf(t).createApi()
    await api.invalidate(User, 'getById', [12])
    await api.invalidate(Search, 'find', [1, 2])
    await api.get(Search, 'find', [1, 2])
    await api.invalidate(Search, 'find', [1, 2])
    t.equal(api.peek(Search, 'find', [1, 2]), undefined)
  })
})

t.test('refresh', async t => {
  t.test('loads whatever the tiers hold, replaces it, and is what the request sees from then on', async t => {
    const { User, rows, calls } = usersOf()
    const manager = managerOf(t, { tiers: [memory(), countingBackend()] })
    const api = manager.createApi()
    await api.get(User, 'getById', [1])
    await manager.idle()
    rows.set(1, { ...alice, name: 'Alice' })
    const refreshed = await api.refresh(User, 'getById', [1])
    t.equal(refreshed?.name, 'Alice')
    t.equal(await api.get(User, 'getById', [1]), refreshed)
    await manager.idle()
    t.equal((await manager.createApi().get(User, 'getById', [1]))?.name, 'Alice')
    t.strictSame(calls, [[1], [1]])
  })

  t.test('that fails leaves what the tiers hold', async t => {
    let down = false
    const { User } = usersOf([alice], () => { if (down) throw new Error('away') })
    const manager = managerOf(t)
    const api = manager.createApi()
    await api.get(User, 'getById', [1])
    down = true
    await t.rejects(api.refresh(User, 'getById', [1]), /away/)
    t.strictSame(await api.get(User, 'getById', [1]), alice)
    t.strictSame(await manager.createApi().get(User, 'getById', [1]), alice)
  })
})

t.test('lazyload', async t => {
  function graph () {
    const ids = Array.from({ length: 100 }, (_, i) => i)
    const users = countingLoader(ids.map(id => ({ id, photoId: 1000 + id })))
    const photos = countingLoader(ids.map(id => ({ id: 1000 + id, albumId: 2000 + id % 10 })))
    const albums = countingLoader(ids.slice(0, 10).map(id => ({ id: 2000 + id, title: `album ${id}` })))
    const Album = cachedObject({ name: 'Album', region: 'objects', methods: { getById: loadMany({ load: albums.load, idOf: albums.idOf }) } })
    const Photo = cachedObject({
      name: 'Photo',
      region: 'objects',
      methods: { getById: loadMany({ load: photos.load, idOf: photos.idOf, postCache: (photo, api) => api.lazyload(photo, 'album', Album, 'getById', [photo.albumId]) }) }
    })
    const User = cachedObject({
      name: 'User',
      region: 'objects',
      methods: { getById: loadMany({ load: users.load, idOf: users.idOf, postCache: (user, api) => api.lazyload(user, 'photo', Photo, 'getById', [user.photoId]) }) }
    })
    return { ids, User, users, photos, albums }
  }

  t.test('a hundred objects\' property, read in one tick, is one batch', async t => {
    const { ids, User, photos } = graph()
    const api = managerOf(t).createApi()
    const users = await api.getMany(User, 'getById', ids)
    t.strictSame(photos.calls, [])
    const found = await Promise.all(users.map(user => user!.photo))
    t.strictSame(photos.calls, [ids.map(id => 1000 + id)])
    t.strictSame(found.map(photo => photo!.id), ids.map(id => 1000 + id))
  })

  t.test('a graph of three levels is three batches', async t => {
    const { ids, User, users, photos, albums } = graph()
    const api = managerOf(t).createApi()
    const titles = await Promise.all(ids.map(async id => {
      const user = await api.get(User, 'getById', [id])
      const photo = await user!.photo
      return (await photo!.album)!.title
    }))
    t.strictSame(titles, ids.map(id => `album ${id % 10}`))
    t.strictSame([users, photos, albums].map(({ calls }) => calls.length), [1, 1, 1])
    t.match(api.stats, { loads: 3, loaded: 210 })
  })

  t.test('the property is loaded once, and the same promise each time', async t => {
    const { User, photos } = graph()
    const user = await managerOf(t).createApi().get(User, 'getById', [1])
    t.equal(user!.photo, user!.photo)
    await user!.photo
    await user!.photo
    t.equal(photos.calls.length, 1)
  })

  t.test('the property is not enumerable: serialising or comparing the object loads nothing', async t => {
    const { User, photos } = graph()
    const manager = managerOf(t)
    const user = await manager.createApi().get(User, 'getById', [1])
    t.strictSame(Object.keys(user!), ['id', 'photoId'])
    t.equal(JSON.stringify(user), '{"id":1,"photoId":1001}')
    t.strictSame({ ...user }, { id: 1, photoId: 1001 })
    await manager.idle()
    t.strictSame(photos.calls, [])
  })

  t.test('a property can be defined anew, and sees its request\'s own invalidations', async t => {
    const { User, rows } = usersOf()
    const api = managerOf(t).createApi()
    const page = api.lazyload(api.lazyload({}, 'user', User, 'getById', [2]), 'user', User, 'getById', [1])
    t.equal((await page.user)?.name, 'alice')
    rows.set(1, { ...alice, name: 'Alice' })
    await api.invalidate(User, 'getById', [1])
    t.equal((await page.user)?.name, 'Alice')
  })

  t.test('a frozen target is refused, and so are arguments that can not be read', async t => {
    const { User } = usersOf()
    const api = managerOf(t).createApi()
    t.throws(() => api.lazyload(Object.freeze({}), 'user', User, 'getById', [1]), { code: 'FST_CACHING_API_INVALID_ARGUMENT', message: /target must be an object that is not frozen/ })
    for (const target of [undefined, null, 'text', 1]) {
      t.throws(() => api.lazyload(target as never, 'user', User, 'getById', [1]), { code: 'FST_CACHING_API_INVALID_ARGUMENT' })
    }
    t.throws(() => api.lazyload({}, 'user', User, 'getById', [Symbol('x')] as never), { code: 'FST_CACHING_API_INVALID_ARGUMENT' })
    t.throws(() => api.lazyload({}, 'user', User, 'getByName' as never, [1] as never), { code: 'FST_CACHING_API_INVALID_DEFINITION' })
  })
})

t.test('stash and stashed', async t => {
  const manager = managerOf(t)
  const api = manager.createApi()
  const thing = { anything: () => 'at all' }
  t.equal(api.stashed('thing'), undefined, 'before anything was stashed')
  t.equal(api.stash('thing', thing), thing)
  t.equal(api.stashed('thing'), thing, 'the very same')
  t.equal(api.stashed('another'), undefined)
  t.equal(api.stash('thing', null), null)
  t.equal(api.stashed('thing'), null)
  t.equal(api.stash('__proto__', 1), 1)
  t.equal(api.stashed('__proto__'), 1)
  t.equal(manager.createApi().stashed('thing'), undefined, 'for this request only')
})

t.test('region(name)', async t => {
  t.test('is a region with this request\'s memory in front of it', async t => {
    const manager = managerOf(t)
    const api = manager.createApi()
    const region = api.region('objects')
    t.equal(api.region('objects'), region)
    let made = 0
    const first = region.getOrCreate('k', () => ({ made: ++made }))
    t.equal(api.region('objects').getOrCreate('k', () => ({ made: ++made })), first)
    const value = await first
    await manager.region('objects').set('k', { made: 100 })
    t.equal(await region.get('k'), value, 'nobody else\'s write is seen')
    t.strictSame(await manager.createApi().region('objects').get('k'), { made: 100 })
    await region.set('k', { made: 7 })
    t.strictSame(await region.get('k'), { made: 7 })
    await region.delete('k')
    t.equal(await region.get('k'), undefined)
  })

  t.test('that does not exist is an error that names those that do', async t => {
    t.throws(() => managerOf(t).createApi().region('elsewhere'), { code: 'FST_CACHING_API_UNKNOWN_REGION', message: "There is no region 'elsewhere'; there are: objects" })
  })
})

t.test('stats', async t => {
  t.test('count where a request\'s values came from', async t => {
    const server = await startRedis(t)
    const client = new Redis(server.port)
    t.teardown(() => client.disconnect())
    const clock = fakeClock()
    const door = gate()
    const { User, calls } = usersOf([alice, bob, { id: 3, name: 'carol', photoId: 0 }], async ids => { if (ids.includes(3)) await door.opened })
    const manager = managerOf(t, { tiers: [memory(), redis(client)], ttl: 1000, grace: 60_000, tierTimeout: '20s' }, { now: clock.now })
    const elsewhere = managerOf(t, { tiers: [memory(), redis(client)], ttl: 1000, grace: 60_000, tierTimeout: '20s' }, { now: clock.now })
    await Promise.all([manager.ready(), elsewhere.ready()])
    const none = { local: 0, tiers: {}, stale: 0, loaded: 0, loads: 0, waited: 0 }

    const loading = manager.createApi()
    t.strictSame(loading.stats, none)
    await loading.getMany(User, 'getById', [1, 2])
    t.match(loading.stats, { ...none, tiers: { redis: 0 }, loaded: 2, loads: 1 })
    await loading.get(User, 'getById', [2])
    await loading.get(User, 'getById', [2])
    t.match(loading.stats, { local: 2, loaded: 2, loads: 1 })
    await manager.idle()

    const hitting = manager.createApi()
    await hitting.getMany(User, 'getById', [1, 2])
    t.strictSame(hitting.stats, { ...none, tiers: { memory: 2 } })

    const remote = elsewhere.createApi()
    await remote.getMany(User, 'getById', [1, 2])
    t.strictSame(remote.stats, { ...none, tiers: { redis: 2 } })

    const first = manager.createApi()
    const joining = manager.createApi()
    const reads = [first.get(User, 'getById', [3])]
    await eventually(t, () => calls.length === 2, 'the first is loading')
    reads.push(joining.get(User, 'getById', [3]))
    door.open()
    await Promise.all(reads)
    t.match(first.stats, { loaded: 1, loads: 1, waited: 0 })
    t.match(joining.stats, { loaded: 0, loads: 0, waited: 1 })
    await manager.idle()

    clock.advance(2000)
    const late = manager.createApi()
    await late.get(User, 'getById', [1])
    t.match(late.stats, { stale: 1, loaded: 0, tiers: { memory: 1 } })
    await manager.idle()
  })

  t.test('of a request are a picture of the moment', async t => {
    const { User } = usersOf()
    const api = managerOf(t).createApi()
    const before = api.stats
    await api.get(User, 'getById', [1])
    t.equal(before.loaded, 0)
    t.equal(api.stats.loaded, 1)
  })
})

t.test('a forced read that fails leaves what the request has read', async t => {
  let isBroken = false
  const User = cachedObject({ name: 'User', region: 'objects', methods: { find: loadOne((_context, id: number) => { if (isBroken) throw new Error('away'); return { id } }) } })
  const api = managerOf(t, { tiers: [nothing()] }).createApi()
  const read = await api.get(User, 'find', [1])
  isBroken = true
  await t.rejects(api.get(User, 'find', [1], { force: true }), { message: 'away' })
  t.equal(api.peek(User, 'find', [1]), read)
  t.equal(await api.get(User, 'find', [1]), read)
  await t.rejects(api.get(User, 'find', [1], { maxAge: 'soon' }), { code: 'FST_CACHING_API_INVALID_OPTIONS' }, 'nor does it hide a mistake')
})

t.test('a forced read whose postCache fails leaves what the request has read, also where memory has the row', async t => {
  let isBroken = false
  const User = cachedObject({
    name: 'User',
    region: 'objects',
    methods: { find: loadOne((_context, id: number | number[]) => ({ id }), { postCache: row => { if (isBroken) throw new Error('broken'); return row } }) }
  })
  const api = managerOf(t).createApi()
  for (const id of [1, [1]]) {
    isBroken = false
    const read = await api.get(User, 'find', [id])
    isBroken = true
    await t.rejects(api.get(User, 'find', [id], { force: true }), { message: 'broken' })
    t.equal(await api.get(User, 'find', [id]), read)
  }
})

t.test('who reads in a request while it reads anew gets that, or what it had read where that fails', async t => {
  let door = gate()
  let outcome = (): object => ({ v: 'first' })
  const User = cachedObject({ name: 'User', region: 'objects', methods: { find: loadOne(async (_context, _id: number) => { await door.opened; return outcome() }) } })
  const api = managerOf(t, { tiers: [nothing()], tierTimeout: '20s' }).createApi()
  const away = (): object => { throw new Error('away') }
  door.open()
  const read = await api.get(User, 'find', [1])
  door = gate()
  outcome = away
  const failing = api.refresh(User, 'find', [1])
  const readers = [api.get(User, 'find', [1]), api.getMany(User, 'find', [1])]
  door.open()
  await t.rejects(failing, { message: 'away' })
  const [one, [same]] = await Promise.all(readers) as [unknown, [unknown]]
  t.strictSame([one === read, same === read, await api.get(User, 'find', [1]) === read], [true, true, true])

  door = gate()
  const [first, second, reader] = [api.refresh(User, 'find', [1]), api.refresh(User, 'find', [1]), api.get(User, 'find', [1])]
  door.open()
  await Promise.all([t.rejects(first), t.rejects(second)])
  t.strictSame([await reader, await api.get(User, 'find', [1])], [read, read], 'however many fail')

  door = gate()
  outcome = () => ({ v: 'anew' })
  const [renewed, other] = [api.refresh(User, 'find', [1]), api.get(User, 'find', [1])]
  door.open()
  t.equal(await renewed, await other)
  t.strictSame(await api.get(User, 'find', [1]), { v: 'anew' })
})

t.test('what could not be read is not remembered, though it was read anew meanwhile', async t => {
  let door = gate()
  const User = cachedObject({ name: 'User', region: 'objects', methods: { find: loadOne(async (_context, _id: number) => { await door.opened; throw new Error('away') }) } })
  const api = managerOf(t, { tiers: [nothing()], tierTimeout: '20s' }).createApi()
  const reads = [api.get(User, 'find', [1]), api.refresh(User, 'find', [1]), api.get(User, 'find', [1])]
  door.open()
  for (const read of reads) await t.rejects(read, { message: 'away' })
  door = gate()
  const again = api.get(User, 'find', [1])
  t.not(again, reads[2])
  door.open()
  await t.rejects(again, { message: 'away' })
})

t.test('what could not be set leaves what the request has read', async t => {
  const User = cachedObject({ name: 'User', region: 'objects', methods: { find: loadOne((_context, id: number) => ({ id, v: 'read' }), { primes: { byName: () => ['ann'] } }), byName: loadOne((_context, _name: string) => ({ id: 1, v: 'read' })) } })
  let isBroken = false
  const inner = memory()
  const serializer = { encode: () => { if (isBroken) throw new Error('not this'); return Buffer.from('1') }, decode: () => undefined }
  const manager = managerOf(t, { tiers: [{ name: 'files', getMany: inner.getMany.bind(inner), setMany: inner.setMany.bind(inner), deleteMany: inner.deleteMany.bind(inner) }], serializer, tierTimeout: '20s' })
  const api = manager.createApi()
  const read = await api.get(User, 'find', [1])
  isBroken = true
  await t.rejects(api.set(User, 'find', [1], { id: 1, v: 'written' }), { message: 'not this' })
  t.equal(await api.get(User, 'find', [1]), read)
  const byName = await api.get(User, 'byName', ['ann'])
  t.strictSame(byName, { id: 1, v: 'read' }, 'it came along')
  await t.rejects(api.set(User, 'find', [1], { id: 1, v: 'written' }), { message: 'not this' })
  t.equal(await api.get(User, 'byName', ['ann']), byName)
  const late = t.rejects(api.set(User, 'find', [1], { id: 1, v: 'written' }), { message: 'not this' })
  t.strictSame(await api.get(User, 'byName', ['ann']), { id: 1, v: 'written' }, 'until it is refused')
  await late
  await t.rejects(api.set(User, 'find', [2], { id: 2, v: 'written' }), { message: 'not this' })
  t.strictSame(await api.get(User, 'find', [2]), { id: 2, v: 'read' }, 'nor does it see it where it had read nothing')
  await manager.close()
  await t.rejects(api.set(User, 'find', [1], { id: 1, v: 'written' }), { code: 'FST_CACHING_API_CLOSED' })
  t.equal(await api.get(User, 'find', [1]), read)
})

t.test('a region of nothing() keeps nothing, for nobody', async t => {
  const { User, calls } = usersOf()
  const manager = managerOf(t, { tiers: [nothing()] })
  for (let times = 1; times <= 3; times++) {
    await manager.createApi().get(User, 'getById', [1])
    t.equal(calls.length, times)
  }
})

t.test('force goes past the request\'s own memory, to the tiers', async t => {
  const { User, calls } = usersOf()
  const manager = managerOf(t)
  const api = manager.createApi()
  const old = await api.get(User, 'getById', [1])
  await manager.createApi().set(User, 'getById', [1], { ...alice, name: 'Alice' })
  t.equal(await api.get(User, 'getById', [1]), old)
  const [forced] = await api.getMany(User, 'getById', [1], { force: true })
  t.equal(forced?.name, 'Alice')
  t.equal(await api.get(User, 'getById', [1]), forced, 'and is what the request sees from then on')
  t.strictSame(calls, [[1]])
})

t.test('maxAge', async t => {
  t.test('is how old a value may be for this one read', async t => {
    const { User, calls } = usersOf()
    const clock = fakeClock()
    const manager = managerOf(t, {}, { now: clock.now })
    await manager.createApi().get(User, 'getById', [1])
    await manager.idle()
    clock.advance(500)
    await manager.createApi().get(User, 'getById', [1], { maxAge: 1000 })
    t.equal(calls.length, 1)
    await manager.createApi().get(User, 'getById', [1], { maxAge: 500 })
    t.equal(calls.length, 2)
    await manager.createApi().get(User, 'getById', [1])
    t.equal(calls.length, 2)
  })

  t.test('of Infinity takes whatever is there', async t => {
    const { User, calls } = usersOf()
    const clock = fakeClock()
    const manager = managerOf(t, {}, { now: clock.now })
    await manager.createApi().get(User, 'getById', [1])
    await manager.idle()
    clock.advance(24 * 60 * 60 * 1000)
    t.strictSame(await manager.createApi().get(User, 'getById', [1], { maxAge: Infinity }), alice)
    t.equal(calls.length, 1)
  })

  t.test('that is no duration is refused', async t => {
    const { User } = usersOf()
    await t.rejects(managerOf(t).createApi().get(User, 'getById', [1], { maxAge: 'soon' }), { code: 'FST_CACHING_API_INVALID_OPTIONS', message: /options\.maxAge/ })
  })
})

t.test('a loader that waits for its own key by the request gets an error', async t => {
  const { User: Plain } = usersOf()
  const manager = managerOf(t)
  const api = manager.createApi()
  const User = cachedObject({
    name: 'Own',
    region: 'objects',
    methods: {
      own: loadOne(async (_context, id: number): Promise<unknown> => await api.get(User as never, 'own' as never, [id] as never)),
      listed: loadOne(async (_context, ids: number[]): Promise<unknown> => await api.get(User as never, 'listed' as never, [ids] as never)),
      other: loadOne(async (_context, id: number) => await api.get(Plain, 'getById', [id]))
    }
  })
  const reentrant = { code: 'FST_CACHING_API_REENTRANT_LOAD' }
  await t.rejects(api.get(User, 'own', [1]), reentrant)
  await t.rejects(api.get(User, 'listed', [[1]]), reentrant)
  const [read, loaded] = await Promise.all([api.get(Plain, 'getById', [1]), api.get(User, 'other', [1])])
  t.strictSame(loaded, read, 'what the request is reading already is waited for')
  t.strictSame(await api.get(User, 'other', [1]), loaded)
  const [anew, other] = await Promise.all([api.refresh(Plain, 'getById', [2]), api.get(User, 'other', [2])])
  t.strictSame(other, anew, 'what it is reading anew as well')

  // Each waits for what the request was reading before, and reads anew, or has invalidated meanwhile.
  for (const how of ['refresh', 'invalidate'] as const) {
    const request = manager.createApi()
    const met = [gate(), gate()] as const
    const Two: any = cachedObject({
      name: `Two-${how}`,
      region: 'objects',
      methods: {
        a: loadOne(async (_context, id: number): Promise<unknown> => { met[0].open(); await met[1].opened; return await request.get(Two, 'b', [id]) }),
        b: loadOne(async (_context, id: number): Promise<unknown> => { met[1].open(); await met[0].opened; return await request.get(Two, 'a', [id]) })
      }
    })
    const a = how === 'refresh' ? request.refresh(Two, 'a', [1]) : request.get(Two, 'a', [1])
    await met[0].opened
    const invalidated = how === 'invalidate' ? manager.createApi().invalidate(Two, 'a', [1]) : undefined
    const ended = await Promise.allSettled([a, request.get(Two, 'b', [1]), invalidated])
    t.match(ended[0], { status: 'rejected', reason: reentrant }, how)
    t.match(ended[1], { status: 'rejected', reason: reentrant }, how)
  }
})

t.test('what was read before a forced read is let go when that is done', async t => {
  const User = cachedObject({ name: 'User', region: 'objects', methods: { find: loadOne((_context, id: number) => ({ id })) } })
  const api = managerOf(t, { tiers: [nothing()] }).createApi()
  const first = new WeakRef(await api.get(User, 'find', [1]) as object)
  for (let times = 0; times < 3; times++) await api.get(User, 'find', [1], { force: true })
  await new Promise(setImmediate)
  collectGarbage()
  t.equal(first.deref(), undefined)
  t.ok(api.peek(User, 'find', [1]))
})

t.test('postCache runs in the context of who reads, whoever was the first of the batch', async t => {
  const store = new AsyncLocalStorage<string>()
  const seen: unknown[] = []
  const loader = countingLoader([{ id: 1 }, { id: 2 }, { id: 3 }])
  const Row = cachedObject({
    name: 'Row',
    region: 'objects',
    methods: { getById: loadMany({ load: async (context, ids: readonly number[]) => { seen.push(store.getStore()); return await loader.load(context, ids) }, idOf: loader.idOf, postCache: row => { seen.push([row.id, store.getStore()]); return row } }) }
  })
  const manager = managerOf(t)
  await Promise.all([1, 2, 3].map(async id => await store.run(`request ${id}`, async () => await manager.createApi().get(Row, 'getById', [id]))))
  t.strictSame(seen, [undefined, [1, 'request 1'], [2, 'request 2'], [3, 'request 3']])

  // In one tick with a loader that reads: what another request does with its value is no part of that.
  const known = cachedObject({ name: 'Known', region: 'objects', methods: { b: loadOne((_context, _id: number) => 2) } })
  const [began, goOn] = [gate(), gate()]
  const reading = cachedObject({
    name: 'Reading',
    region: 'objects',
    methods: { x: loadOne(async (_context, _id: number) => { began.open(); await goOn.opened; return await manager.createApi().get(known, 'b', [1]) }) }
  })
  const shown = cachedObject({
    name: 'Shown',
    region: 'objects',
    methods: { c: loadOne((_context, _id: number) => 3, { postCache: async (value, api) => [value, await api.get(reading, 'x', [1])] }) }
  })
  const x = manager.createApi().get(reading, 'x', [1])
  await began.opened
  const c = goOn.opened.then(async () => await manager.createApi().get(shown, 'c', [1]))
  goOn.open()
  t.strictSame(await Promise.all([x, c]), [2, [3, 2]])
})

t.test('postCache', async t => {
  t.test('runs once for each request, on an object of its own', async t => {
    const given: object[] = []
    const loader = countingLoader([alice])
    const User = cachedObject({
      name: 'User',
      region: 'objects',
      methods: { getById: loadMany({ load: loader.load, idOf: loader.idOf, postCache: (user, api) => { given.push(user); return Object.assign(user, { api }) } }) }
    })
    const manager = managerOf(t)
    const [a, b] = [manager.createApi(), manager.createApi()]
    const [mine, yours] = await Promise.all([a.get(User, 'getById', [1]), b.get(User, 'getById', [1])])
    await a.get(User, 'getById', [1])
    await a.getMany(User, 'getById', [1, 1])
    const later = await manager.createApi().get(User, 'getById', [1])
    t.equal(given.length, 3)
    t.equal(new Set(given).size, 3)
    t.equal(mine!.api, a)
    t.equal(yours!.api, b)
    t.not(later!.api, a)
    t.notOk('api' in loader.rows.get(1)!)
  })

  t.test('is not asked about a row that does not exist', async t => {
    const loader = countingLoader<number, User>([])
    const User = cachedObject({
      name: 'User',
      region: 'objects',
      methods: { getById: loadMany({ load: loader.load, idOf: loader.idOf, postCache: failing('asked') }) }
    })
    const api = managerOf(t).createApi()
    t.equal(await api.get(User, 'getById', [1]), null)
  })

  t.test('that throws rejects this read, from a loader and from a tier, and is tried again by the next', async t => {
    let broken = true
    const loader = countingLoader([alice])
    const User = cachedObject({
      name: 'User',
      region: 'objects',
      methods: { getById: loadMany({ load: loader.load, idOf: loader.idOf, postCache: user => { if (broken) throw new Error('broken'); return user } }) }
    })
    const api = managerOf(t).createApi()
    await t.rejects(api.get(User, 'getById', [1]), /broken/)
    await t.rejects(api.get(User, 'getById', [1]), /broken/)
    broken = false
    t.strictSame(await api.get(User, 'getById', [1]), alice)
    t.equal(loader.calls.length, 1, 'the row itself was cached')
  })

  t.test('may read its own key', async t => {
    let calls = 0
    const loader = countingLoader([alice])
    const User = cachedObject({
      name: 'User',
      region: 'objects',
      methods: { getById: loadMany({ load: loader.load, idOf: loader.idOf, postCache: (user, api: CachingApi) => { calls++; void api.get(User as never, 'getById' as never, [1] as never); return user } }) }
    })
    const manager = managerOf(t)
    for (const expected of [1, 2]) { // loaded, and from memory
      t.strictSame(await manager.createApi().get(User, 'getById', [1]), alice)
      t.equal(calls, expected)
    }
  })

  t.test('that throws for what is written does not keep it from being written', async t => {
    let broken = false
    const loader = countingLoader([alice])
    const User = cachedObject({
      name: 'User',
      region: 'objects',
      methods: { getById: loadMany({ load: loader.load, idOf: loader.idOf, postCache: user => { if (broken) throw new Error('broken'); return user } }) }
    })
    const manager = managerOf(t)
    await manager.createApi().get(User, 'getById', [1])
    broken = true
    await t.rejects(manager.createApi().set(User, 'getById', [1], { ...alice, name: 'new' }), { message: 'broken' })
    broken = false
    t.match(await manager.createApi().get(User, 'getById', [1]), { name: 'new' })
  })

  t.test('may be asynchronous, for what is loaded and for what memory has', async t => {
    let broken = true
    const loader = countingLoader([alice, bob])
    const User = cachedObject({
      name: 'User',
      region: 'objects',
      methods: { getById: loadMany({ load: loader.load, idOf: loader.idOf, postCache: async user => { if (broken) throw new Error('broken'); return { ...user, shown: true } } }) }
    })
    const manager = managerOf(t)
    for (const api of [manager.createApi(), manager.createApi()]) {
      broken = true
      await t.rejects(api.getMany(User, 'getById', [1, 2]), /broken/)
      broken = false
      const read = api.getMany(User, 'getById', [1, 2])
      t.equal(api.get(User, 'getById', [1]), api.get(User, 'getById', [1]))
      t.equal(api.peek(User, 'getById', [1]), undefined)
      t.strictSame(await read, [{ ...alice, shown: true }, { ...bob, shown: true }])
      t.strictSame(api.peek(User, 'getById', [1]), { ...alice, shown: true })
    }
    t.equal(loader.calls.length, 1)
  })
})

t.test('getMany with a wrong argument among right ones fails once, whatever becomes of those', async t => {
  const unhandled: unknown[] = []
  const listener = (reason: unknown) => { unhandled.push(reason) }
  process.on('unhandledRejection', listener)
  t.teardown(() => process.off('unhandledRejection', listener))
  const { User } = usersOf([], () => { throw new Error('no database') })
  const manager = managerOf(t)
  for (const ids of [[1, null, 2], [1, {}], Object.assign([1, 2, 3], { 1: undefined })]) {
    await t.rejects(manager.createApi().getMany(User, 'getById', ids as number[]), { code: 'FST_CACHING_API_INVALID_ARGUMENT' })
  }
  const sparse = [1, 2, 3]
  delete sparse[1]
  await t.rejects(manager.createApi().getMany(User, 'getById', sparse), { code: 'FST_CACHING_API_INVALID_ARGUMENT' })
  await manager.idle()
  await new Promise(setImmediate)
  t.strictSame(unhandled, [])
})

t.test('a value that can’t be handed out fails its own reader, and no other one', async t => {
  let reads = 0
  const decode = (bytes: Uint8Array) => {
    const { id } = JSON.parse(Buffer.from(bytes).toString())
    return id === 1 ? { id, get name () { if (++reads > 1) throw new Error('once only'); return 'alice' } } : { id }
  }
  const { User } = usersOf()
  const serializer = { encode: (value: unknown): Uint8Array => Buffer.from(JSON.stringify(value)), decode: decode as (bytes: Uint8Array) => unknown }
  const manager = managerOf(t, { tiers: [countingBackend()], serializer })
  await manager.createApi().getMany(User, 'getById', [1, 2])
  await manager.idle()
  const api = manager.createApi()
  const [one, two] = [api.get(User, 'getById', [1]), api.get(User, 'getById', [2])]
  await t.rejects(one, { message: 'once only' })
  t.match(await two, { id: 2 })
})

t.test('preCache', async t => {
  t.test('decides what the tiers keep, on a row that is the loader\'s own', async t => {
    const loader = countingLoader([{ id: 1, name: 'alice', password: 'secret' }])
    const User = cachedObject({
      name: 'User',
      region: 'objects',
      methods: { getById: loadMany({ load: loader.load, idOf: loader.idOf, preCache: ({ id, name }) => ({ id, name }) }) }
    })
    const cloud = countingBackend()
    const written: string[] = []
    const { setMany } = cloud
    cloud.setMany = async function (entries) {
      for (const { value } of entries) written.push(Buffer.from(value).toString('latin1'))
      await setMany.call(this, entries)
    }
    const manager = managerOf(t, { tiers: [cloud] })
    t.strictSame(await manager.createApi().get(User, 'getById', [1]), { id: 1, name: 'alice' })
    await manager.idle()
    t.ok(written.some(bytes => bytes.includes('alice')))
    t.notOk(written.some(bytes => bytes.includes('secret')))
    t.strictSame(loader.rows.get(1), { id: 1, name: 'alice', password: 'secret' })
  })

  t.test('that throws for one row fails that key alone', async t => {
    const loader = countingLoader([alice, bob])
    const User = cachedObject({
      name: 'User',
      region: 'objects',
      methods: { getById: loadMany({ load: loader.load, idOf: loader.idOf, preCache: user => { if (user.id === 1) throw new Error('not alice'); return user } }) }
    })
    const api = managerOf(t).createApi()
    const [a, b] = await Promise.allSettled([api.get(User, 'getById', [1]), api.get(User, 'getById', [2])])
    t.match(a, { status: 'rejected', reason: { message: 'not alice' } })
    t.match(b, { status: 'fulfilled', value: bob })
  })
})

t.test('primes', async t => {
  /** Users by name, whose rows answer for their ids as well. */
  function named (t: Pick<Test, 'teardown'>, before?: (names: readonly string[]) => unknown) {
    const byId = countingLoader<number, User>([alice, bob])
    const names: string[][] = []
    const User = cachedObject({
      name: 'User',
      region: 'objects',
      methods: {
        getById: loadMany({ load: byId.load, idOf: byId.idOf }),
        getByName: loadMany({
          load: async (_context, asked: readonly string[]) => {
            names.push([...asked])
            const found = [...byId.rows.values()].filter(user => asked.includes(user.name))
            await before?.(asked)
            return found
          },
          idOf: user => user.name,
          primes: { getById: user => [user.id] }
        })
      }
    })
    return { User, byId, names }
  }

  t.test('what one method loads, another finds in the request', async t => {
    const { User, byId } = named(t)
    const api = managerOf(t, { tiers: [nothing()] }).createApi()
    await api.getMany(User, 'getByName', ['alice', 'bob', 'nobody'])
    t.equal(api.stats.local, 0)
    t.strictSame(await api.getMany(User, 'getById', [1, 2]), [alice, bob])
    t.strictSame(byId.calls, [])
    t.equal(api.stats.local, 2)
    t.equal(await api.get(User, 'getById', [1]), await api.get(User, 'getById', [1]))
  })

  t.test('and other requests find in the tiers', async t => {
    const { User, byId } = named(t)
    const manager = managerOf(t, { tiers: [memory(), countingBackend()] })
    await manager.createApi().get(User, 'getByName', ['alice'])
    await manager.idle()
    t.strictSame(await manager.createApi().get(User, 'getById', [1]), alice)
    t.strictSame(byId.calls, [])
  })

  t.test('what the request has read stays as it was read', async t => {
    const { User, byId } = named(t)
    const api = managerOf(t).createApi()
    const seen = await api.get(User, 'getById', [1])
    byId.rows.set(1, { ...alice, photoId: 11 })
    t.equal((await api.get(User, 'getByName', ['alice']))?.photoId, 11)
    t.equal(await api.get(User, 'getById', [1]), seen)
  })

  t.test('force, refresh and invalidate go past them', async t => {
    const { User, byId } = named(t)
    for (const [i, read] of ([
      (api: CachingApi) => api.get(User, 'getById', [1], { force: true }),
      (api: CachingApi) => api.refresh(User, 'getById', [1]),
      async (api: CachingApi) => { await api.invalidate(User, 'getById', [1]); return await api.get(User, 'getById', [1]) }
    ]).entries()) {
      const api = managerOf(t, { tiers: [nothing()] }).createApi()
      await api.get(User, 'getByName', ['alice'])
      await read(api)
      t.equal(byId.calls.length, i + 1)
    }
  })

  t.test('a row that came with another load is not served once its own key was invalidated during that load', async t => {
    const door = gate()
    const { User, byId, names } = named(t, () => door.opened)
    const manager = managerOf(t)
    const api = manager.createApi()
    const reading = api.get(User, 'getByName', ['alice'])
    await eventually(t, () => names.length === 1, 'the load has begun')
    byId.rows.set(1, { ...alice, photoId: 11 })
    await api.invalidate(User, 'getById', [1])
    door.open()
    t.equal((await reading)?.photoId, 10, 'what was asked for before the invalidation')
    await manager.idle()
    t.equal((await manager.createApi().get(User, 'getById', [1]))?.photoId, 11, 'not by the tiers')
    t.equal((await api.get(User, 'getById', [1]))?.photoId, 11, 'not by the request')
  })

  t.test('a row that came with another load does not hide what the request itself has written meanwhile', async t => {
    const door = gate()
    const { User, names } = named(t, () => door.opened)
    const manager = managerOf(t)
    const api = manager.createApi()
    const reading = api.get(User, 'getByName', ['alice'])
    await eventually(t, () => names.length === 1, 'the load has begun')
    await api.set(User, 'getById', [1], { ...alice, photoId: 11 })
    door.open()
    await reading
    await manager.idle()
    t.equal((await api.get(User, 'getById', [1]))?.photoId, 11)
    t.equal((await api.get(User, 'getById', [1], { force: true }))?.photoId, 11)
    t.equal((await manager.createApi().get(User, 'getById', [1]))?.photoId, 11)
  })

  t.test('on a real Redis: another process finds them, and none that was invalidated meanwhile', async t => {
    const server = await startRedis(t)
    const client = new Redis(server.port)
    t.teardown(() => client.disconnect())
    const region = () => ({ tiers: [memory(), redis(client)] as const, tierTimeout: '20s' })
    let door = gate()
    door.open()
    const { User, byId, names } = named(t, () => door.opened)
    const here = managerOf(t, region())
    const there = managerOf(t, region())
    await Promise.all([here.ready(), there.ready()])
    await here.createApi().get(User, 'getByName', ['alice'])
    await here.idle()
    t.strictSame(await there.createApi().get(User, 'getById', [1]), alice)
    t.strictSame(byId.calls, [])

    door = gate()
    const reading = here.createApi().get(User, 'getByName', ['bob'])
    await eventually(t, () => names.length === 2, 'the load has begun')
    byId.rows.set(2, { ...bob, photoId: 21 })
    await there.createApi().invalidate(User, 'getById', [2])
    door.open()
    t.equal((await reading)?.photoId, 20)
    await here.idle()
    t.equal((await there.createApi().get(User, 'getById', [2]))?.photoId, 21)
    await there.idle()
    t.equal((await here.createApi().get(User, 'getById', [2]))?.photoId, 21)
    t.strictSame(byId.calls, [[2]])
  })

  t.test('a row that can not be copied is read, and primes nothing', async t => {
    const logger = silentLogger()
    const User = cachedObject({
      name: 'User',
      region: 'objects',
      methods: {
        getById: loadOne((_context, id: number) => ({ id, greet: () => 'loaded' })),
        getByName: loadOne((_context, _name: string) => ({ id: 1, greet: () => 'primed' }), { primes: { getById: row => [row.id] } })
      }
    })
    const api = managerOf(t, {}, { logger }).createApi()
    t.equal((await api.get(User, 'getByName', ['alice']))?.greet(), 'primed')
    t.equal((await api.get(User, 'getById', [1]))?.greet(), 'loaded')
    t.equal(logger.lines.warn.length, 1)
  })
})

t.test('negative entries', async t => {
  t.test('"there is no such row" is remembered as any row is', async t => {
    const { User, calls } = usersOf()
    const clock = fakeClock()
    const manager = managerOf(t, { ttl: 1000 }, { now: clock.now })
    t.equal(await manager.createApi().get(User, 'getById', [99]), null)
    t.equal(await manager.createApi().get(User, 'getById', [99]), null)
    t.equal(calls.length, 1)
    await manager.idle()
    clock.advance(1000)
    await manager.createApi().get(User, 'getById', [99])
    t.equal(calls.length, 2)
  })

  t.test('with negativeTtl, for that long; the method\'s own comes first', async t => {
    const loader = countingLoader<number, User>([])
    const User = cachedObject({
      name: 'User',
      region: 'objects',
      methods: { getById: loadMany({ load: loader.load, idOf: loader.idOf }), brief: loadMany({ load: loader.load, idOf: loader.idOf, negativeTtl: 100 }) }
    })
    const clock = fakeClock()
    const manager = managerOf(t, { ttl: '1h', negativeTtl: 1000 }, { now: clock.now })
    await manager.createApi().get(User, 'getById', [1])
    await manager.createApi().get(User, 'brief', [1])
    t.equal(loader.calls.length, 2)
    await manager.idle()
    clock.advance(100)
    await manager.createApi().get(User, 'getById', [1])
    t.equal(loader.calls.length, 2)
    await manager.createApi().get(User, 'brief', [1])
    t.equal(loader.calls.length, 3)
    await manager.idle()
    clock.advance(900)
    await manager.createApi().get(User, 'getById', [1])
    t.equal(loader.calls.length, 4)
  })

  t.test('a method\'s own ttl is that of its missing rows; with a negativeTtl they have no grace', async t => {
    const loader = countingLoader<number, User>([])
    const found = { load: loader.load, idOf: loader.idOf }
    const User = cachedObject({ name: 'User', region: 'objects', methods: { brief: loadMany({ ...found, ttl: 100, grace: 0 }), strict: loadMany({ ...found, negativeTtl: 50 }), loose: loadMany(found) } })
    const clock = fakeClock()
    const manager = managerOf(t, { ttl: 1000, grace: '1h' }, { now: clock.now })
    const read = async (method: 'brief' | 'strict' | 'loose') => {
      const api = manager.createApi()
      t.equal(await api.get(User, method, [1]), null)
      return api.stats.stale
    }
    for (const method of ['brief', 'strict', 'loose'] as const) await read(method)
    clock.advance(50)
    t.equal(await read('strict'), 0)
    t.equal(loader.calls.length, 4, 'who comes later waits for a new answer')
    clock.advance(50)
    await read('brief')
    t.equal(loader.calls.length, 5)
    clock.advance(900)
    t.equal(await read('loose'), 1, 'without one, they are as other values')
    await manager.idle()
  })

  t.test('with negativeTtl 0, by the request alone', async t => {
    const { User, calls } = usersOf()
    const manager = managerOf(t, { negativeTtl: 0 })
    const api = manager.createApi()
    await api.get(User, 'getById', [99])
    await api.get(User, 'getById', [99])
    t.equal(calls.length, 1)
    await manager.createApi().get(User, 'getById', [99])
    t.equal(calls.length, 2)
  })
})

t.test('a method\'s own ttl and grace take the place of the region\'s', async t => {
  const loader = countingLoader([alice])
  const User = cachedObject({ name: 'User', region: 'objects', methods: { getById: loadMany({ load: loader.load, idOf: loader.idOf, ttl: 1000, grace: 1000 }) } })
  const clock = fakeClock()
  const manager = managerOf(t, { ttl: '1h' }, { now: clock.now })
  await manager.createApi().get(User, 'getById', [1])
  await manager.idle()
  clock.advance(1000)
  const api = manager.createApi()
  await api.get(User, 'getById', [1])
  t.equal(api.stats.stale, 1)
  await manager.idle()
  t.equal(loader.calls.length, 2)
})

t.test('the version is part of the key: values of another shape are not read', async t => {
  const cloud = countingBackend()
  const define = (version: number) => {
    const loader = countingLoader([{ id: 1, version }])
    return { calls: loader.calls, User: cachedObject({ name: 'User', region: 'objects', version, methods: { getById: loadMany({ load: loader.load, idOf: loader.idOf }) } }) }
  }
  for (const version of [1, 2, 1]) {
    const { User } = define(version)
    const manager = managerOf(t, { tiers: [cloud] })
    t.strictSame(await manager.createApi().get(User, 'getById', [1]), { id: 1, version })
    await manager.idle()
  }
  const { User, calls } = define(2)
  t.strictSame(await managerOf(t, { tiers: [cloud] }).createApi().get(User, 'getById', [1]), { id: 1, version: 2 })
  t.strictSame(calls, [], 'one of the same version is')
})

t.test('two objects of one name in one region are refused when the second is first used', async t => {
  const define = (region: string) => cachedObject({ name: 'User', region, methods: { getById: loadOne((_context, id: number) => ({ id, region })) } })
  const manager = new CachingManager({ regions: { objects: { tiers: [memory()], ttl: 1000 }, others: { tiers: [memory()], ttl: 1000 } } })
  t.teardown(() => manager.close())
  const api = manager.createApi()
  await api.get(define('objects'), 'getById', [1])
  await t.rejects(api.get(define('objects'), 'getById', [1]), { code: 'FST_CACHING_API_INVALID_DEFINITION', message: /two cached objects named 'User' in region 'objects'/ })
  t.strictSame(await api.get(define('others'), 'getById', [1]), { id: 1, region: 'others' }, 'in another region it is fine')
})

t.test('object', async t => {
  const UserCache = cacheObject({ name: 'UserCache', backend: memory(), timeout: '20s', properties: { username: property<string>() } })
  class Admin extends cacheObject({ name: 'Admin', extends: UserCache, properties: {} }) {}

  t.test('is one instance for a class and an id, in this request alone', async t => {
    const manager = managerOf(t)
    const [api, other] = [manager.createApi(), manager.createApi()]
    const user = api.object(UserCache, 10)
    t.type(user, UserCache)
    t.equal(user.id, '10')
    t.equal(api.object(UserCache, 10), user)
    t.equal(api.object(UserCache, '10'), user)
    t.equal(api.object(UserCache, 10n), user)
    t.not(api.object(UserCache, 11), user)
    t.not(api.object(Admin, 10), user)
    t.equal(api.object(Admin, 10), api.object(Admin, 10))
    t.not(other.object(UserCache, 10), user)
    t.equal(api.object(UserCache, -0), api.object(UserCache, 0))
  })

  t.test('what cacheObject did not make, and what is no id, is refused', async t => {
    const api = managerOf(t).createApi()
    for (const wrong of [class {}, undefined, {}]) {
      t.throws(() => api.object(wrong as never, 1), { code: 'FST_CACHING_API_INVALID_DEFINITION', message: /^a cache object's class must be made by cacheObject/ })
    }
    t.throws(() => api.object(UserCache, NaN), { code: 'FST_CACHING_API_INVALID_ARGUMENT' })
    t.throws(() => api.object(UserCache, undefined as never), { code: 'FST_CACHING_API_INVALID_ARGUMENT' })
    t.throws(() => api.object(UserCache, Symbol('s') as never), { code: 'FST_CACHING_API_INVALID_ARGUMENT' })
    api.object(UserCache, 10)
    for (const wrong of [[10], { toString: () => '10' }, Object.create(null)]) {
      t.throws(() => api.object(UserCache, wrong as never), { code: 'FST_CACHING_API_INVALID_ARGUMENT' }, 'also where its string is an id that is known')
    }
  })

  t.test('what is assigned is saved by unsaved.save(), where somebody said that it will be called', async t => {
    const manager = managerOf(t)
    const logger = silentLogger()
    const [request, job] = [manager.createApi().savesObjects(logger, null), manager.createApi()]
    t.equal(request.unsaved, undefined, 'nothing to save')
    request.object(UserCache, 20)
    t.equal(request.unsaved!.save(), undefined, 'nothing to save yet')
    request.object(UserCache, 21).username = 'saved'
    job.object(UserCache, 22).username = 'not saved'
    await request.unsaved!.save()
    t.equal(job.unsaved, undefined)
    t.equal(await new UserCache(21).username, 'saved')
    t.equal(await new UserCache(22).username, null)
    t.strictSame(logger.lines.warn, [])
  })

  t.test('what its own constructor assigns is saved as well', async t => {
    class Fresh extends UserCache {
      constructor (id: string | number | bigint) {
        super(id)
        this.username = 'fresh'
      }
    }
    const request = managerOf(t).createApi().savesObjects(silentLogger(), null)
    request.object(Fresh, 30)
    await request.unsaved!.save()
    t.equal(await new UserCache(30).username, 'fresh')
  })

  t.test('a field that hides a property is refused at once', async t => {
    class Shadow extends UserCache {
      override username = 'nobody'
    }
    const api = managerOf(t).createApi()
    t.throws(() => api.object(Shadow, 1), { code: 'FST_CACHING_API_INVALID_DEFINITION', message: /^Shadow: its own username would hide what UserCache keeps/ })
    t.throws(() => api.object(Shadow, 1), { code: 'FST_CACHING_API_INVALID_DEFINITION' }, 'and again')
  })

  t.test('after close it is refused', async t => {
    const manager = managerOf(t)
    const api = manager.createApi()
    await manager.close()
    t.throws(() => api.object(UserCache, 1), { code: 'FST_CACHING_API_CLOSED', message: 'The manager was used after close()' })
  })
})

t.test('a list of arguments that is none, and a row that is none, are refused', async t => {
  const { User, calls } = usersOf()
  const api = managerOf(t).createApi()
  await t.rejects(api.getMany(User, 'getById', 1 as never), { code: 'FST_CACHING_API_INVALID_ARGUMENT', message: 'argsList must be an array with the arguments of each read, got 1' })
  await t.rejects(api.set(User, 'getById', [1], undefined as never), { code: 'FST_CACHING_API_INVALID_ARGUMENT', message: 'row must be a row, or null for "there is no such row", got undefined' })
  t.equal(api.peek(User, 'getById', [1]), undefined)
  t.strictSame(calls, [])
})
