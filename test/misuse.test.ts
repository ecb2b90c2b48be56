/*
 * Wrong use of every public function: an error that says by a code what is wrong, and in words what was expected and what
 * came; at once, and not a wrong value. Options at boot: test/plugin/options.test.ts. Definitions: test/lib/cached-object.test.ts.
 */
import t, { type Test } from 'tap'
import { BatchMismatchError, cachedObject, cacheObject, CachingManager, loadMany, loadOne, memory, nothing, property, redis, redisBus, redlock, type CachingApi } from '../plugin/index.js'

const User = cachedObject({
  name: 'User',
  region: 'objects',
  methods: {
    getById: loadMany({ load: async (_context, ids: readonly number[]) => ids.map(id => ({ id, name: `user ${id}` })), idOf: user => user.id }),
    search: loadOne(async (_context, by: unknown, limit?: number) => ({ by, limit }))
  }
})

function managerOf (t: Pick<Test, 'teardown'>): CachingManager {
  const manager = new CachingManager({ regions: { objects: { tiers: [memory()], ttl: '1m' } } })
  t.teardown(() => manager.close())
  return manager
}

/** As JavaScript would call it. */
type Loose = Record<'get' | 'getMany' | 'peek' | 'set' | 'invalidate' | 'refresh' | 'lazyload' | 'region' | 'stash', (...args: any[]) => any>
const loosely = (api: CachingApi) => api as unknown as Loose

const argument = (message: string | RegExp) => ({ code: 'FST_CACHING_API_INVALID_ARGUMENT', statusCode: 500, message })
const definition = (message: string | RegExp) => ({ code: 'FST_CACHING_API_INVALID_DEFINITION', statusCode: 500, message })
const options = (message: string | RegExp) => ({ code: 'FST_CACHING_API_INVALID_OPTIONS', statusCode: 500, message })

/** Each function of an api that takes an object, a method and arguments, as something that rejects. */
const readers: Record<string, (api: Loose, object: unknown, method: unknown, args: unknown) => Promise<unknown>> = {
  get: (api, object, method, args) => api.get(object, method, args),
  getMany: (api, object, method, args) => api.getMany(object, method, [args]),
  peek: async (api, object, method, args) => api.peek(object, method, args),
  set: (api, object, method, args) => api.set(object, method, args, { id: 1 }),
  invalidate: (api, object, method, args) => api.invalidate(object, method, args),
  refresh: (api, object, method, args) => api.refresh(object, method, args),
  lazyload: async (api, object, method, args) => api.lazyload({}, 'p', object, method, args)
}

for (const [name, read] of Object.entries(readers)) {
  t.test(`api.${name}`, async t => {
    const api = loosely(managerOf(t).createApi())
    // The same again when the method has been used: what is seen already takes another way.
    for (const when of ['first', 'later']) {
      if (when === 'later') await Promise.all([api.get(User, 'getById', [1]), api.get(User, 'getById', [0]), api.get(User, 'search', ['a', 1]), api.get(User, 'search', ['a'])])

      t.test(`api.${name} of an object that cachedObject didn't make is refused, ${when}`, async t => {
        for (const object of [undefined, null, 'User', class User {}, { name: 'User', region: 'objects', methods: User.methods }]) {
          await t.rejects(read(api, object, 'getById', [1]), definition(/^a cached object must be made by cachedObject\(…\), got /))
        }
        await t.rejects(read(api, undefined, undefined, [1]), definition(/^a cached object must be made by/))
      })

      t.test(`api.${name} of a method that there isn't is refused, ${when}`, async t => {
        for (const method of ['get_by_id', 'constructor', '__proto__', undefined, null, 1, () => {}]) {
          await t.rejects(read(api, User, method, [1]), definition(/^User has no method .*; it has getById, search$/))
        }
      })

      t.test(`api.${name} of arguments that are no array is refused, ${when}`, async t => {
        if (name === 'getMany') return // bare arguments are fine there
        for (const args of [1, 'a', null, undefined, { id: 1 }, { length: 1, 0: 'a' }]) {
          await t.rejects(read(api, User, 'search', args), argument(/^Arguments of User\.search must be an array such as \[1\], got /))
        }
      })

      t.test(`api.${name} of ids that are none is refused, ${when}`, async t => {
        for (const args of [[null], [undefined], [{}], [[1]], [true], [new Date()], [Symbol('1')], [() => 1], [], [1, 2]]) {
          await t.rejects(read(api, User, 'getById', args), argument(/^Arguments of User\.getById must be one id: a string, a number or a bigint, got /))
        }
      })

      t.test(`api.${name} of arguments that can't be told apart is refused, ${when}`, async t => {
        class Money { amount = 1 }
        const cyclic: Record<string, unknown> = {}
        cyclic['self'] = { cyclic }
        for (const [arg, where] of [[() => {}, '\\[0\\]'], [Symbol('x'), '\\[0\\]'], [new Money(), '\\[0\\]'], [new Map(), '\\[0\\]'], [/x/, '\\[0\\]'], [{ a: { b: [() => {}] } }, '\\[0\\]\\.a\\.b\\[0\\]'], [Promise.resolve(1), '\\[0\\]']] as const) {
          await t.rejects(read(api, User, 'search', [arg]), argument(new RegExp(`^User\\.search${where} must be made of strings, numbers, bigints, booleans, null, undefined, Dates, arrays and plain objects, got `)))
          await t.rejects(read(api, User, 'search', ['a', arg]), argument(/^User\.search\[1\]/))
        }
        await t.rejects(read(api, User, 'search', [cyclic]), argument(/^User\.search\[0\]\.self\.cyclic must be free of cycles, got one$/))
      })
    }
  })
}

