import { AsyncResource } from 'node:async_hooks'
import { randomUUID } from 'node:crypto'
import Fastify from 'fastify'
import { Redis } from 'ioredis'
import t, { type Test } from 'tap'
import { cachedObject, loadOne } from '../../lib/cached-object.js'
import { CachingManager, type CachingManagerOptions } from '../../lib/caching-manager.js'
import { redlock } from '../../lib/locks/redlock.js'
import type { RegionOptions } from '../../lib/region-options.js'
import { memory } from '../../lib/backends/memory.js'
import { nothing } from '../../lib/backends/nothing.js'
import type { LeasingBackend } from '../../lib/backends/backend.js'
import { redis } from '../../lib/backends/redis.js'
import cachingApi from '../../plugin/index.js'
import { eventually, gate } from '../helpers/doubles.js'
import { startRedis } from '../helpers/servers.js'

const server = await startRedis(t)

function clientOf (t: Pick<Test, 'teardown'>, db = 0): Redis {
  const client = new Redis(server.port, { db })
  t.teardown(() => client.disconnect())
  return client
}

/** One process of an application: its region, on a client of its own. */
async function processOf (t: Pick<Test, 'teardown'>, namespace: string, region: Partial<RegionOptions> = {}, options: Partial<CachingManagerOptions> = {}) {
  const client = clientOf(t)
  const manager = new CachingManager({ namespace, lock: redlock([client]), ...options, regions: { rows: { tiers: [redis(client)], ttl: '1m', jitter: 0, ...region } } })
  t.teardown(() => manager.close())
  await manager.ready()
  return { manager, client, region: manager.region('rows') }
}

t.test('a process without a memory tier hears of an invalidation too: later readers don’t join the older load', async t => {
  for (const invalidate of ['delete', 'invalidate', 'invalidateTags'] as const) {
    const namespace = randomUUID()
    const [mine, theirs] = [await processOf(t, namespace, {}, { lock: undefined as never }), await processOf(t, namespace, {}, { lock: undefined as never })]
    const held = gate()
    const old = mine.region.getOrCreate('k', async () => { await held.opened; return 'old' }, { tags: ['t'] })
    await eventually(t, async () => await mine.client.exists(`${namespace}:rows:k:k`) === 1, 'the load has its lease')
    await (invalidate === 'delete' ? theirs.region.delete('k') : invalidate === 'invalidate' ? theirs.region.invalidate() : theirs.region.invalidateTags('t'))
    // Those who read before this process has heard of it join the older load, and wait for it.
    const reads: Promise<string>[] = []
    let loads = 0
    await eventually(t, () => {
      if (loads === 0) reads.push(mine.region.getOrCreate('k', () => { loads++; return 'new' }, { tags: ['t'] }))
      return loads > 0
    }, `after ${invalidate} a reader loads for itself`)
    t.equal(await reads.at(-1), 'new')
    held.open()
    t.equal(await old, 'old')
    await Promise.all(reads)
    await mine.manager.idle()
    t.equal(await theirs.region.get('k'), 'new')
  }
})

t.test('a slow load holds the lock of its own keys, not of others that were missing in the same tick', async t => {
  const { region, manager } = await processOf(t, randomUUID(), { lockWait: '10m', lockTtl: '5m' })
  const held = gate()
  const slow = region.getOrCreate('slow', async () => { await held.opened; return 'slow' })
  await t.rejects(region.getOrCreate('fast', () => { throw new Error('fast') }), { message: 'fast' })
  t.equal(await region.getOrCreate('fast', () => 'again'), 'again')
  held.open()
  t.equal(await slow, 'slow')
  await manager.idle()
})

t.test('a value that is refreshed just before its time is over is kept', async t => {
  const { region, client, manager } = await processOf(t, randomUUID())
  const wrapped = region.wrap('f', async () => {
    // The entry's own time in Redis would be over before the load is.
    const [key] = await client.keys(`${region.keyspace.prefix}f:*`)
    await eventually(t, async () => key === undefined || await client.pttl(key) > 10_000, 'the entry lives as long as the lease on it')
    return 2
  }, { ttl: 1000 })
  await wrapped.set(1)
  t.equal(await wrapped.refresh(), 2)
  await manager.idle()
  t.equal(await wrapped.get(), 2)
})

