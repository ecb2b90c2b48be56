import t from 'tap'
import { cacheObject, property } from '../../lib/cache-objects/cache-object.js'
import { cachedObject, loadOne } from '../../lib/cached-object.js'
import { CachingManager } from '../../lib/caching-manager.js'
import { memory } from '../../lib/backends/memory.js'
import { silentLogger } from '../helpers/doubles.js'
import { managerOf } from '../helpers/users.js'

t.test('object', async t => {
  const UserCache = cacheObject({ name: 'UserCache', backend: memory(), timeout: '20s', properties: { username: property<string>() } })
  class Admin extends cacheObject({ name: 'Admin', extends: UserCache, properties: {} }) {}

  t.test('an object is one instance for a class and an id, in this request alone', async t => {
    const manager = managerOf(t)
    const [api, other] = [manager.createApi(), manager.createApi()]
    const user = api.object(UserCache, 10)
    t.type(user, UserCache)
    t.equal(user.id, '10')
    t.equal(api.object(UserCache, 10), user)
    t.equal(api.object(UserCache, '10'), user)
    t.equal(api.object(UserCache, 10n), user)
    t.not(api.object(UserCache, 11), user)
    t.not(api.object(Admin, 10), user)
    t.equal(api.object(Admin, 10), api.object(Admin, 10))
    t.not(other.object(UserCache, 10), user)
    t.equal(api.object(UserCache, -0), api.object(UserCache, 0))
  })

  t.test('a class that cacheObject did not make, and what is no id, is refused', async t => {
    const api = managerOf(t).createApi()
    for (const wrong of [class {}, undefined, {}]) {
      t.throws(() => api.object(wrong as never, 1), { code: 'FST_CACHING_API_INVALID_DEFINITION', message: /^a cache object's class must be made by cacheObject/ })
    }
    t.throws(() => api.object(UserCache, NaN), { code: 'FST_CACHING_API_INVALID_ARGUMENT' })
    t.throws(() => api.object(UserCache, undefined as never), { code: 'FST_CACHING_API_INVALID_ARGUMENT' })
    t.throws(() => api.object(UserCache, Symbol('s') as never), { code: 'FST_CACHING_API_INVALID_ARGUMENT' })
    api.object(UserCache, 10)
    for (const wrong of [[10], { toString: () => '10' }, Object.create(null)]) {
      t.throws(() => api.object(UserCache, wrong as never), { code: 'FST_CACHING_API_INVALID_ARGUMENT' }, 'also where its string is an id that is known')
    }
  })

  t.test('what is assigned to an object of a request is saved by unsaved.save(), where somebody said that it will be called', async t => {
    const manager = managerOf(t)
    const logger = silentLogger()
    const [request, job] = [manager.createApi().savesObjects(logger, null), manager.createApi()]
    t.equal(request.unsaved, undefined, 'nothing to save')
    request.object(UserCache, 20)
    t.equal(request.unsaved!.save(), undefined, 'nothing to save yet')
    request.object(UserCache, 21).username = 'saved'
    job.object(UserCache, 22).username = 'not saved'
    await request.unsaved!.save()
    t.equal(job.unsaved, undefined)
    t.equal(await new UserCache(21).username, 'saved')
    t.equal(await new UserCache(22).username, null)
    t.strictSame(logger.lines.warn, [])
  })

  t.test('what an object\'s own constructor assigns is saved as well', async t => {
    class Fresh extends UserCache {
      constructor (id: string | number | bigint) {
        super(id)
        this.username = 'fresh'
      }
    }
    const request = managerOf(t).createApi().savesObjects(silentLogger(), null)
    request.object(Fresh, 30)
    await request.unsaved!.save()
    t.equal(await new UserCache(30).username, 'fresh')
  })

  t.test('a field that hides a property is refused at once', async t => {
    class Shadow extends UserCache {
      override username = 'nobody'
    }
    const api = managerOf(t).createApi()
    t.throws(() => api.object(Shadow, 1), { code: 'FST_CACHING_API_INVALID_DEFINITION', message: /^Shadow: its own username would hide what UserCache keeps/ })
    t.throws(() => api.object(Shadow, 1), { code: 'FST_CACHING_API_INVALID_DEFINITION' }, 'and again')
  })

  t.test('an object is refused after close', async t => {
    const manager = managerOf(t)
    const api = manager.createApi()
    await manager.close()
    t.throws(() => api.object(UserCache, 1), { code: 'FST_CACHING_API_CLOSED', message: 'The manager was used after close()' })
  })
})

t.test('two objects of one name in one region are refused when the second is first used', async t => {
  const define = (region: string) => cachedObject({ name: 'User', region, methods: { getById: loadOne((_context, id: number) => ({ id, region })) } })
  const manager = new CachingManager({ regions: { objects: { tiers: [memory()], ttl: 1000 }, others: { tiers: [memory()], ttl: 1000 } } })
  t.teardown(() => manager.close())
  const api = manager.createApi()
  await api.get(define('objects'), 'getById', [1])
  await t.rejects(api.get(define('objects'), 'getById', [1]), { code: 'FST_CACHING_API_INVALID_DEFINITION', message: /two cached objects named 'User' in region 'objects'/ })
  t.strictSame(await api.get(define('others'), 'getById', [1]), { id: 1, region: 'others' }, 'in another region it is fine')
})
