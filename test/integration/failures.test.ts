import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { queryObjects } from 'node:v8'
import * as fc from 'fast-check'
import Fastify from 'fastify'
import { Redis } from 'ioredis'
import { MemcacheClient } from 'memcache-client'
import { Packr } from 'msgpackr'
import t, { type Test } from 'tap'
import { CachingManager, type CachingManagerOptions } from '../../lib/caching-manager.js'
import { encodeEntry, newMark } from '../../lib/entry-format.js'
import { Flight } from '../../lib/read-path/flight.js'
import { LoadCall } from '../../lib/read-path/load-call.js'
import { redlock } from '../../lib/locks/redlock.js'
import type { Region } from '../../lib/region.js'
import type { RegionOptions } from '../../lib/region-options.js'
import { msgpackSerializer } from '../../lib/serializer.js'
import { parseStamp } from '../../lib/stamp.js'
import type { Backend } from '../../lib/backends/backend.js'
import { memcached } from '../../lib/backends/memcached.js'
import { memory } from '../../lib/backends/memory.js'
import { redis, redisBus } from '../../lib/backends/redis.js'
import cachingApi from '../../plugin/index.js'
import { eventually, gate, silentLogger } from '../helpers/doubles.js'
import { collectGarbage } from '../helpers/garbage.js'
import { freePort } from '../helpers/server-process.js'
import { startMemcached, startRedis } from '../helpers/servers.js'

type Owner = Pick<Test, 'teardown'>

const pending = { code: 'FST_CACHING_API_INVALIDATION_PENDING' }

function clientOf (t: Owner, { port }: { port: number }, options: object = {}): Redis {
  const client = new Redis(port, { retryStrategy: () => 20, ...options })
  client.on('error', () => {})
  t.teardown(() => client.disconnect())
  return client
}

function memcacheClientOf (t: Owner, { port }: { port: number }): MemcacheClient {
  const client = new MemcacheClient({ server: `127.0.0.1:${port}` })
  t.teardown(() => client.shutdown())
  return client
}

/** One process of an application. */
async function processOf (t: Owner, namespace: string, region: Partial<RegionOptions> & Pick<RegionOptions, 'tiers'>, options: Partial<CachingManagerOptions> = {}) {
  const logger = silentLogger()
  const manager = new CachingManager({ namespace, logger, ...options, regions: { rows: { ttl: '1h', jitter: 0, ...region } } })
  t.teardown(() => manager.close())
  await manager.ready()
  return { manager, logger, region: manager.region('rows') }
}

type Process = Awaited<ReturnType<typeof processOf>>

/** One process over a Redis, which elects as well. Who waits for an election that nobody has won waits for ever. */
async function overRedis (t: Owner, server: { port: number }, namespace: string, { near = [], client = {}, ...region }: Partial<RegionOptions> & { near?: Backend[], client?: object } = {}): Promise<Process> {
  const its = clientOf(t, server, client)
  return await processOf(t, namespace, { tiers: [...near, redis(its)] as unknown as [Backend, ...Backend[]], tierTimeout: 100, lockWait: '10m', ...region }, { lock: redlock([its]) })
}

const said = ({ logger }: Process, message: string) => Object.values(logger.lines).flat().some(line => line.message === message)
const isAway = (process: Process) => said(process, 'a tier is away: it is left alone, and probed')
const hasReplayed = (process: Process) => said(process, 'invalidations were replayed')

/** What one process writes, another finds in Redis. */
async function isUsedAgain (t: Test, mine: Process, theirs: Process): Promise<void> {
  await eventually(t, async () => {
    const key = randomUUID()
    await mine.region.getOrCreate(key, () => 'written')
    await mine.manager.idle()
    const api = theirs.manager.createApi()
    return await api.region('rows').get(key) === 'written' && api.stats.tiers['redis'] === 1
  }, 'Redis is used again')
}

/** The old value of `k` is there. On a busy machine the first answers of a server may take longer than its budget. */
async function isKept (t: Test, mine: Process, theirs: Process): Promise<void> {
  await eventually(t, async () => {
    await mine.region.set('k', 'old', { tags: ['t'] })
    const api = theirs.manager.createApi()
    return await api.region('rows').get('k') === 'old' && api.stats.tiers['redis'] === 1
  }, 'it is kept')
}

