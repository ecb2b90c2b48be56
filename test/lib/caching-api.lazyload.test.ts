import t from 'tap'
import { cachedObject, loadMany } from '../../lib/cached-object.js'
import { countingLoader } from '../helpers/doubles.js'
import { alice, managerOf, usersOf } from '../helpers/users.js'

t.test('lazyload', async t => {
  function graph () {
    const ids = Array.from({ length: 100 }, (_, i) => i)
    const users = countingLoader(ids.map(id => ({ id, photoId: 1000 + id })))
    const photos = countingLoader(ids.map(id => ({ id: 1000 + id, albumId: 2000 + id % 10 })))
    const albums = countingLoader(ids.slice(0, 10).map(id => ({ id: 2000 + id, title: `album ${id}` })))
    const Album = cachedObject({ name: 'Album', region: 'objects', methods: { getById: loadMany({ load: albums.load, idOf: albums.idOf }) } })
    const Photo = cachedObject({
      name: 'Photo',
      region: 'objects',
      methods: { getById: loadMany({ load: photos.load, idOf: photos.idOf, postCache: (photo, api) => api.lazyload(photo, 'album', Album, 'getById', [photo.albumId]) }) }
    })
    const User = cachedObject({
      name: 'User',
      region: 'objects',
      methods: { getById: loadMany({ load: users.load, idOf: users.idOf, postCache: (user, api) => api.lazyload(user, 'photo', Photo, 'getById', [user.photoId]) }) }
    })
    return { ids, User, users, photos, albums }
  }

  t.test('a lazyloaded property of a hundred objects, read in one tick, is one batch', async t => {
    const { ids, User, photos } = graph()
    const api = managerOf(t).createApi()
    const users = await api.getMany(User, 'getById', ids)
    t.strictSame(photos.calls, [])
    const found = await Promise.all(users.map(user => user!.photo))
    t.strictSame(photos.calls, [ids.map(id => 1000 + id)])
    t.strictSame(found.map(photo => photo!.id), ids.map(id => 1000 + id))
  })

  t.test('a lazyloaded graph of three levels is three batches', async t => {
    const { ids, User, users, photos, albums } = graph()
    const api = managerOf(t).createApi()
    const titles = await Promise.all(ids.map(async id => {
      const user = await api.get(User, 'getById', [id])
      const photo = await user!.photo
      return (await photo!.album)!.title
    }))
    t.strictSame(titles, ids.map(id => `album ${id % 10}`))
    t.strictSame([users, photos, albums].map(({ calls }) => calls.length), [1, 1, 1])
    t.match(api.stats, { loads: 3, loaded: 210 })
  })

  t.test('a lazyloaded property is loaded once, and the same promise each time', async t => {
    const { User, photos } = graph()
    const user = await managerOf(t).createApi().get(User, 'getById', [1])
    t.equal(user!.photo, user!.photo)
    await user!.photo
    await user!.photo
    t.equal(photos.calls.length, 1)
  })

  t.test('a lazyloaded property is not enumerable: serialising or comparing the object loads nothing', async t => {
    const { User, photos } = graph()
    const manager = managerOf(t)
    const user = await manager.createApi().get(User, 'getById', [1])
    t.strictSame(Object.keys(user!), ['id', 'photoId'])
    t.equal(JSON.stringify(user), '{"id":1,"photoId":1001}')
    t.strictSame({ ...user }, { id: 1, photoId: 1001 })
    await manager.idle()
    t.strictSame(photos.calls, [])
  })

  t.test('a lazyloaded property can be defined anew, and sees its request\'s own invalidations', async t => {
    const { User, rows } = usersOf()
    const api = managerOf(t).createApi()
    const page = api.lazyload(api.lazyload({}, 'user', User, 'getById', [2]), 'user', User, 'getById', [1])
    t.equal((await page.user)?.name, 'alice')
    rows.set(1, { ...alice, name: 'Alice' })
    await api.invalidate(User, 'getById', [1])
    t.equal((await page.user)?.name, 'Alice')
  })

  t.test('lazyload refuses a frozen target, and arguments that can not be read', async t => {
    const { User } = usersOf()
    const api = managerOf(t).createApi()
    t.throws(() => api.lazyload(Object.freeze({}), 'user', User, 'getById', [1]), { code: 'FST_CACHING_API_INVALID_ARGUMENT', message: /target must be an object that is not frozen/ })
    for (const target of [undefined, null, 'text', 1]) {
      t.throws(() => api.lazyload(target as never, 'user', User, 'getById', [1]), { code: 'FST_CACHING_API_INVALID_ARGUMENT' })
    }
    t.throws(() => api.lazyload({}, 'user', User, 'getById', [Symbol('x')] as never), { code: 'FST_CACHING_API_INVALID_ARGUMENT' })
    t.throws(() => api.lazyload({}, 'user', User, 'getByName' as never, [1] as never), { code: 'FST_CACHING_API_INVALID_DEFINITION' })
  })
})