t.test('api.get never throws: its promise rejects', async t => {
  const api = loosely(managerOf(t).createApi())
  for (const args of [[], [User], [User, 'getById'], [User, 'getById', null], [User, 'getById', [{}]], [User, 'getById', [1], { maxAge: 'soon' }], [User, 'getById', [1], null], [User, 'getById', [1], { maxage: 1 }], [null, null, null, null]]) {
    const promise = api.get(...args)
    t.type(promise, Promise)
    await t.rejects(promise, { code: /^FST_CACHING_API_INVALID_/ })
  }
})

t.test('api.getMany refuses what is no array', async t => {
  const api = loosely(managerOf(t).createApi())
  for (const argsList of [undefined, null, 1, '12', new Set([1]), { length: 0 }]) {
    await t.rejects(api.getMany(User, 'getById', argsList), argument(/^argsList must be an array with the arguments of each read, got /))
  }
})

t.test('api.getMany refuses one wrong entry among right ones', async t => {
  const api = managerOf(t).createApi()
  await t.rejects(loosely(api).getMany(User, 'getById', [1, null, 2]), argument(/must be one id/))
  t.strictSame(await api.get(User, 'getById', [1]), { id: 1, name: 'user 1' }, 'the right ones can be read')
})

t.test('api.set refuses arguments, rows and options that can not work', async t => {
  const api = loosely(managerOf(t).createApi())
  await t.rejects(api.set(User, 'getById', [1]), argument('row must be a row, or null for "there is no such row", got undefined'))
  await t.rejects(api.set(User, 'getById', [1], { id: 1 }, { ttl: 'soon' }), options(/^options\.ttl must be a duration/))
  await t.rejects(api.set(User, 'getById', [1], { id: 1 }, { ttl: 0 }), options(/^options\.ttl/))
  await t.rejects(api.set(User, 'getById', [1], { id: 1 }, { grace: -1 }), options(/^options\.grace must be a duration/))
  for (const tags of ['tag', [1], {}, null]) await t.rejects(api.set(User, 'getById', [1], { id: 1 }, { tags }), argument(/^tags must be an array of strings, got /))
  await t.rejects(api.set(User, 'getById', [1], { id: 1, greet () {} }), { code: 'FST_CACHING_API_INVALID_ARGUMENT' })
  t.equal(api.peek(User, 'getById', [1]), undefined, 'nothing of it is remembered')
})