const invalidations: Record<string, (region: Region) => Promise<void>> = {
  'a deletion': region => region.delete('k'),
  'an invalidation of a tag': region => region.invalidateTags('t'),
  'an invalidation of the region': region => region.invalidate()
}

// ─── Redis is away ───────────────────────────────────────────────────────────────────────────────

for (const how of ['hangs', 'is killed, and comes back empty'] as const) {
  for (const near of ['', ' behind a memory']) {
    t.test(`a Redis${near} that ${how}, costs no read; what was invalidated is replayed, and it is used again`, async t => {
      const server = await startRedis(t)
      const namespace = randomUUID()
      const [mine, theirs] = await Promise.all([0, 1].map(() => overRedis(t, server, namespace, { near: near === '' ? [] : [memory()] }))) as [Process, Process]
      await isKept(t, mine, theirs)

      await (how === 'hangs' ? server.pause() : server.kill())
      for (let i = 0; i < 5; i++) t.equal(await mine.region.getOrCreate(`k${i}`, () => i), i)
      t.ok(isAway(mine), 'and it is left alone')
      await t.rejects(mine.region.delete('k'), pending)
      t.equal(await mine.region.getOrCreate('k', () => 'new'), 'new')
      await eventually(t, async () => await theirs.region.getOrCreate('k', () => 'new') === 'new', 'others load for themselves as well')
      t.notOk(hasReplayed(mine))

      await (how === 'hangs' ? server.resume() : server.start())
      await eventually(t, async () => {
        assert.notEqual(await mine.region.get('k'), 'old')
        return hasReplayed(mine)
      }, 'it is replayed, and nothing stale is served until then')
      await isUsedAgain(t, mine, theirs)
      await eventually(t, async () => await theirs.region.get('k') !== 'old', 'nor is it in another process')
      t.not(await mine.region.get('k'), 'old')
    })
  }
}

t.test('a Redis that has no room caches nothing and costs no read; what was invalidated is gone, or will be when there is room', async t => {
  const server = await startRedis(t, { args: ['--maxmemory', '2mb', '--maxmemory-policy', 'noeviction'] })
  const admin = clientOf(t, server)
  for (const [invalidation, invalidate] of Object.entries(invalidations)) {
    const namespace = randomUUID()
    const [mine, theirs] = await Promise.all([0, 1].map(() => overRedis(t, server, namespace, { tierTimeout: '20s' }))) as [Process, Process]
    await isKept(t, mine, theirs)

    await t.rejects((async () => { for (;;) await admin.rpush('filling', 'x'.repeat(10_000)) })(), /OOM/)
    await admin.config('SET', 'maxmemory', '1mb') // whatever buffers come and go
    t.equal(await theirs.region.get('k'), 'old', 'what is there is found')
    for (let i = 0; i < 5; i++) t.equal(await mine.region.getOrCreate(`k${i}`, () => i), i)
    await mine.manager.idle()
    t.equal(await admin.exists(`${mine.region.keyspace.prefix}k:k0`), 0)

    const rejected: unknown = await invalidate(mine.region).then(() => undefined, (error: unknown) => error)
    t.equal(await mine.region.get('k'), undefined, invalidation)
    if (rejected === undefined || invalidation === 'a deletion') t.equal(await theirs.region.get('k'), undefined, 'deleting needs no room')
    if (rejected !== undefined) t.match(rejected, pending)

    await admin.unlink('filling')
    await admin.config('SET', 'maxmemory', '2mb')
    await eventually(t, async () => {
      assert.equal(await mine.region.get('k'), undefined)
      return await theirs.region.get('k') === undefined
    }, 'it is gone')
    await isUsedAgain(t, mine, theirs)
  }
})

