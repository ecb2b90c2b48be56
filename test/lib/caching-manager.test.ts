import { EventEmitter } from 'node:events'
import { mock } from 'node:test'
import { Redis } from 'ioredis'
import t, { type Test } from 'tap'
import { cacheObject, property } from '../../lib/cache-objects/cache-object.js'
import { cachedObject, loadMany, loadOne } from '../../lib/cached-object.js'
import { CachingApi } from '../../lib/caching-api.js'
import { CachingManager, type CachingManagerOptions } from '../../lib/caching-manager.js'
import type { Backend } from '../../lib/backends/backend.js'
import { localRedis } from '../../lib/backends/local-redis.js'
import { memory } from '../../lib/backends/memory.js'
import { nothing } from '../../lib/backends/nothing.js'
import { redis, redisBus } from '../../lib/backends/redis.js'
import { countingLoader, eventually, gate, silentLogger } from '../helpers/doubles.js'
import { recordedBackend } from '../helpers/recorded-backend.js'
import { recordingProxy } from '../helpers/recording-proxy.js'
import { startRedis } from '../helpers/servers.js'

const regionsOf = () => ({ objects: { tiers: [memory()] as [Backend], ttl: 60_000 } })

function managerOf (t: Pick<Test, 'teardown'>, options: Partial<CachingManagerOptions> = {}): CachingManager {
  const manager = new CachingManager({ regions: regionsOf(), ...options })
  t.teardown(() => manager.close())
  return manager
}

function usersOf (before?: (ids: readonly number[]) => unknown) {
  const contexts: unknown[] = []
  const loader = countingLoader([{ id: 1, name: 'alice' }], before)
  const User = cachedObject({
    name: 'User',
    region: 'objects',
    methods: { getById: loadMany({ load: (context, ids: readonly number[]) => { contexts.push(context); return loader.load(context, ids) }, idOf: loader.idOf }) }
  })
  return { User, contexts, ...loader }
}

/** A backend of three methods over a memory, and what it was asked to close. */
function plainBackend (name: string, more: Partial<Backend> = {}): Backend {
  const inner = memory()
  return { name, getMany: keys => inner.getMany(keys), setMany: entries => inner.setMany(entries), deleteMany: keys => inner.deleteMany(keys), ...more }
}

t.test('every option that can\'t work is an error that names its path', async t => {
  const tiers = [memory()]
  const cases: [options: unknown, message: RegExp][] = [
    [undefined, /^options must be an object, got undefined$/],
    [[], /^options must be an object, got an array of 0$/],
    [{ region: {} }, /^options\.region must be absent: the options are regions, namespace, context, lock, bus, lineLease, logger, now, got an object$/],
    [{ regions: { objects: { tiers, ttl: 1000 } }, lineLease: 'soon' }, /^lineLease must be /],
    [{ regions: { objects: { tiers, ttl: 1000 } }, lineLease: 5 }, /^lineLease must be /],
    [{}, /^regions must be an object of at least one region, got undefined$/],
    [{ regions: {} }, /^regions must be an object of at least one region, got an empty object$/],
    [{ regions: [] }, /^regions must be/],
    [{ regions: null }, /^regions must be/],
    [{ regions: { 'a:b': { tiers, ttl: 1 } } }, /^regions\['a:b'\] must be a name of 1 to 64 letters, digits and \. \$ @ \/ - _ \(no colon, no blank\), got 'a:b'$/],
    [{ regions: { '': { tiers, ttl: 1 } } }, /^regions\[''\] must be/],
    [{ regions: { objects: 5 } }, /^regions\.objects must be an object, got 5$/],
    [{ regions: { objects: { tiers, ttl: 'soon' } } }, /^regions\.objects\.ttl must be a duration such as 5000 or '10m', at least 1 ms and at most a year, got 'soon'$/],
    [{ regions: { objects: { ttl: 1 } } }, /^regions\.objects\.tiers must be an array of at least one backend/],
    [{ namespace: 'a b', regions: regionsOf() }, /^namespace must be a name/],
    [{ context: 5, regions: regionsOf() }, /^context must be an object, or a function that opens one, got 5$/],
    [{ context: null, regions: regionsOf() }, /^context must be/],
    [{ lock: {}, regions: regionsOf() }, /^lock must be a lock with acquire, such as redlock\(\[client\]\), got an object$/],
    [{ lock: null, regions: regionsOf() }, /^lock must be/],
    [{ bus: { close () {} }, regions: regionsOf() }, /^bus must be a bus such as redisBus\(client\), got an object$/],
    [{ now: 5, regions: regionsOf() }, /^now must be a function that returns milliseconds, got 5$/],
    [{ logger: { info () {} }, regions: regionsOf() }, /^logger must be an object with debug, info, warn and error, got an object$/],
    [{ logger: null, regions: regionsOf() }, /^logger must be/]
  ]
  for (const [options, message] of cases) t.throws(() => new CachingManager(options as never), { code: 'FST_CACHING_API_INVALID_OPTIONS', statusCode: 500, message }, String(message))
})

