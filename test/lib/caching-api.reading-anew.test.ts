import t from 'tap'
import { cachedObject, loadOne } from '../../lib/cached-object.js'
import { memory } from '../../lib/backends/memory.js'
import { nothing } from '../../lib/backends/nothing.js'
import { countingBackend } from '../helpers/backend-doubles.js'
import { fakeClock, gate } from '../helpers/doubles.js'
import { collectGarbage } from '../helpers/garbage.js'
import { alice, managerOf, usersOf } from '../helpers/users.js'

t.test('refresh', async t => {
  t.test('refresh loads whatever the tiers hold, replaces it, and is what the request sees from then on', async t => {
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

  t.test('a refresh that fails leaves what the tiers hold', async t => {
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
  t.test('maxAge is how old a value may be for this one read', async t => {
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

  t.test('a maxAge of Infinity takes whatever is there', async t => {
    const { User, calls } = usersOf()
    const clock = fakeClock()
    const manager = managerOf(t, {}, { now: clock.now })
    await manager.createApi().get(User, 'getById', [1])
    await manager.idle()
    clock.advance(24 * 60 * 60 * 1000)
    t.strictSame(await manager.createApi().get(User, 'getById', [1], { maxAge: Infinity }), alice)
    t.equal(calls.length, 1)
  })

  t.test('a maxAge that is no duration is refused', async t => {
    const { User } = usersOf()
    await t.rejects(managerOf(t).createApi().get(User, 'getById', [1], { maxAge: 'soon' }), { code: 'FST_CACHING_API_INVALID_OPTIONS', message: /options\.maxAge/ })
  })
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
