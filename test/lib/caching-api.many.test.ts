import t from 'tap'
import { cachedObject, loadMany, loadOne } from '../../lib/cached-object.js'
import { countingBackend } from '../helpers/backend-doubles.js'
import { countingLoader, eventually, gate, silentLogger } from '../helpers/doubles.js'
import { alice, bob, managerOf, usersOf } from '../helpers/users.js'

t.test('getMany', async t => {
  t.test('getMany gives one value for each entry, in the caller\'s order, duplicates repeated and absences null', async t => {
    const { User, calls } = usersOf()
    const api = managerOf(t).createApi()
    const users = await api.getMany(User, 'getById', [2, 99, 1, 2, 98])
    t.strictSame(users, [bob, null, alice, bob, null])
    t.equal(users[0], users[3])
    t.strictSame(calls, [[2, 99, 1, 98]])
  })

  t.test('getMany takes arguments as tuples, bare, or mixed', async t => {
    const { User } = usersOf()
    const api = managerOf(t).createApi()
    t.strictSame(await api.getMany(User, 'getById', [[1], [2]]), [alice, bob])
    t.strictSame(await api.getMany(User, 'getById', [2, [1]]), [bob, alice])
    const Sum = cachedObject({ name: 'Sum', region: 'objects', methods: { of: loadOne((_context, a: number, b: number) => ({ sum: a + b })) } })
    t.strictSame(await api.getMany(Sum, 'of', [[1, 2], [3, 4]]), [{ sum: 3 }, { sum: 7 }])
  })

  t.test('getMany of nothing is nothing, and asks nobody', async t => {
    const { User, calls } = usersOf()
    const cloud = countingBackend()
    t.strictSame(await managerOf(t, { tiers: [cloud] }).createApi().getMany(User, 'getById', []), [])
    t.strictSame([calls.length, cloud.reads], [0, 0])
  })

  t.test('getMany of 10,000 ids reads the tier once, and loads in batches of 1000', async t => {
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

  t.test('where one may fail, several gets are one batch too, and each has its own result', async t => {
    const batches: (readonly number[])[] = []
    const Picky = cachedObject({
      name: 'Picky',
      region: 'objects',
      methods: {
        getById: loadMany({
          load: async (_context, ids: readonly number[]) => { batches.push(ids); return ids.map(id => ({ id })) },
          idOf: row => row.id,
          preCache: row => { if (row.id === 2) throw new Error('not 2'); return row }
        })
      }
    })
    const api = managerOf(t).createApi()
    const results = await Promise.allSettled([1, 2, 3].map(id => api.get(Picky, 'getById', [id])))
    t.match(results, [{ value: { id: 1 } }, { reason: { message: 'not 2' } }, { value: { id: 3 } }])
    t.strictSame(batches, [[1, 2, 3]])
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

  t.test('getMany joins what single reads, its own and other requests\', are already loading', async t => {
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
