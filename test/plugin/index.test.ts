import { once } from 'node:events'
import { connect } from 'node:http2'
import { PassThrough, Writable } from 'node:stream'
import Fastify, { type FastifyInstance, type FastifyReply, type FastifyRequest } from 'fastify'
import { Redis } from 'ioredis'
import t, { type Test } from 'tap'
import cachingApi, { cachedObject, cacheObject, CachingApi, CachingManager, loadMany, memory, property, redis, type Backend, type CachingApiOptions } from '../../plugin/index.js'
import { countingLoader, eventually, gate, silentLogger } from '../helpers/doubles.js'
import { recordedBackend } from '../helpers/recorded-backend.js'
import { recordingProxy } from '../helpers/recording-proxy.js'
import { startRedis } from '../helpers/servers.js'

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
  const refused = { code: 'FST_CACHING_API_INVALID_OPTIONS', message: 'fastify.register(cachingApi) must be called once for an app, or for each of several scopes beside each other: give all regions in one call, got a second call' }
  const twice = appOf(t)
  twice.register(cachingApi, optionsOf())
  twice.register(cachingApi, optionsOf())
  await t.rejects(async () => await twice.ready(), refused)
  const below = appOf(t)
  below.register(cachingApi, optionsOf())
  below.register(async child => { await child.register(cachingApi, optionsOf()) })
  await t.rejects(async () => await below.ready(), refused)
})

t.test('registered in a scope and then in one above it, it fails at boot as it does the other way round', async t => {
  const refused = { code: 'FST_CACHING_API_INVALID_OPTIONS', message: /^fastify\.register\(cachingApi\) must be called once for an app/ }
  const app = appOf(t)
  app.register(async child => {
    child.register(async grandchild => { await grandchild.register(cachingApi, optionsOf()) })
    child.register(async sibling => {
      await sibling.register(cachingApi, optionsOf())
      t.type(sibling.cachingManager, CachingManager, 'beside it, it may be')
    })
  })
  app.register(cachingApi, optionsOf())
  await t.rejects(async () => await app.ready(), refused)

  const mended = appOf(t)
  mended.register(async child => {
    child.register(cachingApi, { regions: {} } as never).after(error => { t.match(error, { code: 'FST_CACHING_API_INVALID_OPTIONS' }) })
  })
  mended.register(cachingApi, optionsOf())
  await mended.ready()
  t.type(mended.cachingManager, CachingManager, 'what has failed below is in nobody\'s way')
})

t.test('a registration that has failed is in nobody\'s way', async t => {
  const app = appOf(t)
  app.register(cachingApi, { regions: {} } as never).after(error => { t.match(error, { code: 'FST_CACHING_API_INVALID_OPTIONS' }) })
  app.register(cachingApi, optionsOf())
  await app.ready()
  t.type(app.cachingManager, CachingManager)
})