t.test('regions are found by their names', async t => {
  const manager = managerOf(t)
  t.equal(manager.region('objects').name, 'objects')
  t.equal(manager.regions.get('objects'), manager.region('objects'))
  for (const name of ['elsewhere', '__proto__', undefined]) {
    t.throws(() => manager.region(name as string), { code: 'FST_CACHING_API_UNKNOWN_REGION', message: `There is no region '${name}'; there are: objects` })
  }
})

t.test('an api works outside a request: in a job, a script, a test', async t => {
  const { User } = usersOf()
  const manager = managerOf(t)
  const api = manager.createApi()
  t.type(api, CachingApi)
  t.not(manager.createApi(), api)
  t.strictSame(await api.get(User, 'getById', [1]), { id: 1, name: 'alice' })
})

t.test('an object of a region that there isn\'t, or that cachedObject didn\'t make, is refused where it is used', async t => {
  const api = managerOf(t).createApi()
  const Elsewhere = cachedObject({ name: 'User', region: 'elsewhere', methods: { find: loadOne(() => null) } })
  await t.rejects(api.get(Elsewhere, 'find', []), { code: 'FST_CACHING_API_UNKNOWN_REGION', message: "There is no region 'elsewhere'; there are: objects" })
  for (const object of [undefined, null, 'User', {}, { name: 'User', region: 'objects', methods: {} }]) {
    await t.rejects(api.get(object as never, 'find' as never, [] as never), { code: 'FST_CACHING_API_INVALID_DEFINITION', message: /^a cached object must be made by cachedObject\(…\), got / })
  }
  await t.rejects(api.get(undefined as never, undefined as never, [] as never), { code: 'FST_CACHING_API_INVALID_DEFINITION' })
})

t.test('a second object of the same name and region is refused; of another region it isn\'t', async t => {
  const define = (region: string) => cachedObject({ name: 'User', region, methods: { find: loadOne(() => ({ region })) } })
  const manager = managerOf(t, { regions: { ...regionsOf(), others: { tiers: [memory()], ttl: 1000 } } })
  const [first, second] = [define('objects'), define('objects')]
  await manager.createApi().get(first, 'find', [])
  await t.rejects(manager.createApi().get(second, 'find', []), { code: 'FST_CACHING_API_INVALID_DEFINITION', message: "there are two cached objects named 'User' in region 'objects': they would read each other's values" })
  t.strictSame(await manager.createApi().get(first, 'find', []), { region: 'objects' })
  t.strictSame(await manager.createApi().get(define('others'), 'find', []), { region: 'others' })
  t.strictSame(await managerOf(t).createApi().get(second, 'find', []), { region: 'objects' }, 'nor is it by another manager')
})

