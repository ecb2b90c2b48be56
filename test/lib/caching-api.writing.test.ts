import t from 'tap'
import { cachedObject, loadOne } from '../../lib/cached-object.js'
import { memory } from '../../lib/backends/memory.js'
import { countingBackend } from '../helpers/backend-doubles.js'
import { failing, fakeClock, gate } from '../helpers/doubles.js'
import { alice, bob, managerOf, type User, usersOf } from '../helpers/users.js'

t.test('set', async t => {
  t.test('set takes a row as the loader would give it: preCache, postCache, tags and primes apply', async t => {
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

  t.test('set is not undone by a load that was under way', async t => {
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

  t.test('set of null says that there is no such row', async t => {
    const { User, calls } = usersOf()
    const manager = managerOf(t)
    const api = manager.createApi()
    await api.set(User, 'getById', [1], null)
    t.equal(await api.get(User, 'getById', [1]), null)
    t.equal(await manager.createApi().get(User, 'getById', [1]), null)
    t.strictSame(calls, [])
  })

  t.test('set is seen at once by methods that it primes, though this request has read them', async t => {
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

  t.test('set takes the place of a row that came with another and was not read yet', async t => {
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

  t.test('set of null with a ttl of its own is remembered for that', async t => {
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

  t.test('set of null, where absences are not to be remembered, forgets what was there', async t => {
    const { User, calls } = usersOf()
    const manager = managerOf(t, { negativeTtl: 0 })
    const api = manager.createApi()
    await api.set(User, 'getById', [1], { ...alice, name: 'Alice' })
    await api.set(User, 'getById', [1], null)
    t.equal(await api.get(User, 'getById', [1]), null, 'the request knows')
    t.strictSame(await manager.createApi().get(User, 'getById', [1]), alice, 'others load')
    t.strictSame(calls, [[1]])
  })

  t.test('set has its own ttl, grace and tags where it is given them', async t => {
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

  t.test('a row that is set is forgotten by the tags of its method, whatever tags it is given besides', async t => {
    const Photo = cachedObject({ name: 'Photo', region: 'objects', methods: { getById: loadOne((_context, id: number) => ({ id }), { tags: ({ id }) => [`photo-${id}`] }) } })
    const manager = managerOf(t)
    await manager.createApi().set(Photo, 'getById', [1], { id: 1 }, { tags: ['x', 'photo-1'] })
    for (const tag of ['x', 'photo-1']) {
      await manager.createApi().set(Photo, 'getById', [1], { id: 0 }, { tags: ['x'] })
      await manager.region('objects').invalidateTags(tag === 'x' ? 'x' : 'photo-0')
      t.strictSame(await manager.createApi().get(Photo, 'getById', [1]), { id: 1 })
    }
  })

  t.test('set keeps a copy: what the caller does to its row afterwards changes nothing', async t => {
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
  t.test('invalidate makes every later request load anew', async t => {
    const { User, rows, calls } = usersOf()
    const manager = managerOf(t, { tiers: [memory(), countingBackend()] })
    await manager.createApi().get(User, 'getById', [1])
    await manager.idle()
    rows.set(1, { ...alice, name: 'Alice' })
    await manager.createApi().invalidate(User, 'getById', [1])
    t.equal((await manager.createApi().get(User, 'getById', [1]))?.name, 'Alice')
    t.strictSame(calls, [[1], [1]])
  })

  t.test('invalidate of a key that nobody has read is fine', async t => {
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