t.test('what a loader has left behind may read its key when the loader has ended', async t => {
  const { region, manager } = await processOf(t, randomUUID())
  let left: AsyncResource | undefined
  await region.getOrCreate('k', () => { left = new AsyncResource('left'); return 1 })
  const held = gate()
  const other = region.getOrCreate('other', async () => { await held.opened; return 2 })
  await region.delete('k')
  t.equal(await left!.runInAsyncScope(() => region.getOrCreate('k', () => 3)), 3)
  held.open()
  await other
  await manager.idle()
})

t.test('a memory behind another tier keeps nothing from before an invalidation', async t => {
  for (const kind of ['tags', 'hard'] as const) {
    const manager = new CachingManager({ regions: { rows: { tiers: [nothing(), memory()], ttl: '1m' } } })
    t.teardown(() => manager.close())
    const region = manager.region('rows')
    const [held, started] = [gate(), gate()]
    const old = region.getOrCreate('k', async () => { started.open(); await held.opened; return 'old' }, { tags: ['t'] })
    await started.opened
    await (kind === 'tags' ? region.invalidateTags('t') : region.invalidate())
    held.open()
    t.equal(await old, 'old')
    await manager.idle()
    t.equal(await region.get('k'), undefined)
  }
})

t.test('a reader after an invalidation doesn’t get the error of the load that it overtook', async t => {
  const { region, manager } = await processOf(t, randomUUID(), { lockWait: '10m' })
  const [held, started] = [gate(), gate()]
  const old = region.getOrCreate('k', async () => { started.open(); await held.opened; throw new Error('old') })
  await started.opened
  await region.delete('k')
  const read = region.getOrCreate('k', () => 'new')
  held.open()
  await t.rejects(old, { message: 'old' })
  t.equal(await read, 'new')
  await manager.idle()
})

t.test('a reader after an invalidation of a tag, or a soft one, doesn’t get the error of the load that it overtook, though he waits for it', async t => {
  for (const kind of ['tags', 'soft'] as const) {
    for (const isElsewhere of [false, true]) {
      const namespace = randomUUID()
      const loading = await processOf(t, namespace, { lockWait: '10m' })
      const { region, client } = isElsewhere ? await processOf(t, namespace, { lockWait: '10m' }) : loading
      const [held, started] = [gate(), gate()]
      const old = loading.region.getOrCreate('k', async () => { started.open(); await held.opened; throw new Error('old') })
      await started.opened
      await (kind === 'tags' ? region.invalidateTags('t') : region.invalidate({ soft: true }))
      const read = region.getOrCreate('k', () => 'new', { tags: ['t'] })
      await eventually(t, async () => (await client.pubsub('CHANNELS', '*') as string[]).some(name => name.includes(`${namespace}:rows}:wake-ups`)), 'he waits')
      held.open()
      await t.rejects(old, { message: 'old' })
      t.equal(await read, 'new', `${kind}, ${isElsewhere ? 'elsewhere' : 'here'}`)
      await loading.manager.idle()
    }
  }
})

t.test('nobody waits for a load that an invalidation has overtaken; one of those who do wait loads for all', async t => {
  for (const overtake of ['delete', 'invalidate', 'set'] as const) {
    const namespace = randomUUID()
    const patient = { lockWait: '10m', lockTtl: '5m' } as const
    const [a, b, c] = [await processOf(t, namespace, patient), await processOf(t, namespace, patient), await processOf(t, namespace, patient)]
    const held = gate()
    let loads = 0
    const slow = a.region.getOrCreate('k', async () => { await held.opened; return 'old' })
    const beside = a.region.getOrCreate('other', async () => { await held.opened; return 'kept' })
    await eventually(t, async () => await a.client.exists(`${namespace}:rows:k:k`, `${namespace}:rows:k:other`) === 2, 'the loads have their leases')
    const waiting = [b, c].map(async ({ region }) => await region.getOrCreate('k', () => { loads++; return 'new' }))
    await eventually(t, async () => (await a.client.pubsub('NUMSUB', ...await a.client.pubsub('CHANNELS') as string[])).includes(2), 'others wait')
    await (overtake === 'delete' ? c.region.delete('k') : overtake === 'invalidate' ? c.region.invalidate() : c.region.set('k', 'new'))
    t.strictSame(await Promise.all(waiting), ['new', 'new'], overtake)
    t.equal(await a.region.getOrCreate('k', () => { loads++; return 'newer' }), 'new', 'it is kept')
    t.equal(loads, overtake === 'set' ? 0 : 1)
    held.open()
    t.equal(await slow, 'old')
    t.equal(await beside, 'kept')
    await Promise.all([a, b, c].map(async ({ manager }) => await manager.idle()))
    t.equal(await b.region.get('k'), 'new')
    t.equal(await b.region.get('other'), overtake === 'invalidate' ? undefined : 'kept')
  }
})