t.test('the context', async t => {
  t.test('the context is opened once, by the first load, and never on a hit', async t => {
    let opened = 0
    const { User, contexts } = usersOf()
    const context = { db: 'open' }
    const manager = managerOf(t, { context: (async () => { opened++; return context }) as never })
    await manager.createApi().set(User, 'getById', [7], { id: 7, name: 'seven' })
    await manager.createApi().get(User, 'getById', [7])
    await manager.createApi().region('objects').get('nothing')
    t.equal(opened, 0)
    await Promise.all([1, 2, 3].map(id => manager.createApi().get(User, 'getById', [id])))
    await manager.createApi().get(User, 'getById', [4])
    t.equal(opened, 1)
    t.strictSame(contexts, [context, context])
  })

  t.test('the context is opened once, though several loads want it while it opens', async t => {
    let opened = 0
    const door = gate()
    const { User } = usersOf()
    const Other = cachedObject({ name: 'Other', region: 'objects', methods: { find: loadOne(context => ({ context })) } })
    const manager = managerOf(t, { context: (async () => { opened++; await door.opened; return { db: 'open' } }) as never })
    const api = manager.createApi()
    const reads = [api.get(User, 'getById', [1]), api.get(Other, 'find', [])]
    door.open()
    await Promise.all(reads)
    t.equal(opened, 1)
  })

  t.test('a context that can not be opened fails the load, and the next load tries again', async t => {
    const error = new Error('no database')
    for (const fail of [() => { throw error }, async () => { throw error }]) {
      let tries = 0
      const { User, contexts } = usersOf()
      const api = managerOf(t, { context: (() => ++tries === 1 ? fail() : { db: 'open' }) as never }).createApi()
      t.equal(await api.get(User, 'getById', [1]).catch(reason => reason), error)
      t.strictSame(await api.get(User, 'getById', [1]), { id: 1, name: 'alice' })
      t.equal(tries, 2)
      t.strictSame(contexts, [{ db: 'open' }])
    }
  })

  t.test('the context is an object, or nothing at all', async t => {
    const context = { db: 'open' }
    const given = usersOf()
    await managerOf(t, { context: context as never }).createApi().get(given.User, 'getById', [1])
    t.equal(given.contexts[0], context)
    const none = usersOf()
    await managerOf(t).createApi().get(none.User, 'getById', [1])
    t.strictSame(none.contexts, [{}])
  })
})

t.test('two namespaces on one backend don\'t see each other\'s values', async t => {
  const shared = plainBackend('shared')
  const regions = { objects: { tiers: [shared] as [Backend], ttl: 60_000 } }
  await managerOf(t, { regions, namespace: 'one' }).region('objects').set('k', 'one')
  t.equal(await managerOf(t, { regions, namespace: 'two' }).region('objects').get('k'), undefined)
  t.equal(await managerOf(t, { regions, namespace: 'one' }).region('objects').get('k'), 'one')
})

t.test('what a region does without is said once, at boot', async t => {
  const logger = silentLogger()
  const lock = { acquire: async () => undefined }
  managerOf(t, {
    logger,
    lock,
    regions: { local: { tiers: [memory()], ttl: 1000 }, plain: { tiers: [memory(), plainBackend('files')], ttl: 1000 }, none: { tiers: [nothing()], ttl: 1000 } }
  })
  t.strictSame(logger.lines.info.map(line => line.message), [
    'region local: no shared tier: the lock is not used',
    'region plain: files has no compare-and-set: a value that is invalidated while it is loaded may be written back there, and invalidating a tag makes every value with tags be loaded anew',
    'region plain: nothing carries invalidations to other processes (a Redis tier would, or bus: redisBus(client)): their memory keeps values for their ttl',
    "region plain: nothing wakes up those who wait for another process's load (a Redis tier would, or bus: redisBus(client)): they look for its value now and then",
    'region none: no shared tier: the lock is not used'
  ])
})

t.test('without a logger, nothing is said and nothing fails', async t => {
  const lock = { acquire: async () => undefined, prepare: async () => { throw new Error('no server') } }
  const broken = plainBackend('broken', { close: async () => { throw new Error('stuck') } })
  const manager = new CachingManager({ lock, regions: { objects: { tiers: [broken], ttl: 1000 } } })
  await manager.ready()
  await manager.close()
})