for (const how of ['is a replica', 'has too few replicas'] as const) {
  t.test(`a Redis that ${how}, and takes no writes, is read; what was invalidated is replayed when it takes them again`, async t => {
    const server = await startRedis(t)
    const nobody = await freePort()
    const admin = clientOf(t, server)
    for (const [invalidation, invalidate] of Object.entries(invalidations)) {
      const namespace = randomUUID()
      const [mine, theirs] = await Promise.all([0, 1].map(() => overRedis(t, server, namespace, { tierTimeout: '20s' }))) as [Process, Process]
      await isKept(t, mine, theirs)

      await (how === 'is a replica' ? admin.replicaof('127.0.0.1', nobody) : admin.config('SET', 'min-replicas-to-write', '1'))
      await t.rejects(admin.set('any', 1), /READONLY|NOREPLICAS/)
      for (let i = 0; i < 5; i++) t.equal(await mine.region.getOrCreate(`k${i}`, () => i), i)
      t.equal(await mine.region.getOrCreate('k', () => 'new'), 'old', 'what is there is found')
      await mine.manager.idle()
      t.strictSame(mine.logger.lines.error, [])
      t.equal(await admin.exists(`${mine.region.keyspace.prefix}k:k0`), 0)
      await t.rejects(invalidate(mine.region), pending, invalidation)
      t.equal(await mine.region.getOrCreate('k', () => 'new'), 'new')

      await (how === 'is a replica' ? admin.replicaof('NO', 'ONE') : admin.config('SET', 'min-replicas-to-write', '0'))
      await eventually(t, async () => {
        assert.notEqual(await mine.region.get('k'), 'old')
        return hasReplayed(mine)
      }, 'it is replayed')
      t.not(await theirs.region.get('k'), 'old')
      await isUsedAgain(t, mine, theirs)
    }
  })
}

for (const enableReadyCheck of [true, false]) {
  t.test(`a Redis that is still loading its data counts as missing, for a client that ${enableReadyCheck ? 'waits' : 'does not wait'} for it`, async t => {
    const folder = t.testdir()
    const before = await startRedis(t, { args: ['--dir', folder] })
    const filler = clientOf(t, before)
    await filler.eval("for i = 1, 20000 do redis.call('SET', 'key' .. i, i) end", 0)
    await filler.save()
    // A second for each thousand keys: longer than the test, which ends it.
    const server = await startRedis(t, { args: ['--dir', folder, '--key-load-delay', '1000', '--loading-process-events-interval-bytes', '1024'] })
    const admin = clientOf(t, server, { enableReadyCheck: false })
    await t.rejects(admin.get('key1'), /LOADING/)

    const namespace = randomUUID()
    const [mine, theirs] = await Promise.all([0, 1].map(() => overRedis(t, server, namespace, { client: { enableReadyCheck, maxLoadingRetryTime: 20 } }))) as [Process, Process]
    for (let i = 0; i < 5; i++) t.equal(await mine.region.getOrCreate(`k${i}`, () => i), i)
    await t.rejects(mine.region.delete('k'), pending)
    await t.rejects(admin.get('key1'), /LOADING/, 'all of this while it was loading')

    await admin.config('SET', 'key-load-delay', '0')
    await eventually(t, () => hasReplayed(mine), 'it has loaded, and is told')
    await isUsedAgain(t, mine, theirs)
  })
}

// ─── an app ──────────────────────────────────────────────────────────────────────────────────────

