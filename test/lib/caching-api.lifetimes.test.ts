import t from 'tap'
import { cachedObject, loadMany } from '../../lib/cached-object.js'
import { nothing } from '../../lib/backends/nothing.js'
import { countingBackend } from '../helpers/backend-doubles.js'
import { countingLoader, fakeClock } from '../helpers/doubles.js'
import { alice, managerOf, type User, usersOf } from '../helpers/users.js'

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

  t.test('with negativeTtl, "there is no such row" is remembered for that long; the method\'s own comes first', async t => {
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

  t.test('a method\'s own ttl is that of its missing rows; a negativeTtl takes its place, with the same grace after it', async t => {
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
    t.equal(await read('strict'), 1)
    await manager.idle()
    t.equal(loader.calls.length, 4)
    clock.advance(50)
    await read('brief')
    t.equal(loader.calls.length, 5)
    clock.advance(900)
    t.equal(await read('loose'), 1, 'without one, they are as other values')
    await manager.idle()
  })

  t.test('with negativeTtl 0, "there is no such row" is remembered by the request alone', async t => {
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

t.test('a region of nothing() keeps nothing, for nobody', async t => {
  const { User, calls } = usersOf()
  const manager = managerOf(t, { tiers: [nothing()] })
  for (let times = 1; times <= 3; times++) {
    await manager.createApi().get(User, 'getById', [1])
    t.equal(calls.length, times)
  }
})
