import { AsyncLocalStorage } from 'node:async_hooks'
import t from 'tap'
import { cachedObject, loadMany, loadOne } from '../../lib/cached-object.js'
import type { CachingApi } from '../../lib/caching-api.js'
import { countingBackend } from '../helpers/backend-doubles.js'
import { countingLoader, failing, gate } from '../helpers/doubles.js'
import { alice, bob, managerOf, type User } from '../helpers/users.js'

t.test('preCache', async t => {
  t.test('preCache decides what the tiers keep, on a row that is the loader\'s own', async t => {
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

  t.test('a preCache that throws for one row fails that key alone', async t => {
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

t.test('postCache', async t => {
  t.test('postCache runs once for each request, on an object of its own', async t => {
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

  t.test('postCache is not asked about a row that does not exist', async t => {
    const loader = countingLoader<number, User>([])
    const User = cachedObject({
      name: 'User',
      region: 'objects',
      methods: { getById: loadMany({ load: loader.load, idOf: loader.idOf, postCache: failing('asked') }) }
    })
    const api = managerOf(t).createApi()
    t.equal(await api.get(User, 'getById', [1]), null)
  })

  t.test('a postCache that throws rejects this read, from a loader and from a tier, and is tried again by the next', async t => {
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

  t.test('postCache may read its own key', async t => {
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

  t.test('a postCache that throws for what is written does not keep it from being written', async t => {
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

  t.test('postCache may be asynchronous, for what is loaded and for what memory has', async t => {
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