t.test('an app starts, answers and stops', async t => {
  const [redisServer, memcachedServer] = await Promise.all([startRedis(t), startMemcached(t)])
  const gone = { port: await freePort() }

  for (const [away, servers] of Object.entries({
    'Redis is': { redis: gone, memcached: memcachedServer },
    'memcached is': { redis: redisServer, memcached: gone },
    'Redis and memcached are': { redis: gone, memcached: gone }
  })) {
    for (const [tier, tiersOf] of Object.entries<(t: Test) => RegionOptions['tiers']>({
      memcached: t => [memory(), memcached(memcacheClientOf(t, servers.memcached))],
      Redis: t => [memory(), redis(clientOf(t, servers.redis))],
      'memcached and Redis': t => [memory(), memcached(memcacheClientOf(t, servers.memcached)), redis(clientOf(t, servers.redis))]
    })) {
      await t.test(`an app starts, answers and stops while ${away} away: memory, ${tier}, and Redis to elect and to tell others`, async t => {
        const app = Fastify()
        const its = new Redis(servers.redis.port) // as by default, with its twelve seconds of retries
        its.on('error', () => {})
        t.teardown(() => its.disconnect())
        await app.register(cachingApi, { namespace: randomUUID(), lock: redlock([its]), bus: redisBus(its), regions: { rows: { tiers: tiersOf(t), ttl: '1m', tierTimeout: 100 } } })
        app.get('/:key', async request => {
          const { key } = request.params as { key: string }
          return await request.cachingApi.region('rows').getOrCreate(key, () => `value of ${key}`)
        })
        app.delete('/:key', async request => {
          await request.cachingApi.region('rows').delete((request.params as { key: string }).key)
          return 'deleted'
        })
        await app.ready()
        for (const key of ['a', 'a', 'b']) {
          const { statusCode, body } = await app.inject(`/${key}`)
          t.strictSame({ statusCode, body }, { statusCode: 200, body: `value of ${key}` })
        }
        const { statusCode } = await app.inject({ method: 'DELETE', url: '/a' })
        if (statusCode !== 200) t.equal(statusCode, 503)
        t.equal((await app.inject('/a')).body, 'value of a')
        const began = performance.now()
        await app.close()
        t.ok(performance.now() - began < 8000, 'and waits for nobody who is away')
      })
    }
  }

  await t.test('an app starts, answers and stops while Redis and memcached hang from the beginning, or from one moment to the next', async t => {
    for (const before of [true, false]) {
      const hang = () => { redisServer.pause(); memcachedServer.pause() }
      if (before) hang()
      const app = Fastify()
      const its = clientOf(t, redisServer)
      await app.register(cachingApi, {
        namespace: randomUUID(), lock: redlock([its]), regions: { rows: { tiers: [memory(), memcached(memcacheClientOf(t, memcachedServer)), redis(its)], ttl: '1m', tierTimeout: 100 } }
      })
      app.get('/:key', async request => await request.cachingApi.region('rows').getOrCreate((request.params as { key: string }).key, () => 'value'))
      await app.ready()
      if (!before) hang()
      for (const key of ['a', 'b', 'c', 'd']) t.equal((await app.inject(`/${key}`)).body, 'value')
      await app.close()
      redisServer.resume()
      memcachedServer.resume()
    }
  })
})

// ─── election ────────────────────────────────────────────────────────────────────────────────────

t.test('of three independent servers two are dead: loads go on without an election', async t => {
  const [tier, ...lockServers] = await Promise.all([startRedis(t), startRedis(t), startRedis(t), startRedis(t)])
  const namespace = randomUUID()
  const [mine, theirs] = await Promise.all([0, 1].map(async () => {
    const lock = redlock(lockServers.map(server => clientOf(t, server)))
    return await processOf(t, namespace, { tiers: [redis(clientOf(t, tier))], lockWait: '10m', lockTtl: '5m' }, { lock })
  })) as [Process, Process]
  const held = gate()
  const loads = { mine: 0, theirs: 0 }
  const read = () => [
    mine.region.getOrCreate('k', async () => { loads.mine++; await held.opened; return 'mine' }),
    theirs.region.getOrCreate('k', async () => { loads.theirs++; await held.opened; return 'theirs' })
  ]
  await Promise.all(lockServers.slice(1).map(server => server.kill()))
  const values = read()
  await eventually(t, () => loads.mine === 1 && loads.theirs === 1, 'both load, side by side')
  held.open()
  t.strictSame(await Promise.all(values), ['mine', 'theirs'])
  await Promise.all([mine.manager.idle(), theirs.manager.idle()])
  t.equal(await mine.region.get('k'), await theirs.region.get('k'), 'one of them is kept')
})

