import { Writable } from 'node:stream'
import Fastify, { type FastifyInstance, type FastifyRequest } from 'fastify'
import t, { type Test } from 'tap'
import cachingApi, { cachedObject, CachingApi, CachingManager, loadMany, memory, type Backend, type CachingApiOptions } from '../../plugin/index.js'
import { countingLoader, gate, silentLogger } from '../helpers/doubles.js'

const alice = { id: 1, name: 'alice' }
const bob = { id: 2, name: 'bob' }

function usersOf (before?: (ids: readonly number[]) => unknown) {
  const loader = countingLoader([alice, bob], before)
  return { ...loader, User: cachedObject({ name: 'User', region: 'objects', methods: { getById: loadMany({ load: loader.load, idOf: loader.idOf }) } }) }
}

const optionsOf = (more: Partial<CachingApiOptions> = {}): CachingApiOptions => ({ regions: { objects: { tiers: [memory()], ttl: '1m' } }, ...more })

function appOf (t: Pick<Test, 'teardown'>, options: object = {}): FastifyInstance {
  const app = Fastify(options)
  t.teardown(() => app.close())
  return app
}

/** A backend of three methods, as somebody else would write it. */
function filesBackend (): Backend {
  const inner = memory()
  return { name: 'files', getMany: keys => inner.getMany(keys), setMany: entries => inner.setMany(entries), deleteMany: keys => inner.deleteMany(keys) }
}

t.test('it decorates the app with a manager and each request with an api of its own', async t => {
  const { User, calls } = usersOf()
  const app = appOf(t)
  await app.register(cachingApi, optionsOf())
  const apis: CachingApi[] = []
  app.get('/users/:id', async request => {
    apis.push(request.cachingApi)
    t.equal(request.cachingApi, request.cachingApi)
    return await request.cachingApi.get(User, 'getById', [Number((request.params as { id: string }).id)])
  })
  t.type(app.cachingManager, CachingManager)
  t.strictSame((await app.inject('/users/1')).json(), alice)
  t.strictSame((await app.inject('/users/1')).json(), alice)
  t.strictSame((await app.inject('/users/3')).json(), null)
  t.strictSame(calls, [[1], [3]])
  t.type(apis[0], CachingApi)
  t.equal(new Set(apis).size, 3)
})

t.test('routes that were defined before it is registered have it too', async t => {
  const app = appOf(t)
  app.get('/', async request => ({ has: request.cachingApi instanceof CachingApi }))
  await app.register(cachingApi, optionsOf())
  t.strictSame((await app.inject('/')).json(), { has: true })
})

t.test('the api can be used in every hook, from onRequest to onResponse, and is the same in all of them', async t => {
  const app = appOf(t)
  await app.register(cachingApi, optionsOf())
  const hooks = ['onRequest', 'preParsing', 'preValidation', 'preHandler', 'onError', 'preSerialization', 'onSend', 'onResponse'] as const
  let seen: Array<[string, CachingApi]> = []
  const responded = gate()
  for (const hook of hooks) {
    app.addHook(hook as 'onRequest', async (request: FastifyRequest) => {
      seen.push([hook, request.cachingApi])
      if (hook === 'onResponse') responded.open()
    })
  }
  app.post('/', async request => { seen.push(['handler', request.cachingApi]); return { ok: true } })
  app.get('/fails', async () => { throw new Error('no') })

  await app.inject({ method: 'POST', url: '/', payload: { a: 1 } })
  await responded.opened
  t.strictSame(seen.map(([name]) => name), ['onRequest', 'preParsing', 'preValidation', 'preHandler', 'handler', 'preSerialization', 'onSend', 'onResponse'])
  t.equal(new Set(seen.map(([, api]) => api)).size, 1)

  seen = []
  await app.inject('/fails')
  t.ok(seen.some(([name]) => name === 'onError'))
  t.equal(new Set(seen.map(([, api]) => api)).size, 1)
})

t.test('what an early hook has loaded, the handler finds', async t => {
  const { User, calls } = usersOf()
  const app = appOf(t)
  await app.register(cachingApi, optionsOf())
  let early: Promise<unknown> | undefined
  app.addHook('onRequest', async request => { early = request.cachingApi.get(User, 'getById', [1]) })
  app.get('/', async request => ({ same: request.cachingApi.get(User, 'getById', [1]) === early, user: await early }))
  t.strictSame((await app.inject('/')).json(), { same: true, user: alice })
  t.strictSame(calls, [[1]])
})

