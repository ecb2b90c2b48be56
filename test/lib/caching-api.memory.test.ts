import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import t from 'tap'
import { cachedObject, loadMany, loadOne } from '../../lib/cached-object.js'
import type { CachingApi } from '../../lib/caching-api.js'
import { countingBackend } from '../helpers/backend-doubles.js'
import { countingLoader, eventually, failing, gate } from '../helpers/doubles.js'
import { alice, bob, managerOf, usersOf } from '../helpers/users.js'

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

t.test('request memory', async t => {
  t.test('a second read in a request gives the same promise and the same object', async t => {
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

  t.test('a request sees its own write at once, even before the tiers have it', async t => {
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

  t.test('a request sees its own invalidation at once', async t => {
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

  t.test('a read after the request\'s own invalidation does not get what a load that began before it brings', async t => {
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

  t.test('nothing of what a request has read outlives it', async t => {
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