t.test('ready', async t => {
  t.test('ready resolves at once where nothing is to be waited for', async t => {
    t.equal(await managerOf(t).ready(), undefined)
  })

  t.test('ready waits for a lock that prepares itself', async t => {
    const door = gate()
    let prepared = false
    const lock = { acquire: async () => undefined, prepare: async () => { await door.opened; prepared = true } }
    const ready = managerOf(t, { lock, regions: { objects: { tiers: [nothing()], ttl: 1000, tierTimeout: '20s' } } }).ready()
    door.open()
    await ready
    t.ok(prepared)
  })

  t.test('ready never rejects: a lock that can not prepare itself is a line in the log', async t => {
    const logger = silentLogger()
    for (const prepare of [async () => { throw new Error('no server') }, () => { throw new Error('at once') }, () => undefined]) {
      await managerOf(t, { lock: { acquire: async () => undefined, prepare: prepare as never }, logger }).ready()
    }
    t.match(logger.lines.debug, ['no server', 'at once'].map(message => ({ details: { err: { message } }, message: 'the lock could not be prepared' })))
    t.equal(logger.lines.debug.length, 2)
  })

  t.test('ready waits no longer than tierTimeout', async t => {
    const lock = { acquire: async () => undefined, prepare: async () => await new Promise<never>(() => {}) }
    await managerOf(t, { lock, regions: { objects: { tiers: [nothing()], ttl: 1000, tierTimeout: 1 } } }).ready()
  })
})

t.test('a backend that several managers use is closed with the last of them', async t => {
  let closed = 0
  const kept = memory()
  const shared = plainBackend('files', { getMany: keys => kept.getMany(keys), setMany: entries => kept.setMany(entries), close: async () => { closed++ } })
  const managers = ['a', 'b'].map(namespace => managerOf(t, { namespace, regions: { objects: { tiers: [memory(), shared], ttl: '1h' } } }))
  for (const one of managers) await one.region('objects').set('k', 1)
  await managers[0]!.close()
  t.equal(closed, 0)
  t.equal(await managers[1]!.region('objects').get('k'), 1)
  await managers[1]!.close()
  t.equal(closed, 1)
})

t.test('the log warns where a second manager uses a memory, which knows nothing of what the first invalidates', async t => {
  const shared = memory()
  const warnings: string[] = []
  const logger = { ...silentLogger(), warn: (_fields: object, message: string) => { warnings.push(message) } }
  const open = () => managerOf(t, { logger, regions: { objects: { tiers: [nothing(), shared], ttl: '1h' }, others: { tiers: [shared], ttl: '1h' } } })
  const first = open()
  t.strictSame(warnings, [], 'its own regions may share it')
  open()
  t.strictSame(warnings, ['objects', 'others'].map(region => `region ${region}: another manager uses the same memory(): neither knows what the other invalidates. Give each its own`))
  await first.close()
})

t.test('a memory whose manager is closed may be another one\'s: then it is empty', async t => {
  const shared = memory()
  const warnings: string[] = []
  const logger = { ...silentLogger(), warn: (_fields: object, message: string) => { warnings.push(message) } }
  const open = () => managerOf(t, { logger, regions: { objects: { tiers: [shared], ttl: '1h' } } })
  const first = open()
  await first.region('objects').set('k', 'first')
  await first.close()
  const second = open()
  t.equal(await second.region('objects').get('k'), undefined)
  await second.region('objects').set('k', 'second')
  t.equal(await second.region('objects').get('k'), 'second')
  t.strictSame(warnings, [])
})

t.test('a manager that is closed neither finds nor keeps anything in a memory that is another one\'s now', async t => {
  const door = gate()
  const { User, calls } = usersOf(() => door.opened)
  const regions = { objects: { tiers: [memory()] as const, ttl: '1h' } }
  const first = new CachingManager({ regions })
  const api = first.createApi()
  const reading = api.get(User, 'getById', [1])
  await new Promise(setImmediate)
  mock.timers.enable({ apis: ['setTimeout'] })
  t.teardown(() => mock.timers.reset())
  const closing = first.close()
  mock.timers.tick(10_000)
  await closing
  const second = managerOf(t, { regions })
  door.open()
  t.strictSame(await reading, { id: 1, name: 'alice' })
  await second.createApi().set(User, 'getById', [2], { id: 2, name: 'second' })
  await second.createApi().get(User, 'getById', [1])
  t.strictSame(calls, [[1], [1]], 'what was loaded before may be older than what the second has invalidated')
  await t.rejects(api.get(User, 'getById', [2]), { code: 'FST_CACHING_API_CLOSED' })
})