t.test('each call of an api takes its own options only', async t => {
  const api = loosely(managerOf(t).createApi())
  const calls: Record<string, { takes: string[], call: (options: object) => Promise<unknown> }> = {
    get: { takes: ['force', 'maxAge'], call: options => api.get(User, 'getById', [1], options) },
    getMany: { takes: ['force', 'maxAge'], call: options => api.getMany(User, 'getById', [1], options) },
    set: { takes: ['ttl', 'grace', 'tags'], call: options => api.set(User, 'getById', [1], { id: 1 }, options) }
  }
  const values = { maxAge: 1000, force: true, ttl: 1000, grace: 1000, tags: ['t'], shouldCache: () => true, soft: true, useCache: true }
  for (const [name, { takes, call }] of Object.entries(calls)) {
    for (const [option, value] of Object.entries(values)) {
      if (takes.includes(option)) await t.resolves(call({ [option]: value }), `${name} ${option}`)
      else await t.rejects(call({ [option]: value }), options(new RegExp(`^options\\.${option} must be absent: the options are ${takes.join(', ')}, got `)), `${name} ${option}`)
    }
  }
  for (const force of ['yes', 1, null]) {
    await t.rejects(api.get(User, 'getById', [1], { force }), options(/^options\.force must be true or false, got /))
    await t.rejects(api.getMany(User, 'getById', [1], { force }), options(/^options\.force must be true or false, got /))
  }
})

t.test('a call of an api that has no options refuses some, and does nothing', async t => {
  const api = loosely(managerOf(t).createApi())
  const read = await api.get(User, 'getById', [1])
  const none = options('options must be absent: this call has none, got an object')
  t.throws(() => api.peek(User, 'getById', [1], { maxAge: 1 }), none)
  await t.rejects(api.refresh(User, 'getById', [1], { ttl: 1 }), none)
  await t.rejects(api.invalidate(User, 'getById', [1], { force: 'yes' }), none)
  t.throws(() => api.lazyload({}, 'p', User, 'getById', [1], { force: true }), none)
  t.equal(api.peek(User, 'getById', [1]), read)
  for (const empty of [{}, { ttl: undefined }]) t.equal(api.peek(User, 'getById', [1], empty), read, 'options that are none, as a wrapper may pass them on')
})

t.test('api.lazyload refuses a property that can not be defined', async t => {
  const api = loosely(managerOf(t).createApi())
  for (const property of [undefined, null, 1, {}]) t.throws(() => api.lazyload({}, property, User, 'getById', [1]), argument(/^property must be a string, got /))
  t.throws(() => api.lazyload([], 'length', User, 'getById', [1]), argument("target must be an object whose 'length' can be defined anew, got an array of 0"))
})

t.test('a cache object\'s get takes useCache only, true or false', async t => {
  const Cache = cacheObject({ name: 'Cache', backend: memory(), properties: { a: property<number>() } })
  const { get } = Cache.prototype as unknown as { get (...args: any[]): Promise<unknown> }
  const object = new Cache(1)
  await t.rejects(get.call(object, 'a', { useCache: 'yes' }), options("options.useCache must be true or false, got 'yes'"))
  await t.rejects(get.call(object, 'a', { force: true }), options('options.force must be absent: the only option is useCache, got true'))
  await t.rejects(get.call(object, 'a', null), options('options must be an object, got null'))
  t.equal(await get.call(object, 'a', { useCache: undefined }), null)
})

t.test('api.region refuses a name that no region has', async t => {
  const api = loosely(managerOf(t).createApi())
  for (const name of ['elsewhere', undefined, null, 1]) t.throws(() => api.region(name), { code: 'FST_CACHING_API_UNKNOWN_REGION', message: `There is no region '${name}'; there are: objects` })
})