t.test('a set that a later deletion has overtaken writes nothing', async t => {
  const { region } = await processOf(t, randomUUID(), { tiers: [memory(), redis(clientOf(t))] })
  for (let round = 0; round < 50; round++) {
    const written = region.set('k', round)
    const deleted = region.delete('k')
    await Promise.all([written, deleted])
    t.equal(await region.get('k'), undefined)
  }
})

t.test('a request sees its own write, whatever a load that was under way primes', async t => {
  const row = { id: 1, name: 'old' }
  const held = gate()
  const User = cachedObject({
    name: 'User',
    region: 'rows',
    methods: {
      byId: loadOne((_context, _id: number) => row),
      byName: loadOne(async (_context, _name: string) => { await held.opened; return row }, { primes: { byId: user => [user.id] } }),
      byMail: loadOne((_context, _mail: string) => row, { primes: { byId: user => [user.id] } })
    }
  })
  const { manager } = await processOf(t, randomUUID())
  const api = manager.createApi()
  const loading = api.get(User, 'byName', ['old'])
  await api.set(User, 'byMail', ['a@b'], { id: 1, name: 'new' })
  held.open()
  await loading
  t.equal((await api.get(User, 'byId', [1]))?.name, 'new')
})

t.test('a refresh that fails leaves what the request has read', async t => {
  let fails = false
  const User = cachedObject({ name: 'User', region: 'rows', methods: { byId: loadOne((_context, id: number) => { if (fails) throw new Error('away'); return { id } }) } })
  const { manager } = await processOf(t, randomUUID())
  const api = manager.createApi()
  await t.rejects((async () => { fails = true; await api.refresh(User, 'byId', [1]) })(), { message: 'away' })
  fails = false
  const read = await api.get(User, 'byId', [1])
  fails = true
  await t.rejects(api.refresh(User, 'byId', [1]), { message: 'away' })
  t.equal(await api.get(User, 'byId', [1]), read)
})

t.test('applications on two databases of a server don’t hear each other', async t => {
  const namespace = randomUUID()
  const [one, other] = [clientOf(t, 0), clientOf(t, 1)].map(client => {
    const manager = new CachingManager({ namespace, lineLease: '1m', regions: { rows: { tiers: [memory(), redis(client)], ttl: '1m', coherence: 'eventual' } } })
    t.teardown(() => manager.close())
    return manager
  }) as [CachingManager, CachingManager]
  await Promise.all([one.ready(), other.ready()])
  await other.region('rows').set('k', 'theirs')
  await one.region('rows').set('k', 'mine')
  await one.region('rows').delete('k')
  // Its own connection has brought all that was sent before this. With a lease of a minute, nothing else empties its memory.
  await other.region('rows').set('last', 1)
  const api = other.createApi()
  t.equal(await api.region('rows').get('k'), 'theirs')
  t.strictSame(api.stats.tiers, { memory: 1 })
})

t.test('more keys than a command has room for are read, kept and deleted, and nothing else is', async t => {
  const { region, manager } = await processOf(t, randomUUID(), {}, { lock: undefined as never })
  await region.set('other', 1)
  const keys = Array.from({ length: 2500 }, (_, i) => `k${i}`)
  await region.getOrCreateMany(keys, missing => missing.map(key => `value of ${key}`))
  await manager.idle()
  t.strictSame(await region.getMany(['k0', 'k999', 'k1000', 'k2499']), ['value of k0', 'value of k999', 'value of k1000', 'value of k2499'])
  await region.deleteMany(keys)
  t.strictSame((await region.getMany<string>(keys)).filter(value => value !== undefined), [])
  t.equal(await region.get('other'), 1)
})