t.test('a manager that is closed listens no longer, though others go on to use its backend; and a later one may use it again', async t => {
  const server = await startRedis(t)
  const client = new Redis(server.port)
  t.teardown(() => client.disconnect())
  const channels = async () => (await client.pubsub('CHANNELS') as string[]).length
  for (const [backend, bus] of [[redis(client), undefined], [redis(client), redisBus(client)]] as const) {
    const logger = silentLogger()
    const open = async () => {
      const manager = managerOf(t, { logger, ...bus !== undefined && { bus }, regions: { objects: { tiers: [memory(), backend], ttl: '1h', tierTimeout: '20s' } } })
      await manager.ready()
      return manager
    }
    const stays = await open()
    const before = await channels()
    await (await open()).close()
    await eventually(t, async () => await channels() === before, 'its channels are gone')
    await stays.close()
    await eventually(t, async () => await channels() === 0, 'all are gone')

    const later = await open()
    let loads = 0
    for (let i = 0; i < 3; i++) await later.region('objects').getOrCreate('k', () => ++loads)
    const api = later.createApi()
    await api.region('objects').get('k')
    t.match(api.stats, { tiers: { memory: 1 } }, 'memory is believed')
    await later.region('objects').delete('k')
    await later.close()
    t.strictSame(logger.lines.warn, [])
  }
})

t.test('a bus carries the invalidations of regions of memory alone; without one, each process has its own', async t => {
  const server = await startRedis(t)
  const [ours, theirs] = await Promise.all([true, false].map(async () => {
    const client = new Redis(server.port)
    t.teardown(() => client.disconnect())
    return { lonely: managerOf(t, { regions: regionsOf() }), joined: managerOf(t, { bus: redisBus(client), regions: regionsOf() }) }
  }))
  for (const kind of ['joined', 'lonely'] as const) {
    const [mine, yours] = [ours![kind], theirs![kind]]
    await Promise.all([mine.ready(), yours.ready()])
    const region = yours.region('objects')
    const changes: [string, () => Promise<void>][] = [
      ['set', () => mine.region('objects').set('k', 'theirs')],
      ['delete', () => mine.region('objects').delete('k')],
      ['invalidateTags', () => mine.region('objects').invalidateTags('t')],
      ['invalidate', () => mine.region('objects').invalidate()]
    ]
    for (const [name, change] of changes) {
      const value = kind === 'joined' ? name : 'set'
      t.equal(await region.getOrCreate('k', () => name, { tags: ['t'] }), value, name)
      t.equal(await region.get('k'), value)
      await change()
      t.equal(await region.get('k'), kind === 'joined' ? undefined : value, name)
    }
  }
})