for (const from of ['manager.region', 'api.region']) {
  t.test(`a region of ${from}`, async t => {
    const manager = managerOf(t)
    const region = (from === 'manager.region' ? manager : manager.createApi()).region('objects') as unknown as Record<'get' | 'getMany' | 'getOrCreate' | 'getOrCreateMany' | 'set' | 'setMany' | 'delete' | 'deleteMany', (...args: any[]) => Promise<unknown>>

    t.test('a region refuses a key that is no string', async t => {
      const noString = argument(/^A key must be a string, got /)
      for (const key of [undefined, null, 1, 1n, {}, ['a'], Symbol('a')]) {
        await t.rejects(region.get(key), noString)
        await t.rejects(region.getMany(['a', key]), noString)
        await t.rejects(region.getOrCreate(key, () => 1), noString)
        await t.rejects(region.getOrCreateMany(['a', key], (keys: string[]) => keys), noString)
        await t.rejects(region.set(key, 1), noString)
        await t.rejects(region.setMany([['a', 1], [key, 1]]), noString)
        await t.rejects(region.delete(key), noString)
        await t.rejects(region.deleteMany(['a', key]), noString)
      }
    })

    t.test('a region refuses keys that are no array', async t => {
      const noArray = argument(/^keys must be an array of strings, got /)
      for (const keys of [undefined, null, 'abc', new Set(['a'])]) {
        await t.rejects(region.getMany(keys), noArray)
        await t.rejects(region.getOrCreateMany(keys, () => []), noArray)
        await t.rejects(region.deleteMany(keys), noArray)
      }
    })

    t.test('a region refuses entries that are none', async t => {
      for (const entries of [undefined, null, 1, { a: 1 }, 'ab', ['ab'], [{ key: 'a', value: 1 }]]) {
        await t.rejects(region.setMany(entries), argument(/^entries must be pairs of a key and a value: an array of them, or a Map, got /))
      }
      await region.setMany(new Map([['m', 1]]))
      t.strictSame(await region.getMany(['m']), [1])
    })

    t.test('a region refuses a creator that is no function', async t => {
      for (const creator of [undefined, null, 1, Promise.resolve(1)]) {
        await t.rejects(region.getOrCreate('new', creator), argument(/^creator must be a function, got /))
        await t.rejects(region.getOrCreateMany(['new'], creator), argument(/^creator must be a function, got /))
      }
      t.equal(await region.getOrCreate('new', () => 'made'), 'made', 'it can be made all the same')
    })

    t.test('a region refuses a value that is undefined', async t => {
      const noValue = argument('value must be anything but undefined, which means "no value", got undefined')
      await t.rejects(region.set('u', undefined), noValue)
      await t.rejects(region.setMany([['u', 1], ['v', undefined]]), noValue)
      t.equal(await region.get('u'), undefined, 'nothing of it is written')
    })

    t.test('a region refuses a value that can\'t be kept', async t => {
      for (const value of [() => {}, Symbol('x'), { deep: [Promise.resolve(1)] }, new WeakMap()]) await t.rejects(region.set('f', value), { code: 'FST_CACHING_API_INVALID_ARGUMENT' })
      t.equal(await region.get('f'), undefined)
    })

    t.test('a region refuses a batch creator that returns another number of values', async t => {
      for (const values of [[], [1], [1, 2, 3], null, undefined, 'ab', new Map()]) {
        await t.rejects(region.getOrCreateMany(['b', 'c'], () => values), { code: 'FST_CACHING_API_BATCH_MISMATCH', statusCode: 500, message: /^A creator of region objects was asked for 2 values, in the order of its keys, and returned / })
      }
      await t.rejects(region.getOrCreateMany(['b'], async () => []), BatchMismatchError)
    })

    t.test('a region refuses options that can\'t work', async t => {
      await t.rejects(region.get('k', { maxAge: 'soon' }), options(/^options\.maxAge must be a duration/))
      await t.rejects(region.getMany(['k'], { maxAge: -1 }), options(/^options\.maxAge/))
      await t.rejects(region.getOrCreate('k', () => 1, { ttl: 'soon' }), options(/^options\.ttl/))
      await t.rejects(region.getOrCreate('k', () => 1, { shouldCache: true }), options(/^options\.shouldCache must be a function, got true$/))
      await t.rejects(region.getOrCreateMany(['k'], () => [1], { grace: NaN }), options(/^options\.grace/))
      await t.rejects(region.getOrCreate('k', () => 1, { tags: 'tag' }), argument(/^tags must be an array of strings, got 'tag'$/))
      await t.rejects(region.set('k', 1, { ttl: '1 fortnight' }), options(/^options\.ttl/))
      await t.rejects(region.set('k', 1, { tags: 'tag' }), argument(/^tags/))
      for (const wrong of [null, 5, 'ttl', []]) {
        await t.rejects(region.get('k', wrong), options(/^options must be an object, got /))
        await t.rejects(region.getOrCreate('k', () => 1, wrong), options(/^options must be an object, got /))
        await t.rejects(region.set('k', 1, wrong), options(/^options must be an object, got /))
      }
      t.equal(await region.getOrCreate('k2', () => 1, { other: undefined }), 1)
      await t.rejects(region.get('k', { maxage: 1 }), options(/^options\.maxage must be absent: the only option is maxAge, got 1$/))
      await t.rejects(region.getOrCreateMany(['k'], () => [1], { tag: ['t'] }), options(/^options\.tag must be absent: the options are maxAge, ttl, grace, tags, shouldCache, got an array of 1$/))
      await t.rejects(region.setMany([['k', 1]], { tll: 1 }), options(/^options\.tll must be absent: the options are ttl, grace, tags, got 1$/))
    })

    t.test('a region refuses an option that is meant for another call, first and when it has the value', async t => {
      const calls: Record<string, { takes: string[], call: (options: object) => Promise<unknown> }> = {
        get: { takes: ['maxAge'], call: options => region.get('own', options) },
        getMany: { takes: ['maxAge'], call: options => region.getMany(['own'], options) },
        getOrCreate: { takes: ['maxAge', 'ttl', 'grace', 'tags', 'shouldCache'], call: options => region.getOrCreate('own', () => 1, options) },
        getOrCreateMany: { takes: ['maxAge', 'ttl', 'grace', 'tags', 'shouldCache'], call: options => region.getOrCreateMany(['own'], () => [1], options) },
        set: { takes: ['ttl', 'grace', 'tags'], call: options => region.set('other', 1, options) },
        setMany: { takes: ['ttl', 'grace', 'tags'], call: options => region.setMany([['other', 1]], options) }
      }
      const values = { maxAge: 1000, force: true, ttl: 1000, grace: 1000, tags: ['t'], shouldCache: () => true, soft: true, useCache: true }
      for (const when of ['first', 'later']) {
        for (const [name, { takes, call }] of Object.entries(calls)) {
          for (const [option, value] of Object.entries(values)) {
            const given = call({ [option]: value })
            if (takes.includes(option)) await t.resolves(given, `${name} ${option}, ${when}`)
            else await t.rejects(given, options(new RegExp(`^options\\.${option} must be absent: the ${takes.length === 1 ? 'only option is' : 'options are'} ${takes.join(', ')}, got `)), `${name} ${option}, ${when}`)
          }
        }
      }
      await t.rejects(region.getOrCreate('own', () => 1, { ttl: 'soon' }), options(/^options\.ttl/), 'also where there is nothing to create')
      const none = options('options must be absent: this call has none, got an object')
      await t.rejects(region.delete('own', { soft: true }), none)
      await t.rejects(region.deleteMany(['own'], { soft: true }), none)
      t.equal(await region.get('own'), 1, 'nothing was forgotten')
      await Promise.all(['own'].map((key, ...more) => region.delete(key, ...more)))
      t.equal(await region.get('own'), undefined, 'what map passes is no option')
    })

    t.test('a region refuses a shouldCache that answers by a promise', async t => {
      await t.rejects(region.getOrCreate('s', () => 1, { shouldCache: async () => false }), argument(/^What shouldCache returns must be true or false, got an instance of Promise$/))
      t.equal(await region.get('s'), undefined)
    })
  })
}