t.test('a request that doesn\'t use it has none made for it, and one that does has one', async t => {
  const app = appOf(t)
  await app.register(cachingApi, optionsOf({ serverTiming: true }))
  let made = 0
  const { createApi } = app.cachingManager
  app.cachingManager.createApi = function () { made++; return createApi.call(this) }
  const held: unknown[] = []
  const slotOf = (request: FastifyRequest) => {
    const symbol = [...Object.getOwnPropertySymbols(request)].find(symbol => symbol.description === 'fastify-caching-api')!
    return (request as unknown as Record<symbol, unknown>)[symbol]
  }
  app.get('/unused', async request => { held.push(slotOf(request)); return {} })
  app.get('/used', async request => { request.cachingApi.stash('a', 1); held.push(slotOf(request)); return { b: request.cachingApi.stashed('a') } })
  const { headers } = await app.inject('/unused')
  t.equal(made, 0)
  t.notOk('server-timing' in headers)
  t.strictSame((await app.inject('/used')).json(), { b: 1 })
  t.equal(made, 1)
  t.equal(held[0], null)
  t.type(held[1], CachingApi)
})

t.test('registered twice, it fails at boot and says what to do', async t => {
  const refused = { code: 'FST_CACHING_API_INVALID_OPTIONS', message: 'fastify.register(cachingApi) must be called once for an app: give all regions in one call, got a second call' }
  const twice = appOf(t)
  twice.register(cachingApi, optionsOf())
  twice.register(cachingApi, optionsOf())
  await t.rejects(async () => await twice.ready(), refused)
  const below = appOf(t)
  below.register(cachingApi, optionsOf())
  below.register(async child => { await child.register(cachingApi, optionsOf()) })
  await t.rejects(async () => await below.ready(), refused)
})

t.test('encapsulated siblings each have their own', async t => {
  const app = appOf(t)
  const managers: CachingManager[] = []
  for (const name of ['one', 'two']) {
    app.register(async child => {
      await child.register(cachingApi, optionsOf())
      managers.push(child.cachingManager)
      child.get(`/${name}`, async request => await request.cachingApi.region('objects').getOrCreate('k', () => ({ name })))
    })
  }
  app.get('/outside', async request => ({ has: 'cachingApi' in request }))
  await app.ready()
  t.strictSame((await app.inject('/one')).json(), { name: 'one' })
  t.strictSame((await app.inject('/two')).json(), { name: 'two' })
  t.strictSame((await app.inject('/outside')).json(), { has: false })
  t.not(managers[0], managers[1])
  t.notOk(app.hasDecorator('cachingManager'))
})

t.test('serverTiming', async t => {
  async function timedApp (t: Pick<Test, 'teardown'>) {
    const { User } = usersOf()
    const app = appOf(t)
    await app.register(cachingApi, optionsOf({ serverTiming: true, regions: { objects: { tiers: [memory(), filesBackend()], ttl: '1m', tierTimeout: '20s' } } }))
    app.get('/users', async request => {
      await request.cachingApi.getMany(User, 'getById', [1, 2])
      return await request.cachingApi.get(User, 'getById', [2])
    })
    return app
  }

  t.test('says in a header where the values came from: local reads, each tier, and the load', async t => {
    const app = await timedApp(t)
    const cold = await app.inject('/users')
    t.match(cold.headers['server-timing'], /^cache-local;desc="1", cache-files;desc="0";dur=\d+\.\d\d, cache-load;desc="2 in 1";dur=\d+\.\d\d$/)
    await app.cachingManager.idle()
    const warm = await app.inject('/users')
    t.match(warm.headers['server-timing'], /^cache-local;desc="1", cache-memory;desc="2";dur=0\.00$/)
  })

  t.test('is appended to what others have put into the header', async t => {
    const app = await timedApp(t)
    app.get('/others', async (request, reply) => {
      reply.header('server-timing', 'db;dur=5')
      request.cachingApi.stash('a', 1)
      return {}
    })
    t.equal((await app.inject('/others')).headers['server-timing'], 'db;dur=5, cache-local;desc="0"')
  })

  t.test('is absent where the cache was not used, and unless it is asked for', async t => {
    const app = await timedApp(t)
    app.get('/unused', async () => ({}))
    for (const [url, status] of [['/unused', 200], ['/not-found', 404]] as const) {
      const { statusCode, headers } = await app.inject(url)
      t.equal(statusCode, status)
      t.notOk('server-timing' in headers)
    }
    const plain = appOf(t)
    await plain.register(cachingApi, optionsOf())
    plain.get('/', async request => { request.cachingApi.stash('a', 1); return {} })
    t.notOk('server-timing' in (await plain.inject('/')).headers)
  })

  t.test('is there for responses that are errors as well', async t => {
    const app = await timedApp(t)
    app.get('/fails', async request => { request.cachingApi.stash('a', 1); throw new Error('no') })
    const { statusCode, headers } = await app.inject('/fails')
    t.equal(statusCode, 500)
    t.equal(headers['server-timing'], 'cache-local;desc="0"')
  })
})