t.test('close', async t => {
  t.test('close waits for loads and writes that are under way, then refuses new ones', async t => {
    const [loadDoor, writeDoor] = [gate(), gate()]
    const events: string[] = []
    const { User } = usersOf(async () => { await loadDoor.opened; events.push('loaded') })
    const inner = memory()
    const slow = plainBackend('slow', {
      setMany: async entries => { await writeDoor.opened; await inner.setMany(entries); events.push('written') },
      close: async () => { events.push('closed') }
    })
    const manager = managerOf(t, { regions: { objects: { tiers: [slow], ttl: 1000, tierTimeout: '20s' } } })
    const reading = manager.createApi().get(User, 'getById', [1])
    await new Promise(setImmediate)
    const closing = manager.close()
    t.equal(manager.close(), closing, 'once')
    writeDoor.open()
    loadDoor.open()
    t.strictSame(await reading, { id: 1, name: 'alice' })
    await closing
    t.equal(events.at(-1), 'closed')
    t.ok(events.indexOf('loaded') < events.lastIndexOf('written'))

    const api = manager.createApi()
    const closed = { code: 'FST_CACHING_API_CLOSED', statusCode: 503, message: 'Region objects was used after close()' }
    await t.rejects(api.get(User, 'getById', [1]), closed)
    await t.rejects(api.refresh(User, 'getById', [1]), closed)
    await t.rejects(api.set(User, 'getById', [1], null), closed)
    await t.rejects(api.invalidate(User, 'getById', [1]), closed)
    const region = manager.region('objects')
    await t.rejects(region.get('k'), closed)
    await t.rejects(region.getOrCreate('k', () => 1), closed)
    await t.rejects(region.set('k', 1), closed)
    await t.rejects(region.delete('k'), closed)
    await t.rejects(region.invalidate(), closed)
    await t.rejects(region.invalidateTags('x'), closed)
  })

  t.test('close closes each backend and the bus once, whatever becomes of the others', async t => {
    const logger = silentLogger()
    const closed: string[] = []
    const shared = plainBackend('shared', { close: async () => { closed.push('shared') } })
    const broken = plainBackend('broken', { close: () => { throw new Error('stuck') } })
    const without = plainBackend('without')
    const bus = { publish: async () => {}, listen: async () => () => {}, reconnect: () => {}, catchUp: async () => {}, close: async () => { closed.push('bus') } }
    const manager = new CachingManager({
      logger,
      bus,
      regions: { a: { tiers: [broken, shared], ttl: 1000 }, b: { tiers: [shared, without], ttl: 1000 } }
    })
    await manager.close()
    await manager.close()
    t.strictSame(closed.toSorted(), ['bus', 'shared'])
    t.match(logger.lines.warn, [{ details: { err: { message: 'stuck' } }, message: 'a backend could not be closed' }])
  })

  t.test('close leaves open what it was given: a Redis client goes on working, and the connection that listened is gone', async t => {
    const server = await startRedis(t)
    const client = new Redis(server.port)
    t.teardown(() => client.disconnect())
    const connections = async () => (await client.client('LIST') as string).trim().split('\n').length
    const before = await connections()
    for (const own of [{ bus: redisBus(client) }, {}]) {
      const manager = new CachingManager({ ...own, regions: { objects: { tiers: [memory(), redis(client)], ttl: 1000, tierTimeout: '20s' } } })
      await manager.ready()
      t.equal(await connections(), before + 1, 'it listens on a connection of its own')
      await manager.region('objects').set('k', 1)
      await manager.close()
      await eventually(t, async () => await connections() === before, 'which is gone')
      t.equal(await client.ping(), 'PONG')
    }
  })

  t.test('close does not wait for ever', async t => {
    const door = gate()
    const logger = silentLogger()
    const { User } = usersOf(() => door.opened)
    const manager = new CachingManager({ regions: regionsOf(), logger })
    const reading = manager.createApi().get(User, 'getById', [1])
    await new Promise(setImmediate)
    mock.timers.enable({ apis: ['setTimeout'] })
    t.teardown(() => mock.timers.reset())
    const closing = manager.close()
    mock.timers.tick(10_000)
    await closing
    t.match(logger.lines.warn, [{ message: 'closing while loads or writes are still under way' }])
    door.open()
    t.strictSame(await reading, { id: 1, name: 'alice' }, 'whoever waits still gets his value')
  })
})

t.test('what the backends of cache objects opened is closed with the last manager whose requests used them', async t => {
  const { port } = await startRedis(t)
  const proxy = await recordingProxy(t, port)
  const mine = recordedBackend('mine')
  let closed = 0
  const backend = Object.assign(mine.backend, { close: async () => { closed++ } })
  const Local = cacheObject({ name: 'Local', backend: localRedis({ port: proxy.port }), timeout: '20s', properties: { a: property<number>(), b: property<number>({ backend }) } })
  const [one, two, other] = [managerOf(t), managerOf(t), managerOf(t)]
  one.createApi().object(Local, 1)
  one.createApi().object(Local, 2)
  await two.createApi().object(Local, 1).getAll()
  await other.close()
  await one.close()
  t.equal(proxy.connections, 1)
  await two.close()
  await eventually(t, () => proxy.connections === 0, 'the connection is gone')
  t.equal(closed, 0, 'what was handed in stays open')
  t.throws(() => one.createApi().object(Local, 1), { code: 'FST_CACHING_API_CLOSED', message: 'The manager was used after close()' })
})