t.test('region.invalidate refuses options that can not work', async t => {
  const region = managerOf(t).region('objects') as unknown as { invalidate: (options?: unknown) => Promise<void>, set: (key: string, value: unknown) => Promise<void>, get: (key: string) => Promise<unknown> }
  await region.set('k', 1)
  for (const wrong of [null, 'soft', []]) await t.rejects(region.invalidate(wrong), options(/^options must be an object, got /))
  await t.rejects(region.invalidate({ Soft: true }), options(/^options\.Soft must be absent: the only option is soft, got true$/))
  await t.rejects(region.invalidate({ soft: 1 }), options(/^options\.soft must be true or false, got 1$/))
  t.equal(await region.get('k'), 1, 'nothing was forgotten')
  await region.invalidate()
  t.equal(await region.get('k'), undefined)
})

t.test('region.invalidateTags and region.wrap refuse tags, names and functions that are none', async t => {
  const region = managerOf(t).region('objects') as unknown as { invalidateTags: (...args: any[]) => Promise<void>, wrap: (...args: any[]) => (...args: any[]) => Promise<unknown> }
  for (const tag of [1, null, ['tag'], undefined]) await t.rejects(region.invalidateTags(tag), argument(/^tags must be an array of strings/))
  for (const name of [undefined, '', 1, () => {}]) t.throws(() => region.wrap(name, () => 1), argument(/^name must be a string that is not empty, got /))
  for (const fn of [undefined, null, 'f']) t.throws(() => region.wrap('f', fn), argument(/^fn must be a function, got /))
  t.throws(() => region.wrap('f', () => 1, { ttl: 'soon' }), options(/^options\.ttl/))
  t.throws(() => region.wrap('f', () => 1, { maxAge: 'soon' }), options(/^options\.maxAge/))
  const wrapped = region.wrap('f', (x: unknown) => x)
  await t.rejects(wrapped(() => {}), argument(/^f\[0\] must be made of strings/))
  await t.rejects(wrapped(Symbol('x')), argument(/^f\[0\]/))
})