t.test('a load that takes longer than lockTtl keeps its lock: no other process loads meanwhile', async t => {
  const server = await startRedis(t)
  const admin = clientOf(t, server)
  const namespace = randomUUID()
  const [mine, theirs] = await Promise.all([0, 1].map(() => overRedis(t, server, namespace, { lockTtl: '1s', tierTimeout: '5s' }))) as [Process, Process]
  const [held, begun] = [gate(), gate()]
  const first = mine.region.getOrCreate('k', async () => { begun.open(); await held.opened; return 'mine' })
  await begun.opened
  const lockEnd = async () => await admin.pexpiretime(mine.region.keyspace.lock(mine.region.keyspace.entry('k', 'k')))
  let loads = 0
  const second = theirs.region.getOrCreate('k', () => { loads++; return 'theirs' })
  const end = await lockEnd()
  t.ok(end > 0)
  await eventually(t, async () => await lockEnd() > end + 1500, 'it is renewed, far beyond its time')
  t.equal(loads, 0)
  held.open()
  t.strictSame(await Promise.all([first, second]), ['mine', 'mine'])
  t.equal(loads, 0)
})

t.test('a key that another process is loading makes no other key of the batch wait', async t => {
  const server = await startRedis(t)
  const namespace = randomUUID()
  const [mine, theirs] = await Promise.all([0, 1].map(() => overRedis(t, server, namespace, { lockTtl: '5m', tierTimeout: '5s' }))) as [Process, Process]
  const [held, begun] = [gate(), gate()]
  const slow = mine.region.getOrCreate('slow', async () => { begun.open(); await held.opened; return 'mine' })
  await begun.opened

  const calls: (readonly string[])[] = []
  let arrived = false
  const batch = theirs.region.getOrCreateMany(['a', 'slow', 'b'], async keys => { calls.push(keys); return keys.map(key => `${key} of theirs`) })
  batch.then(() => { arrived = true }, () => {})
  await eventually(t, () => calls.length > 0, 'the others are loaded')
  t.strictSame([await theirs.region.getOrCreate('a', () => 'loaded again'), await theirs.region.getOrCreate('b', () => 'loaded again')], ['a of theirs', 'b of theirs'])
  t.strictSame(calls.flat().toSorted(), ['a', 'b'])
  t.notOk(arrived)
  held.open()
  t.equal(await slow, 'mine')
  t.strictSame(await batch, ['a of theirs', 'mine', 'b of theirs'])
  t.strictSame(calls.flat().toSorted(), ['a', 'b'])
})

// ─── a hostile outside ───────────────────────────────────────────────────────────────────────────

for (const [where, many] of [['memory', 50_000], ['memory and Redis', 2000]] as const) {
  t.test(`${2 * many} keys from outside leave no more behind in ${where} than the memory tier holds`, async t => {
    const near = memory({ maxEntries: 100 })
    const { region, manager } = where === 'memory'
      ? await processOf(t, randomUUID(), { tiers: [near] })
      : await overRedis(t, await startRedis(t), randomUUID(), { near: [near], tierTimeout: '20s' })
    const values: WeakRef<object>[] = []
    const makeOne = (key: string) => {
      const value = { key }
      values.push(new WeakRef(value))
      return value
    }
    async function visit (from: number): Promise<void> {
      for (let i = from; i < from + many; i += 1000) {
        const keys = Array.from({ length: 1000 }, (_, k) => `outside-${i + k}`)
        // Most are loaded; some fail, some can't be kept, some are only looked for, some are invalidated.
        await region.getOrCreateMany(keys.slice(0, 900), missing => missing.map(makeOne), { tags: ({ key }) => [`tag-${Number(key.slice(8)) % 50}`] })
        await Promise.allSettled(keys.slice(900, 920).map(key => region.getOrCreate(key, () => { throw new Error('absent') })))
        await Promise.all(keys.slice(920, 940).map(key => region.getOrCreate(key, () => makeOne(key), { shouldCache: () => false })))
        await region.getMany(keys.slice(940))
        await region.deleteMany(keys.slice(0, 100))
        await region.invalidateTags(`tag-${i / 1000 % 50}`)
      }
      await manager.idle()
      await new Promise(setImmediate)
      collectGarbage()
    }

    await visit(0)
    const before = process.memoryUsage().heapUsed
    values.length = 0
    await visit(many)
    await eventually(t, () => {
      collectGarbage()
      return values.filter(value => value.deref() !== undefined).length <= 100
    }, 'nobody holds a value that memory has dropped')
    t.equal(queryObjects(Flight), 0, 'no flight is left')
    t.equal(queryObjects(LoadCall), 0)
    values.length = 0
    collectGarbage()
    // A string for each of them, and its place in a Map, would be several times as much.
    if (where === 'memory') t.ok(process.memoryUsage().heapUsed - before < 1_500_000, 'and nothing grows with the number of keys')
  })
}