t.test('a backend that is a tier of one manager and keeps the cache objects of another is closed with the last of both', async t => {
  const { port } = await startRedis(t)
  for (const first of ['the tier', 'the objects']) {
    const proxy = await recordingProxy(t, port)
    const backend = localRedis({ port: proxy.port })
    const Local = cacheObject({ name: 'Local', backend, timeout: '20s', properties: { a: property<number>() } })
    const tiered = managerOf(t, { regions: { objects: { tiers: [backend], ttl: 60_000, tierTimeout: '20s' } } })
    const objects = managerOf(t)
    await tiered.region('objects').set('k', 1)
    await objects.createApi().object(Local, 1).getAll()
    tiered.createApi().object(Local, 1) // it counts once
    const [one, other] = first === 'the tier' ? [tiered, objects] : [objects, tiered]
    await one.close()
    t.notOk(proxy.commands.includes('quit'), `${first} first`)
    t.equal(proxy.connections, 1)
    await other.close()
    await eventually(t, () => proxy.connections === 0, 'the connection is gone')
  }
})

t.test('idle resolves when no load and no write is under way', async t => {
  const door = gate()
  const { User, calls } = usersOf(() => door.opened)
  const manager = managerOf(t)
  await manager.idle()
  void manager.createApi().get(User, 'getById', [1])
  let idle = false
  const waiting = manager.idle().then(() => { idle = true })
  await new Promise(setImmediate)
  t.equal(calls.length, 1)
  t.notOk(idle)
  door.open()
  await waiting
  t.ok(idle)
})

t.test('what the objects of requests are given', async t => {
  function requestOf (manager: CachingManager, before: () => unknown = () => {}) {
    const { backend, calls } = recordedBackend('recorded', operation => operation === 'setMany' ? before() : undefined)
    const UserCache = cacheObject({ name: 'UserCache', backend, timeout: '20s', properties: { username: property<string>() } })
    const response = Object.assign(new EventEmitter(), { destroyed: false })
    return { api: manager.createApi().savesObjects(silentLogger(), response), UserCache, response, calls }
  }

  t.test('what the objects of requests are given is saved before idle resolves, if its time has come', async t => {
    const manager = managerOf(t)
    const doors = [gate(), gate()]
    let saves = 0
    const { api, UserCache, response } = requestOf(manager, () => doors[saves++]!.opened)
    api.object(UserCache, 1).username = 'alice'
    await manager.idle()
    response.emit('close')
    let idle = false
    const waiting = manager.idle().then(() => { idle = true })
    await new Promise(setImmediate)
    t.notOk(idle)
    api.object(UserCache, 2).username = 'bob'
    doors[0]!.open()
    await eventually(t, () => saves === 2, 'the other one follows')
    t.notOk(idle)
    doors[1]!.open()
    await waiting
    t.strictSame([await new UserCache(1).username, await new UserCache(2).username], ['alice', 'bob'])
  })

  t.test('what the objects of requests are given is saved when the manager closes, though the response isn\'t over', async t => {
    const manager = managerOf(t)
    const { api, UserCache } = requestOf(manager)
    api.object(UserCache, 1).username = 'alice'
    await manager.close()
    t.equal(await new UserCache(1).username, 'alice')
  })

  t.test('what the objects of requests are given is not waited for for ever', async t => {
    const logger = silentLogger()
    const manager = new CachingManager({ regions: regionsOf(), logger })
    const { api, UserCache, calls } = requestOf(manager, () => new Promise(() => {}))
    api.object(UserCache, 1).username = 'alice'
    mock.timers.enable({ apis: ['setTimeout'] })
    t.teardown(() => mock.timers.reset())
    const closing = manager.close()
    await new Promise(setImmediate)
    t.strictSame(calls, [['setMany', 'UserCache.1.username']])
    mock.timers.tick(10_000)
    await closing
    t.match(logger.lines.warn, [{ message: 'closing while loads or writes are still under way' }])
  })
})