t.test('a loader\'s error reaches fastify\'s error handler unchanged', async t => {
  const { User } = usersOf(() => { throw Object.assign(new Error('the database is away'), { statusCode: 503, code: 'DB_AWAY' }) })
  const app = appOf(t)
  await app.register(cachingApi, optionsOf())
  app.get('/', async request => await request.cachingApi.get(User, 'getById', [1]))
  const response = await app.inject('/')
  t.equal(response.statusCode, 503)
  t.match(response.json(), { code: 'DB_AWAY', message: 'the database is away' })
})

t.test('closing the app closes the manager: what is under way ends first, later reads are refused', async t => {
  const door = gate()
  const closed: string[] = []
  const { User } = usersOf(() => door.opened)
  const app = Fastify()
  const backend = { ...filesBackend(), close: async () => { closed.push('files') } }
  await app.register(cachingApi, optionsOf({ regions: { objects: { tiers: [backend], ttl: 1000, tierTimeout: '20s' } } }))
  await app.ready()
  const api = app.cachingManager.createApi()
  const reading = api.get(User, 'getById', [1]).then(user => { t.strictSame(closed, []); return user })
  await new Promise(setImmediate)
  const closing = app.close()
  door.open()
  t.strictSame(await reading, alice)
  await closing
  t.strictSame(closed, ['files'])
  await t.rejects(api.get(User, 'getById', [2]), { code: 'FST_CACHING_API_CLOSED' })
})

t.test('it logs to fastify\'s logger, and to another if it is given one', async t => {
  const lines: Array<{ msg: string }> = []
  const stream = new Writable({ write (line, _encoding, done) { lines.push(JSON.parse(String(line))); done() } })
  const regions = () => ({ objects: { tiers: [filesBackend()] as [Backend], ttl: 1000 } })
  const said = /files has no compare-and-set/

  const own = appOf(t, { logger: { level: 'info', stream } })
  await own.register(cachingApi, optionsOf({ regions: regions() }))
  t.ok(lines.some(({ msg }) => said.test(msg)))

  lines.length = 0
  const logger = silentLogger()
  const other = appOf(t, { logger: { level: 'info', stream } })
  await other.register(cachingApi, optionsOf({ regions: regions(), logger }))
  t.notOk(lines.some(({ msg }) => said.test(msg)))
  t.match(logger.lines.info, [{ message: said }])

  lines.length = 0
  const undefinedOne = appOf(t, { logger: { level: 'info', stream } })
  await undefinedOne.register(cachingApi, { ...optionsOf({ regions: regions() }), logger: undefined } as never)
  t.ok(lines.some(({ msg }) => said.test(msg)), 'an undefined one is none')
})

t.test('a client that goes away does not end the load that others wait for', async t => {
  const [door, loading, gone] = [gate(), gate(), gate()]
  const { User, calls } = usersOf(async () => { loading.open(); await door.opened })
  const app = appOf(t, { forceCloseConnections: true })
  await app.register(cachingApi, optionsOf())
  app.get('/', async request => {
    request.raw.socket.once('close', gone.open)
    return await request.cachingApi.get(User, 'getById', [1])
  })
  const url = await app.listen({ port: 0, host: '127.0.0.1' })
  const abort = new AbortController()
  const aborted = fetch(url, { signal: abort.signal }).catch(error => error)
  await loading.opened
  const waiting = app.inject('/')
  abort.abort()
  t.equal((await aborted).name, 'AbortError')
  await gone.opened
  door.open()
  t.strictSame((await waiting).json(), alice)
  t.strictSame(calls, [[1]])
})
