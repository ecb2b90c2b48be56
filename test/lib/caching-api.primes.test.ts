import { Redis } from 'ioredis'
import t, { type Test } from 'tap'
import { cachedObject, loadMany, loadOne } from '../../lib/cached-object.js'
import type { CachingApi } from '../../lib/caching-api.js'
import { memory } from '../../lib/backends/memory.js'
import { nothing } from '../../lib/backends/nothing.js'
import { redis } from '../../lib/backends/redis.js'
import { countingBackend } from '../helpers/backend-doubles.js'
import { countingLoader, eventually, gate, silentLogger } from '../helpers/doubles.js'
import { startRedis } from '../helpers/servers.js'
import { alice, bob, managerOf, type User } from '../helpers/users.js'

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

  t.test('what one method loads, another one of another request finds in the tiers', async t => {
    const { User, byId } = named(t)
    const manager = managerOf(t, { tiers: [memory(), countingBackend()] })
    await manager.createApi().get(User, 'getByName', ['alice'])
    await manager.idle()
    t.strictSame(await manager.createApi().get(User, 'getById', [1]), alice)
    t.strictSame(byId.calls, [])
  })

  t.test('what the request has read stays as it was read, though another method primes it', async t => {
    const { User, byId } = named(t)
    const api = managerOf(t).createApi()
    const seen = await api.get(User, 'getById', [1])
    byId.rows.set(1, { ...alice, photoId: 11 })
    t.equal((await api.get(User, 'getByName', ['alice']))?.photoId, 11)
    t.equal(await api.get(User, 'getById', [1]), seen)
  })

  t.test('force, refresh and invalidate go past rows that came along', async t => {
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

  t.test('on a real Redis, another process finds rows that came along, and none that was invalidated meanwhile', async t => {
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
