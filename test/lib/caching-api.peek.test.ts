import t from 'tap'
import { cachedObject, loadOne } from '../../lib/cached-object.js'
import { nothing } from '../../lib/backends/nothing.js'
import { countingBackend } from '../helpers/backend-doubles.js'
import { gate } from '../helpers/doubles.js'
import { managerOf, usersOf } from '../helpers/users.js'

t.test('peek', async t => {
  t.test('peek shows what the request already holds, and never touches a tier or a loader', async t => {
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

  t.test('peek shows what was read before while that is read anew', async t => {
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

  t.test('peek shows what was read while it was being read anew', async t => {
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

  t.test('peek shows what was read before though one of two later reads has failed', async t => {
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

  t.test('peek shows null for a row that is known not to exist, and nothing after an invalidation', async t => {
    const { User } = usersOf()
    const api = managerOf(t).createApi()
    await api.getMany(User, 'getById', [1, 99])
    t.equal(api.peek(User, 'getById', [99]), null)
    await api.invalidate(User, 'getById', [1])
    t.equal(api.peek(User, 'getById', [1]), undefined)
  })
})