// ─── foreign bytes ───────────────────────────────────────────────────────────────────────────────

const packr = new Packr({ useRecords: false, moreTypes: true })
const stamp = parseStamp('1|0|0|0')!
const someEntry = { loadedAt: 0, freshUntil: 4e15, staleUntil: 4e15, tags: ['t'], stamp, loose: undefined }
/** Bytes in the right form, whose value is what the serializer makes of these. */
const entryWith = (value: Uint8Array) => encodeEntry({ ...someEntry, value: 0 }, { encode: () => value, decode: () => 0 })
const entryOf = (...value: number[]) => entryWith(Buffer.from(value))
const valid = encodeEntry({ ...someEntry, value: { name: 'valid', at: new Date(0), tags: ['a', 'b'], big: 1n } }, msgpackSerializer)

const proto = [0xa9, ...Buffer.from('__proto__')]
const polluted = [0x81, 0xa8, ...Buffer.from('polluted'), 0xc3]
const evil: Record<string, Buffer> = {
  'nothing at all': Buffer.alloc(0),
  'a lease': newMark(),
  'a lease and more': Buffer.concat([newMark(), Buffer.alloc(1)]),
  'of somebody else': Buffer.from('{"id":1}'),
  'a map with __proto__': entryOf(1, 0x81, ...proto, ...polluted),
  'a nested map with __proto__': entryOf(1, 0x81, 0xa1, 0x61, 0x81, ...proto, ...polluted),
  'constructor.prototype': entryOf(1, 0x81, 0xab, ...Buffer.from('constructor'), 0x81, 0xa9, ...Buffer.from('prototype'), ...polluted),
  'a record with __proto__': entryOf(1, 0xd4, 0x72, 0x40, 0x91, ...proto, ...polluted),
  'an error named __proto__': entryOf(1, 0xd4, 0x65, 0, 0x92, ...proto, ...polluted),
  'an error named valueOf': entryOf(1, 0xd4, 0x65, 0, 0x91, 0xa7, ...Buffer.from('valueOf')),
  'an array of four thousand million': entryOf(1, 0xdd, 0xff, 0xff, 0xff, 0xff),
  'an array of four thousand million gaps': entryOf(2, 0xff, 0x0f, 0x61, 0xfe, 0xff, 0xff, 0xff, 0x0f, 0x40, 0, 0xfe, 0xff, 0xff, 0xff, 0x0f),
  'a string of four gigabytes': entryOf(1, 0xdb, 0xff, 0xff, 0xff, 0xff, 0x61),
  'a pattern that takes for ever': entryOf(1, 0xd4, 0x78, 0, ...packr.pack(['(a+)+$', ''])),
  'as deep as a stack': entryWith(Buffer.concat([Buffer.from([1]), Buffer.alloc(200_000, 0x91)])),
  oversized: Buffer.alloc(900_000, 0xfc),
  'tags that lie about their length': (() => { const bytes = Buffer.from(valid); bytes.writeUInt32LE(0xffffffff, 68); return bytes })()
}

