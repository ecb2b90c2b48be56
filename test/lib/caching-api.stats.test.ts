import { Redis } from 'ioredis'
import t from 'tap'
import { memory } from '../../lib/backends/memory.js'
import { redis } from '../../lib/backends/redis.js'
import { countingBackend } from '../helpers/backend-doubles.js'
import { eventually, fakeClock, gate } from '../helpers/doubles.js'
import { startRedis } from '../helpers/servers.js'
import { alice, bob, managerOf, usersOf } from '../helpers/users.js'

t.test('stats', async t => {
  t.test('stats count where a request\'s values came from', async t => {
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
    t.strictSame(loading.stats, { ...none, loaded: 2, loads: 1 }, 'nothing was found in any tier')
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

  t.test('stats tell two tiers with backends of one name apart', async t => {
    const { User } = usersOf()
    const [near, far] = [countingBackend(), countingBackend()]
    const [all, only] = [managerOf(t, { tiers: [memory(), near, far] }), managerOf(t, { tiers: [far] })]
    await only.createApi().getMany(User, 'getById', [1, 2])
    await only.idle()
    const first = all.createApi()
    await first.getMany(User, 'getById', [1, 2])
    t.strictSame(first.stats.tiers, { 'counted-2': 2 })
    t.match(first.serverTiming, /cache-counted;desc="0"/)
    t.match(first.serverTiming, /cache-counted-2;desc="2"/)
    await all.idle()
    const nearer = managerOf(t, { tiers: [memory(), near, far] }).createApi()
    await nearer.get(User, 'getById', [1])
    t.strictSame(nearer.stats.tiers, { counted: 1 })
  })

  t.test('stats of a request are a picture of the moment', async t => {
    const { User } = usersOf()
    const api = managerOf(t).createApi()
    const before = api.stats
    await api.get(User, 'getById', [1])
    t.equal(before.loaded, 0)
    t.equal(api.stats.loaded, 1)
  })
})

t.test('serverTiming shows what stats count, and how long it took', async t => {
  const { User } = usersOf()
  const manager = managerOf(t, { tiers: [memory(), countingBackend()] })
  const api = manager.createApi()
  await api.getMany(User, 'getById', [1, 2])
  await api.get(User, 'getById', [1])
  t.match(api.serverTiming, /^cache-local;desc="1", cache-counted;desc="0";dur=[\d.]+, cache-load;desc="2 in 1";dur=[\d.]+$/)
})
