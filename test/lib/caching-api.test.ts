import t from 'tap'
import { cachedObject, loadMany } from '../../lib/cached-object.js'
import { nothing } from '../../lib/backends/nothing.js'
import { countingBackend } from '../helpers/backend-doubles.js'
import { countingLoader, fakeClock } from '../helpers/doubles.js'
import { alice, bob, managerOf, usersOf } from '../helpers/users.js'

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

  t.test('one object is read by its method and its arguments: get (object, \'get_by_id\', (1,))', async t => {
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

  t.test('pre-cache and post-cache hooks decide what is kept, and what is given', async t => {
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

t.test('what is stashed is there for its own request only', async t => {
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
  t.test('region(name) is a region with this request\'s memory in front of it', async t => {
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

  t.test('a region that does not exist is an error that names those that do', async t => {
    t.throws(() => managerOf(t).createApi().region('elsewhere'), { code: 'FST_CACHING_API_UNKNOWN_REGION', message: "There is no region 'elsewhere'; there are: objects" })
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