t.test('a name that somebody else has is Fastify\'s own error, and nothing is left open', async t => {
  for (const decorate of [(app: FastifyInstance) => app.decorate('cachingManager', 1 as never), (app: FastifyInstance) => app.decorateRequest('cachingApi', 1 as never)]) {
    const app = appOf(t)
    decorate(app)
    const backend = memory()
    await backend.setMany([{ key: 'k', value: Buffer.from('v'), ttl: 60_000 }])
    app.register(cachingApi, optionsOf({ regions: { objects: { tiers: [backend], ttl: '1m' } } }))
    await t.rejects(async () => await app.ready(), { code: 'FST_ERR_DEC_ALREADY_PRESENT' })
    t.strictSame(await backend.getMany(['k']), [undefined], 'it is closed')
  }
  const app = appOf(t)
  app.decorate('cachingManager', 'of somebody else' as never)
  app.register(async child => {
    await child.register(cachingApi, optionsOf())
    t.type(child.cachingManager, CachingManager, 'a scope below may have its own')
  })
  await app.ready()
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

  t.test('serverTiming says in a header where the values came from: local reads, each tier, and the load', async t => {
    const app = await timedApp(t)
    const cold = await app.inject('/users')
    t.match(cold.headers['server-timing'], /^cache-local;desc="1", cache-files;desc="0";dur=\d+\.\d\d, cache-load;desc="2 in 1";dur=\d+\.\d\d$/)
    await app.cachingManager.idle()
    const warm = await app.inject('/users')
    t.match(warm.headers['server-timing'], /^cache-local;desc="1", cache-memory;desc="2";dur=0\.00$/)
  })

  t.test('serverTiming is appended to what others have put into the header', async t => {
    const app = await timedApp(t)
    app.get('/others', async (request, reply) => {
      reply.header('server-timing', 'db;dur=5')
      request.cachingApi.stash('a', 1)
      return {}
    })
    t.equal((await app.inject('/others')).headers['server-timing'], 'db;dur=5, cache-local;desc="0"')
  })

  t.test('serverTiming leaves what others have put there as it is, also where a response is sent twice', async t => {
    const metrics = 'cdn-cache;desc=HIT, cache-status;desc="a, cache-b"'
    for (const [url, header] of [['/one', metrics], ['/several', ['cdn-cache;desc=HIT', 'cache-status;desc="a, cache-b"']], ['/none', undefined]] as const) {
      const app = await timedApp(t)
      let isSent = false
      app.get(url, {
        onSend: async (_request, reply) => {
          if (isSent) return
          isSent = true
          reply.header('server-timing', `${String(reply.getHeader('server-timing'))}, late`)
          throw new Error('once')
        }
      }, async (request, reply) => {
        if (header !== undefined) void reply.header('server-timing', header)
        request.cachingApi.stash('a', 1)
        return {}
      })
      const { statusCode, headers } = await app.inject(url)
      t.equal(statusCode, 500)
      t.equal(headers['server-timing'], `${header === undefined ? '' : `${metrics}, `}late, cache-local;desc="0"`)
    }
  })

  t.test('serverTiming is absent where the cache was not used, and unless it is asked for', async t => {
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

  t.test('serverTiming is there for responses that are errors as well', async t => {
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

t.test('a request that outlives the app gets rejections, and no error at once that nobody would catch', async t => {
  const { User } = usersOf()
  const [handling, closed] = [gate(), gate()]
  const app = appOf(t)
  await app.register(cachingApi, optionsOf())
  app.get('/', async request => {
    handling.open()
    await closed.opened
    const { cachingApi } = request
    return await cachingApi.get(User, 'getById', [1])
  })
  const answered = app.inject('/')
  await handling.opened
  await app.close()
  closed.open()
  t.match((await answered).json(), { code: 'FST_CACHING_API_CLOSED', statusCode: 503, message: 'Region objects was used after close()' })
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

t.test('what is assigned to the cache objects of a request', async t => {
  function usersIn (backend: Backend) {
    return cacheObject({ name: 'UserCache', backend, timeout: '20s', properties: { username: property<string>(), visits: property<number>() } })
  }

  t.test('what is assigned to the cache objects of a request is saved before the response is sent', async t => {
    const door = gate()
    const { backend, calls } = recordedBackend('slow', operation => operation === 'setMany' ? door.opened : undefined)
    const UserCache = usersIn(backend)
    const app = appOf(t)
    await app.register(cachingApi, optionsOf({ serverTiming: true }))
    app.get('/:id', async request => {
      const { id } = request.params as { id: string }
      request.cachingApi.object(UserCache, id).username = 'alice'
      request.cachingApi.object(UserCache, id).visits = 1
      return { ok: true }
    })
    let answered = false
    const answering = app.inject('/10').then(response => { answered = true; return response })
    while (calls.length === 0) await new Promise(setImmediate)
    await new Promise(setImmediate)
    t.notOk(answered)
    door.open()
    t.strictSame((await answering).json(), { ok: true })
    t.strictSame(calls, [['setMany', 'UserCache.10.username', 'UserCache.10.visits']])
    t.equal(await new UserCache(10).username, 'alice')
  })

  t.test('what is assigned to the cache objects of a request is saved with a response that is an error, too', async t => {
    const UserCache = usersIn(memory())
    const app = appOf(t)
    await app.register(cachingApi, optionsOf())
    app.get('/', async request => {
      request.cachingApi.object(UserCache, 10).username = 'alice'
      throw new Error('no')
    })
    t.equal((await app.inject('/')).statusCode, 500)
    t.equal(await new UserCache(10).username, 'alice')
  })

  t.test('what is assigned to the cache objects of a request does not change the response if it can not be saved: that is a line in the log', async t => {
    const { backend } = recordedBackend('away', () => { throw new Error('connection refused') })
    const UserCache = usersIn(backend)
    const route = async (request: FastifyRequest) => {
      request.cachingApi.object(UserCache, 10).username = 'alice'
      return { ok: true }
    }
    const lines: Array<{ msg: string, reqId: string, err: { message: string } }> = []
    const stream = new Writable({ write (line, _encoding, done) { lines.push(JSON.parse(String(line))); done() } })
    const own = appOf(t, { logger: { level: 'warn', stream } })
    await own.register(cachingApi, optionsOf())
    own.get('/', route)
    const response = await own.inject('/')
    t.strictSame([response.statusCode, response.json()], [200, { ok: true }])
    t.match(lines, [{ msg: 'what was assigned to a cache object could not be saved', reqId: /./, err: { message: "UserCache '10': username could not be written to away: connection refused" } }])

    const logger = silentLogger()
    const other = appOf(t)
    await other.register(cachingApi, optionsOf({ logger }))
    other.get('/', route)
    t.equal((await other.inject('/')).statusCode, 200)
    t.match(logger.lines.warn, [{ message: 'what was assigned to a cache object could not be saved' }])
  })

  t.test('what is assigned to the cache objects of a request and saved is not saved again', async t => {
    const { backend, calls } = recordedBackend()
    const UserCache = usersIn(backend)
    const app = appOf(t)
    await app.register(cachingApi, optionsOf())
    app.get('/', async request => {
      const user = request.cachingApi.object(UserCache, 10)
      user.username = 'alice'
      await user.save()
      return {}
    })
    await app.inject('/')
    t.equal(calls.length, 1)
  })

  t.test('what is assigned to the cache objects of a request holds up a second send as well, where a handler sends and does not return what it has sent', async t => {
    const proxy = await recordingProxy(t, (await startRedis(t)).port)
    const client = new Redis(proxy.port)
    t.teardown(() => client.disconnect())
    await client.ping()
    const UserCache = usersIn(redis(client))
    const lines: Array<{ err: { code: string } }> = []
    const stream = new Writable({ write (line, _encoding, done) { lines.push(JSON.parse(String(line))); done() } })
    const app = appOf(t, { logger: { level: 'error', stream } })
    let sends = 0
    app.addHook('onSend', async () => { sends++ })
    await app.register(cachingApi, optionsOf())
    app.get('/:id', async (request, reply) => {
      const { id } = request.params as { id: string }
      request.cachingApi.object(UserCache, id).username = 'alice'
      reply.send({ ok: true })
      await new Promise(setImmediate)
      request.cachingApi.object(UserCache, id).visits = 1
    })
    const url = await app.listen({ port: 0, host: '127.0.0.1' })
    proxy.pause('replies')
    let answered = false
    const answering = fetch(`${url}/10`).finally(() => { answered = true })
    await eventually(t, () => proxy.commands.filter(name => name === 'set').length === 2, 'both saves are under way')
    t.equal(sends, 2)
    t.notOk(answered)
    proxy.resume()
    const response = await answering
    t.strictSame([response.status, await response.json()], [200, { ok: true }])
    t.strictSame(await new UserCache(10).getAll(), { username: 'alice', visits: 1 })
    t.equal((await fetch(`${url}/11`)).status, 200, 'and the app is alive')
    t.ok(lines.every(({ err }) => err.code === 'ERR_HTTP_HEADERS_SENT'), 'Fastify tells of the second send')
  })
})

t.test('what is assigned to the cache objects of a request when its response is under way', async t => {
  const usersIn = (backend: Backend) => cacheObject({ name: 'UserCache', backend, timeout: '20s', properties: { username: property<string>(), visits: property<number>() } })

  /** A stream that assigns, as somebody's own might. */
  function bodyOf (begin: (body: PassThrough) => void) {
    const body = new PassThrough()
    begin(body)
    return body
  }

  t.test('what is assigned to the cache objects of a request by a later onSend hook or by the stream of its body, is saved when the response is over, all in one step', async t => {
    const { backend, calls } = recordedBackend()
    const UserCache = usersIn(backend)
    const app = appOf(t)
    await app.register(cachingApi, optionsOf())
    app.addHook('onSend', async request => { request.cachingApi.object(UserCache, 10).visits = 1 })
    app.get('/', async request => bodyOf(body => {
      body.write('a')
      body.once('resume', () => setImmediate(() => {
        request.cachingApi.object(UserCache, 10).username = 'alice'
        body.end('b')
      }))
    }))
    const url = await app.listen({ port: 0, host: '127.0.0.1' })
    for (const ask of [async () => (await app.inject('/')).body, async () => await (await fetch(url)).text()]) {
      calls.length = 0
      t.equal(await ask(), 'ab')
      await app.cachingManager.idle()
      t.strictSame(calls, [['setMany', 'UserCache.10.visits', 'UserCache.10.username']])
    }
  })

  t.test('what is assigned to the cache objects of a request by a hook of the error that another onSend hook threw, is saved before that error is sent', async t => {
    const { backend, calls } = recordedBackend()
    const UserCache = usersIn(backend)
    const app = appOf(t)
    await app.register(cachingApi, optionsOf())
    let failed = false
    app.addHook('onSend', async () => {
      if (failed) return
      failed = true
      throw new Error('no')
    })
    app.addHook('onError', async request => { request.cachingApi.object(UserCache, 10).visits = 1 })
    app.setErrorHandler(async () => ({ sorry: true }))
    app.addHook('preSerialization', async request => { request.cachingApi.object(UserCache, 10).username = failed ? 'failed' : 'fine' })
    app.get('/', async () => ({ ok: true }))
    t.strictSame((await app.inject('/')).json(), { sorry: true })
    t.strictSame(calls, [
      ['setMany', 'UserCache.10.username'],
      ['setMany', 'UserCache.10.username', 'UserCache.10.visits']
    ])
    t.strictSame(await new UserCache(10).getAll(), { username: 'failed', visits: 1 })
  })

  t.test('what is assigned to the cache objects of a request is saved though the client goes away in the middle of a stream', async t => {
    const UserCache = usersIn(memory())
    const app = appOf(t, { forceCloseConnections: true })
    await app.register(cachingApi, optionsOf())
    app.route({
      method: ['GET', 'POST'],
      url: '/:id',
      handler: async request => bodyOf(body => {
        body.write('a')
        body.once('resume', () => setImmediate(() => { request.cachingApi.object(UserCache, (request.params as { id: string }).id).username = 'alice' }))
      })
    })
    const url = await app.listen({ port: 0, host: '127.0.0.1' })
    // Fastify tells of the end of neither: of the first not in onResponse, of the second not in onRequestAbort either.
    for (const [id, init] of [[10, {}], [11, { method: 'POST', body: '{}', headers: { 'content-type': 'application/json' } }]] as const) {
      const abort = new AbortController()
      const response = await fetch(`${url}/${id}`, { ...init, signal: abort.signal })
      await response.body!.getReader().read()
      abort.abort()
      await eventually(t, async () => await new UserCache(id).username === 'alice', 'it is saved')
    }
  })

  t.test('what is assigned to the cache objects of a request is saved though the handler never answers, since the client is gone', async t => {
    const [assigned, gone, done] = [gate(), gate(), gate()]
    const UserCache = usersIn(memory())
    const app = appOf(t, { forceCloseConnections: true })
    await app.register(cachingApi, optionsOf())
    app.post('/', async (request, reply) => {
      request.cachingApi.object(UserCache, 10).username = 'alice'
      reply.raw.once('close', gone.open)
      assigned.open()
      await gone.opened
      request.cachingApi.object(UserCache, 10).visits = 1
      done.open()
    })
    const url = await app.listen({ port: 0, host: '127.0.0.1' })
    const abort = new AbortController()
    const asking = fetch(url, { method: 'POST', signal: abort.signal }).catch(() => {})
    await assigned.opened
    abort.abort()
    await asking
    await done.opened
    await app.cachingManager.idle()
    t.strictSame(await new UserCache(10).getAll(), { username: 'alice', visits: 1 })
  })

  t.test('what is assigned to the cache objects of a request is saved where Fastify has no moment for it: a hijacked reply, an earlier hook that fails, one that answers', async t => {
    const UserCache = usersIn(memory())
    const app = appOf(t)
    app.addHook('onRequest', async (request, reply) => {
      if (request.url !== '/early') return
      request.cachingApi.object(UserCache, 10).username = 'early'
      await reply.send({ ok: true })
    })
    app.addHook('onSend', async request => { if (request.url === '/fails') throw new Error('no') })
    await app.register(cachingApi, optionsOf())
    app.addHook('onSend', async request => { if (request.url === '/early') request.cachingApi.object(UserCache, 10).visits = 1 })
    app.get('/early', async () => t.fail('the hook has answered'))
    app.get('/hijacked', (request, reply) => {
      request.cachingApi.object(UserCache, 10).username = 'hijacked'
      reply.hijack()
      reply.raw.end('{}')
    })
    app.get('/fails', async request => {
      request.cachingApi.object(UserCache, 10).username = 'fails'
      return {}
    })
    for (const [name, status] of [['early', 200], ['hijacked', 200], ['fails', 500]] as const) {
      t.equal((await app.inject(`/${name}`)).statusCode, status)
      await app.cachingManager.idle()
      t.equal(await new UserCache(10).username, name)
    }
    t.equal(await new UserCache(10).visits, 1)
  })

  t.test('what is assigned to the cache objects of a request by a hook that is older than the plugin, is saved as if it were not', async t => {
    const UserCache = usersIn(memory())
    const app = appOf(t)
    app.addHook('onRequest', async request => { request.cachingApi.object(UserCache, 10).username = 'alice' })
    await app.register(cachingApi, optionsOf())
    app.get('/', (request, reply) => {
      reply.hijack()
      reply.raw.end()
    })
    await app.inject('/')
    await app.cachingManager.idle()
    t.equal(await new UserCache(10).username, 'alice')
  })

  t.test('what is assigned to the cache objects of a request by work that goes on after its response is saved at once in the background; what can not be is a line in the log', async t => {
    for (const http2 of [false, true]) {
      let away = false
      const { backend, calls } = recordedBackend('away', () => { if (away) throw new Error('connection refused') })
      const UserCache = usersIn(backend)
      const logger = silentLogger()
      const app = appOf(t, { http2 })
      await app.register(cachingApi, optionsOf({ logger }))
      const over = gate()
      app.get('/', async (request, reply) => {
        reply.raw.once('close', over.open)
        void over.opened.then(() => new Promise(setImmediate)).then(() => {
          for (const id of [10, 11]) Object.assign(request.cachingApi.object(UserCache, id), { username: 'alice', visits: 1 })
        })
        return { ok: true }
      })
      const url = await app.listen({ port: 0, host: '127.0.0.1' })
      const ask = async () => {
        if (!http2) return await (await fetch(url)).text()
        const session = connect(url)
        const stream = session.request({ ':path': '/' }).resume()
        await once(stream, 'close')
        session.close()
      }
      await ask()
      await eventually(t, () => calls.length === 2, 'each object was saved, in one step')
      t.strictSame(await new UserCache(10).getAll(), { username: 'alice', visits: 1 })
      t.strictSame(logger.lines.warn, [])
      away = true
      await ask()
      await eventually(t, () => logger.lines.warn.length === 2, 'it was logged')
      t.match(logger.lines.warn[0], { message: 'what was assigned to a cache object could not be saved', details: { err: { code: 'FST_CACHING_API_BACKEND_FAILED' } } })
      await app.close()
    }
  })

  t.test('what is assigned to the cache objects of a request is waited for when the app closes right after the response', async t => {
    const [door, saving] = [gate(), gate()]
    const { backend } = recordedBackend('slow', async operation => {
      if (operation !== 'setMany') return
      saving.open()
      await door.opened
    })
    const UserCache = usersIn(backend)
    const app = appOf(t)
    await app.register(cachingApi, optionsOf())
    app.addHook('onSend', async request => { request.cachingApi.object(UserCache, 10).username = 'alice' })
    app.get('/', async () => ({ ok: true }))
    await app.inject('/')
    let closed = false
    const closing = app.close().then(() => { closed = true })
    await saving.opened
    await new Promise(setImmediate)
    t.notOk(closed)
    door.open()
    await closing
    t.equal(await new UserCache(10).username, 'alice')
  })

  t.test('saving cache objects costs requests that have none nothing: neither a promise nor a listener', async t => {
    const UserCache = usersIn(memory())
    const app = appOf(t)
    await app.register(cachingApi, optionsOf())
    const listeners: Record<string, number> = {}
    const count = (reply: FastifyReply) => { listeners[reply.request.url] = reply.raw.listenerCount('close') }
    const sent: string[] = []
    app.addHook('onSend', (request, _reply, _payload, done) => { sent.push(request.url); done() })
    app.get('/plain', (_request, reply) => { void reply.send('x'); t.equal(sent.at(-1), '/plain', 'in the same tick'); count(reply) })
    app.get('/read', (request, reply) => { request.cachingApi.object(UserCache, 1); void reply.send('x'); t.equal(sent.at(-1), '/read', 'in the same tick'); count(reply) })
    app.get('/assign', async (request, reply) => { request.cachingApi.object(UserCache, 1).visits = 1; count(reply); return {} })
    for (const url of ['/plain', '/read', '/assign']) await app.inject(url)
    t.equal(listeners['/read'], listeners['/plain'])
    t.equal(listeners['/assign'], listeners['/plain']! + 1)
  })
})