t.test('while Redis hangs, a read waits for it once', async t => {
  const hanging = await startRedis(t)
  const client = new Redis(hanging.port)
  t.teardown(() => client.disconnect())
  let asked = 0
  const backend = redis(client)
  const counting = new Proxy(backend, {
    get: (target, name) => {
      const value = Reflect.get(target, name, target)
      return typeof value !== 'function' ? value : (...args: unknown[]) => { asked++; return value.apply(target, args) }
    }
  })
  const manager = new CachingManager({ lock: redlock([client]), regions: { rows: { tiers: [counting], ttl: '1m', tierTimeout: 100 } } })
  t.teardown(() => manager.close())
  await manager.ready()
  hanging.pause()
  asked = 0
  t.equal(await manager.region('rows').getOrCreate('k', () => 1), 1)
  t.equal(asked, 1)
  hanging.resume()
})

t.test('Server-Timing is there once, though a later hook failed', async t => {
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(cachingApi, { regions: { rows: { tiers: [memory()], ttl: '1m' } }, serverTiming: true })
  let failed = false
  app.addHook('onSend', async () => { if (!failed) { failed = true; throw new Error('later') } })
  app.get('/', async (request, reply) => {
    reply.header('server-timing', 'db;dur=1')
    return await request.cachingApi.region('rows').getOrCreate('k', () => 'v')
  })
  const response = await app.inject('/')
  t.equal(response.statusCode, 500)
  t.equal(String(response.headers['server-timing']).match(/cache-local/g)?.length, 1)
})

// ─── what a model has found ──────────────────────────────────────────────────────────────────────

/** Rows that are found by id and by name; the load by id can be held up. */
async function peopleOf (t: Pick<Test, 'teardown'>, tiers: RegionOptions['tiers']) {
  const [held, begun] = [gate(), gate()]
  const database = { version: 1, fails: false }
  const Person = cachedObject({
    name: 'Person',
    region: 'rows',
    methods: {
      byId: loadOne(async (_context, id: number) => {
        const row = { id, name: 'ada', version: database.version }
        begun.open()
        await held.opened
        return row
      }, { primes: { byName: row => [row.name] } }),
      byName: loadOne((_context, name: string) => {
        if (database.fails) throw new Error('no database')
        return { id: 1, name, version: database.version }
      })
    }
  })
  const manager = new CachingManager({ namespace: randomUUID(), regions: { rows: { tiers, ttl: '1m' } } })
  t.teardown(() => manager.close())
  await manager.ready()
  return { manager, Person, held, begun, database }
}

t.test('a row that an older load brought along does not take the place of one that was set and had to make room', async t => {
  const { manager, Person, held, begun, database } = await peopleOf(t, [memory({ maxEntries: 2 })])
  const load = manager.createApi().get(Person, 'byId', [1])
  await begun.opened
  database.version = 2
  await manager.createApi().set(Person, 'byName', ['ada'], { id: 1, name: 'ada', version: 2 })
  for (const key of ['one', 'two']) await manager.region('rows').set(key, key)
  held.open()
  await load
  await manager.idle()
  t.match(await manager.createApi().get(Person, 'byName', ['ada']), { version: 2 })
})

t.test('a request that joins an older load is not given the rows that this brings along', async t => {
  const { manager, Person, held, begun, database } = await peopleOf(t, [memory()])
  const load = manager.createApi().get(Person, 'byId', [1])
  await begun.opened
  database.version = 2
  const request = manager.createApi()
  await request.invalidate(Person, 'byName', ['ada'])
  const joined = request.get(Person, 'byId', [1])
  held.open()
  await Promise.all([load, joined])
  t.match(await request.get(Person, 'byName', ['ada']), { version: 2 })
})

t.test('a set whose place a failing refresh has taken leaves nothing older there', async t => {
  const { manager, Person, database } = await peopleOf(t, [redis(clientOf(t))])
  await manager.createApi().get(Person, 'byName', ['ada'])
  await manager.idle()
  database.version = 2
  database.fails = true
  const written = manager.createApi().set(Person, 'byName', ['ada'], { id: 1, name: 'ada', version: 2 })
  await t.rejects(manager.createApi().refresh(Person, 'byName', ['ada']), { message: 'no database' })
  await written
  database.fails = false
  t.match(await manager.createApi().get(Person, 'byName', ['ada']), { version: 2 })
})