t.test('foreign, damaged and malicious bytes under our keys', async t => {
  const [redisServer, memcachedServer] = await Promise.all([startRedis(t), startMemcached(t)])
  const [redisClient, memcacheClient] = [clientOf(t, redisServer), memcacheClientOf(t, memcachedServer)]
  for (const [name, backend] of Object.entries<Backend>({ Redis: redis(redisClient), memcached: memcached(memcacheClient) })) {
    await t.test(`foreign, damaged and malicious bytes in ${name} cost no read, pollute nothing, and make one warning`, async t => {
      const process = await processOf(t, randomUUID(), { tiers: [backend], tierTimeout: '20s' })
      const { region, manager, logger } = process
      const { keyspace } = region
      const keyOf = (key: string) => keyspace.entry('k', key)
      const put = async (entries: Record<string, Uint8Array>) => {
        await backend.setMany([
          { key: keyspace.stamp, value: Buffer.from('1|0|0|0'), ttl: 1e6 },
          ...Object.entries(entries).map(([key, value]) => ({ key: keyOf(key), value, ttl: 1e6 }))
        ])
      }
      const before = Object.getOwnPropertyNames(Object.prototype)
      const clean = () => {
        assert.deepEqual(Object.getOwnPropertyNames(Object.prototype), before)
        assert.equal(({} as { polluted?: boolean }).polluted, undefined)
      }

      await put({ valid })
      t.match(await region.get('valid'), { name: 'valid', tags: ['a', 'b'] })

      const prefixes = Object.fromEntries(Array.from(valid, (_, length) => [`prefix-${length}`, valid.subarray(0, length)]))
      await put(prefixes)
      const loaded = await region.getOrCreateMany(Object.keys(prefixes), keys => keys.map(() => 'loaded'))
      t.ok(loaded.every(value => value === 'loaded'), 'every prefix of an entry is a miss')
      t.equal(logger.lines.warn.length, 1)
      t.match(logger.lines.warn, [{ message: 'an entry was not understood and counts as missing; further ones will not be logged' }])

      let number = 0
      await put(Object.fromEntries(Object.values(evil).map((bytes, i) => [`evil-${i}`, bytes])))
      for (const [i, what] of Object.keys(evil).entries()) {
        const value = await region.getOrCreate(`evil-${i}`, () => 'loaded')
        clean()
        if (typeof value === 'object') t.equal((value as { polluted?: boolean }).polluted, undefined, what)
        else t.equal(value, 'loaded', what)
      }

      const damage = fc.oneof(
        fc.tuple(fc.nat(8 * valid.length - 1), fc.nat(8 * valid.length - 1)).map(bits => {
          const bytes = Buffer.from(valid)
          for (const bit of bits) bytes[bit >> 3]! ^= 1 << (bit & 7)
          return bytes
        }),
        fc.uint8Array({ maxLength: 200 }).map(bytes => entryOf(1, ...bytes)),
        fc.uint8Array({ maxLength: 200 }).map(bytes => entryOf(2, 0xff, 0x0f, ...bytes)),
        fc.uint8Array({ maxLength: 200 }).map(bytes => Buffer.from(bytes))
      )
      await fc.assert(fc.asyncProperty(fc.array(damage, { minLength: 100, maxLength: 100 }), async some => {
        const keys = some.map(() => `damaged-${number++}`)
        await put(Object.fromEntries(some.map((bytes, i) => [keys[i]!, bytes])))
        const values = await region.getOrCreateMany<unknown>(keys, keys => keys.map(() => 'loaded'))
        assert.equal(values.length, keys.length)
        clean()
      }), { numRuns: 20, seed: 1, endOnFailure: true })
      t.equal(logger.lines.warn.length, 1, 'and no further one')

      for (const foreign of ['', 'OK', '1|2|3', '1|0|0|9999999999999999', `${'9'.repeat(400)}|0|0|0`, '-1|0|0|0', '1|0|0|0\n']) {
        await put({})
        await backend.setMany([{ key: keyspace.stamp, value: Buffer.from(foreign), ttl: 1e6 }])
        const key = randomUUID()
        t.equal(await region.getOrCreate(key, () => 'loaded'), 'loaded')
        await manager.idle()
        t.equal(await region.get(key), 'loaded', `a stamp of '${foreign.slice(0, 30)}' is put right`)
        await backend.setMany([{ key: keyspace.stamp, value: Buffer.from(foreign), ttl: 1e6 }])
        await region.invalidateTags('t')
        await region.delete(key)
        t.equal(await region.get(key), undefined)
      }
    })
  }
})