t.test('a loader of many that returns no array, or rows of nobody, is found out', async t => {
  const define = (rows: unknown) => cachedObject({ name: 'Bad', region: 'objects', methods: { getById: loadMany({ load: async (_context, _ids: readonly number[]) => rows as { id: number }[], idOf: row => row.id }) } })
  for (const rows of [null, undefined, {}, 'rows']) {
    await t.rejects(managerOf(t).createApi().get(define(rows), 'getById', [1]), { code: 'FST_CACHING_API_BATCH_MISMATCH', message: /^Bad\.getById was asked for an array with the rows of 1 ids, and returned / })
  }
  t.equal(await managerOf(t).createApi().get(define([{ id: 2 }]), 'getById', [1]), null)
  await t.rejects(managerOf(t).createApi().get(define([{ id: '1' }]), 'getById', [1]), { code: 'FST_CACHING_API_INVALID_DEFINITION', message: /^Bad\.getById: idOf must return what load was asked for/ })
})

t.test('a loader that waits for its own key is told so', async t => {
  const manager = managerOf(t)
  const Own = cachedObject({
    name: 'Own',
    region: 'objects',
    methods: { get: loadOne(async (_context, id: number): Promise<{ id: number }> => (await manager.createApi().get(Own as never, 'get' as never, [id] as never)) as never) }
  })
  await t.rejects(manager.createApi().get(Own, 'get', [1]), { code: 'FST_CACHING_API_REENTRANT_LOAD', message: /^The loader of '.*Own.*' waits for its own value$/ })
})

t.test('backends, buses and locks refuse what is no client', async t => {
  for (const client of [undefined, null, 'redis://localhost', {}, { get () {} }]) {
    t.throws(() => redis(client), options(/^redis\(client\) must be an ioredis client/))
    t.throws(() => redisBus(client), options(/^redisBus\(client\) must be an ioredis client/))
    t.throws(() => redlock([client]), options(/^redlock\(clients\)\[0\] must be an ioredis client/))
  }
  for (const clients of [undefined, [], 'redis', [{}, {}]]) t.throws(() => redlock(clients as never), options(/^redlock\(clients\) must be an array of one ioredis client, or of an odd number/))
  t.throws(() => memory({ maxEntries: 0 }), options('memory(options).maxEntries must be a positive integer, got 0'))
  t.throws(() => memory({ max: 5 } as never), options(/^memory\(options\)\.max must be absent/))
  t.equal(nothing().name, 'nothing')
})

t.test('a manager that was closed refuses whatever is asked of it', async t => {
  const manager = managerOf(t)
  const api = manager.createApi()
  await manager.close()
  const closed = { code: 'FST_CACHING_API_CLOSED', statusCode: 503, message: 'Region objects was used after close()' }
  await t.rejects(api.get(User, 'getById', [1]), closed)
  await t.rejects(api.getMany(User, 'getById', [1]), closed)
  await t.rejects(api.refresh(User, 'getById', [1]), closed)
  await t.rejects(api.set(User, 'getById', [1], { id: 1, name: 'a' }), closed)
  await t.rejects(api.invalidate(User, 'getById', [2]), closed)
  await t.rejects(api.region('objects').get('k'), closed)
  await t.rejects(manager.region('objects').getOrCreate('k', () => 1), closed)
  await t.rejects(manager.createApi().get(User, 'getById', [1]), closed)
})

t.test('CachingManager and createApi refuse what can not work', async t => {
  t.throws(() => new (CachingManager as unknown as new () => unknown)(), options(/^options must be an object, got undefined$/))
  t.throws(() => new CachingManager({ regions: { objects: { tiers: [redis] as never, ttl: 1 } } }), options(/^regions\.objects\.tiers\[0\] must be a backend with getMany, setMany and deleteMany, such as memory\(\) or redis\(client\), got a function \(redis\)$/))
})