t.test('what a far tier could not be told is not believed of a nearer one, which is told again', async t => {
  const namespace = randomUUID()
  const far = redis(clientOf(t), { keyPrefix: 'far:' }) as LeasingBackend
  let isDeaf = true
  const deaf = new Proxy(far, {
    get: (backend, name) => {
      if (name === 'forgetMany' && isDeaf) return async () => { throw new Error('away') }
      const member: unknown = Reflect.get(backend, name, backend)
      return typeof member === 'function' ? member.bind(backend) : member
    }
  })
  const mine = await processOf(t, namespace, { tiers: [redis(clientOf(t)), deaf] })
  const theirs = await processOf(t, namespace, { tiers: [redis(clientOf(t)), redis(clientOf(t), { keyPrefix: 'far:' })] })
  await mine.region.set('k', 'old')
  await t.rejects(mine.region.delete('k'), { code: 'FST_CACHING_API_INVALIDATION_PENDING' })
  t.equal(await theirs.region.get('k'), 'old', 'others still find it far away')
  await theirs.manager.idle()
  t.equal(await mine.region.get('k'), undefined, 'but not who has invalidated it, though it was copied nearer')
  isDeaf = false
  await eventually(t, async () => await theirs.region.get('k') === undefined, 'it is gone everywhere')
  await mine.manager.idle()
  t.equal(await theirs.region.get('k'), undefined)
})

t.test('of two sets at one moment one wins, for everybody', async t => {
  const namespace = randomUUID()
  const [one, two] = [await processOf(t, namespace), await processOf(t, namespace)]
  for (const before of ['nothing', 'an old value']) {
    for (let round = 0; round < 20; round++) {
      const key = `${before} ${round}`
      if (before !== 'nothing') await one.region.set(key, 'old')
      await Promise.all([one.region.set(key, 'a'), round % 2 === 0 ? one.region.set(key, 'b') : two.region.set(key, 'b')])
      const left = await one.region.get(key)
      t.match(left, /^[ab]$/, key)
      t.equal(await two.region.get(key), left)
    }
  }
})

t.test('who is about to load a key is not forestalled by a row that an older load brings along', async t => {
  const namespace = randomUUID()
  const held = gate()
  const begun = gate()
  const define = (byName: () => Promise<unknown>) => cachedObject({
    name: 'Person',
    region: 'rows',
    methods: {
      byId: loadOne((_context, id: number) => ({ id, name: 'ada', version: 1 }), { primes: { byName: row => [row.name] } }),
      byName: loadOne(async (_context, _name: string) => await byName())
    }
  })
  const [mine, theirs] = [await processOf(t, namespace), await processOf(t, namespace)]
  const [Mine, Theirs] = [define(async () => null), define(async () => { begun.open(); await held.opened; return { id: 1, name: 'ada', version: 2 } })]
  const load = theirs.manager.createApi().get(Theirs, 'byName', ['ada'])
  await begun.opened
  await mine.manager.createApi().get(Mine, 'byId', [1])
  await mine.manager.idle()
  held.open()
  await load
  await theirs.manager.idle()
  t.match(await mine.manager.createApi().get(Mine, 'byName', ['ada']), { version: 2 })
})

t.test('when a refresh is over, no process serves the old value', async t => {
  const namespace = randomUUID()
  const row = { version: 0 }
  const define = () => cachedObject({ name: 'Row', region: 'rows', methods: { get: loadOne((_context, _id: number) => ({ ...row })) } })
  const processes = await Promise.all([0, 1].map(async () => {
    const client = clientOf(t)
    const manager = new CachingManager({ namespace, lock: redlock([client]), lineLease: '2s', regions: { rows: { tiers: [memory(), redis(client)], ttl: '1m' } } })
    t.teardown(() => manager.close())
    await manager.ready()
    return { manager, Row: define() }
  }))
  const [mine, theirs] = processes as [typeof processes[0], typeof processes[0]]
  await mine.manager.region('rows').delete('anything') // by then they know each other
  for (let round = 0; round < 20; round++) {
    await theirs.manager.createApi().get(theirs.Row, 'get', [1])
    row.version++
    t.strictSame(await mine.manager.createApi().refresh(mine.Row, 'get', [1]), row)
    t.strictSame(await theirs.manager.createApi().get(theirs.Row, 'get', [1]), row, `${round}`)
  }
})
