import { randomUUID } from 'node:crypto'
import { connect } from 'node:net'
import { MemcacheClient } from 'memcache-client'
import t, { type Test } from 'tap'
import { cacheObject, property } from '../../../lib/cache-objects/cache-object.js'
import { cachedObject, loadOne } from '../../../lib/cached-object.js'
import { CachingManager } from '../../../lib/caching-manager.js'
import { newMark } from '../../../lib/entry-format.js'
import type { Region } from '../../../lib/region.js'
import type { RegionOptions } from '../../../lib/region-options.js'
import { formatStamp, newStamp, parseStamp } from '../../../lib/stamp.js'
import { testBackend } from '../../../lib/testing.js'
import { UnstorableError, type Backend } from '../../../lib/backends/backend.js'
import { memcached, type MemcachedBackend } from '../../../lib/backends/memcached.js'
import type { MemcachedLike } from '../../../lib/backends/memcached-server.js'
import { memory } from '../../../lib/backends/memory.js'
import { eventually, fakeClock, gate, silentLogger } from '../../helpers/doubles.js'
import { recordingProxy } from '../../helpers/recording-proxy.js'
import { ask } from '../../helpers/server-process.js'
import { startMemcached, type MemcachedServer } from '../../helpers/servers.js'

const server = await startMemcached(t)
const client = clientOf(t, server.port)

function clientOf (t: Pick<Test, 'teardown'>, port: number, options: Partial<{ maxConnections: number, cmdTimeout: number }> = {}): MemcacheClient {
  const { maxConnections = 1, ...rest } = options
  const client = new MemcacheClient({ server: { server: `127.0.0.1:${port}`, maxConnections }, ...rest })
  t.teardown(() => client.shutdown())
  return client
}

const backendOf = (client: unknown, options?: { keyPrefix?: string }) => memcached(client, options) as MemcachedBackend
const backend = backendOf(client)

const minute = 60_000
const newKey = () => `key-${randomUUID()}`
const newStampKey = () => `{region-${randomUUID()}}:stamp`
const someStamp = () => formatStamp(newStamp())
const text = (bytes: Uint8Array | undefined) => bytes === undefined ? undefined : Buffer.from(bytes).toString()
const get = async (backend: MemcachedBackend, ...keys: string[]) => (await backend.getMany(keys)).map(text)
const entry = (key: string, value: string, ttl = minute) => ({ key, value: Buffer.from(value), ttl })

async function lease (backend: MemcachedBackend, keys: readonly string[], { takeOver = false, at = newStampKey() } = {}) {
  const mark = newMark()
  const [stamp, ...held] = await backend.leaseMany(at, keys, { mark, ttl: minute, stamp: someStamp(), takeOver })
  return { mark, held, stamp: parseStamp(text(stamp)!)! }
}

/** Empty, and at once: one that is asked to end takes up to a second. */
async function reborn (server: MemcachedServer): Promise<void> {
  await server.kill()
  await server.start()
}

/** Pauses it, and waits until it is: on a busy machine it answers for a moment more. */
async function silence (t: Test, server: MemcachedServer): Promise<void> {
  server.pause()
  await eventually(t, async () => await ask(server.port, 'version', /VERSION/) === undefined, 'it hangs')
}

/** Runs `step` at the moment when a command that matches has been answered, before anybody hears of it: once. */
function after (client: MemcachedLike, command: RegExp, step: () => unknown): MemcachedLike {
  let done = false
  return {
    options: client.options,
    send: async data => {
      const answer = await client.send(data)
      if (!done && command.test(data.toString())) {
        done = true
        await step()
      }
      return answer
    }
  }
}

/** Changes what is sent, where it matches: as if somebody else's command came in between. */
const meddler = (client: MemcachedLike, pattern: RegExp, change: (command: string) => string): MemcachedLike => ({
  options: client.options,
  send: async data => {
    const command = Buffer.from(data).toString('latin1')
    return await client.send(pattern.test(command) ? Buffer.from(change(command), 'latin1') : data)
  }
})

async function regionOf (t: Test, options: Partial<RegionOptions> & Pick<RegionOptions, 'tiers'>, namespace: string = randomUUID()) {
  const clock = fakeClock()
  const logger = silentLogger()
  const manager = new CachingManager({ namespace, now: clock.now, logger, regions: { people: { ttl: '10s', jitter: 0, tierTimeout: '20s', ...options } } })
  t.teardown(() => manager.close())
  await manager.ready()
  return { manager, region: manager.region('people'), clock, logger }
}

// Some wait for values to end, by a clock that counts seconds: two tests at a time.
t.jobs = 2

for (const [name, count] of Object.entries({ 'one server keeps': 1, 'several servers keep': 3 })) {
  t.test(`memcached on ${name} the contract`, async t => {
    const servers = await Promise.all(Array.from({ length: count }, async () => await startMemcached(t)))
    const clients = servers.map(({ port }) => clientOf(t, port, { maxConnections: count }))
    await testBackend(t, () => memcached(clients), { flush: async () => await Promise.all(clients.map(client => client.cmd('flush_all'))) })
  })
}

// ─── what it is given ────────────────────────────────────────────────────────────────────────────

t.test('what can not work is refused, by name', async t => {
  const several = new MemcacheClient({ server: { servers: [{ server: 'a:1' }, { server: 'b:1' }] } })
  const code = 'FST_CACHING_API_INVALID_OPTIONS'
  const cases: [unknown, unknown, string | RegExp][] = [
    [undefined, undefined, 'memcached(client) must be a MemcacheClient of memcache-client, got undefined'],
    [{ get () {} }, undefined, 'memcached(client) must be a MemcacheClient of memcache-client, got an object'],
    ['127.0.0.1:11211', undefined, "memcached(client) must be a MemcacheClient of memcache-client, got '127.0.0.1:11211'"],
    [[client, null], undefined, 'memcached(clients)[1] must be a MemcacheClient of memcache-client, got null'],
    [[], undefined, 'memcached(clients) must be at least one client, got an empty array'],
    [several, undefined, /^memcached\(client\) must be a client of one server, .* \(for several: memcached\(\[clientA, clientB\]\)\), got one of 2 servers$/],
    [[client, several], undefined, /^memcached\(clients\)\[1\] must be a client of one server/],
    [{ send () {} }, undefined, "memcached(client) must be a client whose options name its server as 'host:port', got undefined"],
    [{ send () {}, options: { server: { server: 1 } } }, undefined, /host:port', got 1/],
    [{ send () {}, options: null }, undefined, /host:port', got undefined/],
    [{ send () {}, options: { server: { servers: 'a:1' } } }, undefined, /host:port', got undefined/],
    [{ send () {}, options: { server: { servers: [] } } }, undefined, /host:port', got undefined/],
    [{ send () {}, options: { server: { servers: [null] } } }, undefined, /host:port', got undefined/],
    [new MemcacheClient({ server: 'localhost' }), undefined, "memcached(client) must be a client whose options name its server as 'host:port', got 'localhost'"],
    [new MemcacheClient({ server: { server: 'localhost:0' } }), undefined, /host:port', got 'localhost:0'/],
    [new MemcacheClient({ server: '[::1]:11211' }), undefined, /host:port', got '\[::1\]:11211'/],
    [[client, clientOf(t, server.port)], undefined, /^memcached\(clients\) must be clients of different servers, got 127/],
    [client, null as never, 'memcached(options) must be an object, got null'],
    [client, [], 'memcached(options) must be an object, got an array of 0'],
    [client, 'app:', "memcached(options) must be an object, got 'app:'"],
    [client, { prefix: 'a' }, "memcached(options).prefix must be absent: the only option is keyPrefix, got 'a'"],
    [client, { keyPrefix: 'a b' }, "memcached(options).keyPrefix must be up to 50 printable ASCII characters without blanks, got 'a b'"],
    [client, { keyPrefix: 'a'.repeat(51) }, /^memcached\(options\)\.keyPrefix must be/],
    [client, { keyPrefix: 1 }, /^memcached\(options\)\.keyPrefix must be/]
  ]
  for (const [given, options, message] of cases) t.throws(() => memcached(given, options as never), { code, message })
  t.doesNotThrow(() => memcached(client, { keyPrefix: undefined, other: undefined } as never), 'what is undefined counts as absent')
  t.doesNotThrow(() => memcached(client, { keyPrefix: '{app}' }))
})

t.test("a client may name its server in any of memcache-client's ways", async t => {
  const address = `127.0.0.1:${server.port}`
  for (const given of [address, { server: address }, { servers: [{ server: address, maxConnections: 1 }] }]) {
    const client = new MemcacheClient({ server: given })
    t.teardown(() => client.shutdown())
    t.strictSame(await backendOf(client).getMany(['absent']), [undefined])
  }
})

t.test('prefixes keep applications apart, and long keys fit beside them', async t => {
  const keyPrefix = 'p'.repeat(50)
  const other = backendOf(client, { keyPrefix })
  const keys = [newKey(), 'x'.repeat(200), 'x'.repeat(201), 'with blanks']
  await other.setMany(keys.map(key => entry(key, 'theirs')))
  t.strictSame(await get(backend, ...keys), keys.map(() => undefined))
  t.strictSame(await get(other, ...keys), keys.map(() => 'theirs'))
  t.equal(text((await client.get<Buffer>(keyPrefix + keys[0])).value), 'theirs')
})

t.test('the client is its owner’s: closing a manager leaves it open', async t => {
  const { manager, region } = await regionOf(t, { tiers: [backend] })
  await region.set('alice', 1)
  await manager.close()
  t.strictSame(await get(backend, newKey()), [undefined])
})

t.test('a prefix and a key that are a hostile name together are a key like any other', async t => {
  for (const [keyPrefix, key] of [['', '__proto__'], ['__', 'proto__'], ['__proto', '__']] as const) {
    const prefixed = backendOf(client, { keyPrefix })
    await prefixed.setMany([entry(key, 'value'), entry('other', 'untouched')])
    t.strictSame(await get(prefixed, key, 'other'), ['value', 'untouched'])
    await prefixed.deleteMany([key])
    t.strictSame(await get(prefixed, key, 'other'), [undefined, 'untouched'])
  }
})

// ─── round trips ─────────────────────────────────────────────────────────────────────────────────

t.test('a batch is one round trip to find, two before the load, one to write back', async t => {
  const proxy = await recordingProxy(t, server.port)
  const { region, manager } = await regionOf(t, { tiers: [memcached(clientOf(t, proxy.port))] })
  const keys = Array.from({ length: 100 }, (_, i) => `key ${i}`)
  const trips: number[] = []
  await region.get('connect')
  proxy.reset()
  await region.getOrCreateMany(keys, missing => {
    trips.push(proxy.commands.filter(name => name === 'gets').length)
    t.strictSame(new Set(proxy.commands), new Set(['gets', 'add']))
    proxy.reset()
    return missing.map(key => `value of ${key}`)
  })
  await manager.idle()
  t.strictSame(trips, [2], 'a read, and a claim whose marks go before its read in the same bytes')
  t.strictSame(proxy.commands, keys.map(() => 'cas'), 'sent without waiting for one another')
  proxy.reset()
  t.strictSame(await region.getMany(keys), keys.map(key => `value of ${key}`))
  t.equal(proxy.roundTrips, 1)
  t.strictSame(proxy.commands, ['gets'])
  proxy.reset()
  await region.deleteMany(keys)
  t.strictSame(proxy.commands, ['gets', 'cas', ...keys.map(() => 'delete')])
  t.equal(proxy.roundTrips, 3)
})

t.test('each of several servers is asked once for its share, and keeps it when one is added', async t => {
  const servers = await Promise.all([startMemcached(t), startMemcached(t), startMemcached(t)])
  const proxies = await Promise.all(servers.map(({ port }) => recordingProxy(t, port)))
  const clients = proxies.map(({ port }) => clientOf(t, port))
  const two = backendOf(clients.slice(0, 2))
  const keys = Array.from({ length: 900 }, newKey)
  await two.setMany(keys.map(key => entry(key, key)))
  for (const proxy of proxies) proxy.reset()
  t.strictSame(await get(two, ...keys), keys)
  t.strictSame(proxies.map(({ commands }) => commands), [['gets'], ['gets'], []])

  const three = backendOf([clients[2], clients[0], clients[1]])
  for (const proxy of proxies) proxy.reset()
  const found = (await get(three, ...keys)).filter(value => value !== undefined).length
  const shares = proxies.map(({ calls }) => calls[0]!.length - 1)
  t.equal(shares.reduce((sum, share) => sum + share), 900)
  for (const share of shares) t.ok(share > 200 && share < 400, `each has about a third: ${share}`)
  t.equal(found, shares[0]! + shares[1]!, 'whatever their order, the others stay where they were')
})

// ─── leases ──────────────────────────────────────────────────────────────────────────────────────

t.test('a lease that is revoked in the moment in which it is taken fills nothing', async t => {
  const key = newKey()
  const held = (await lease(backend, [key])).held // the mark of somebody
  await client.delete(key)
  const meddling = backendOf(meddler(client, /^add /, command => command.replace('gets ', `delete ${key} noreply\r\ngets `)))
  const other = await lease(meddling, [key])
  t.same(other.held[0], other.mark)
  t.strictSame(await backend.fillMany([{ ...entry(key, 'a'), lease: held[0]! }]), [false])
  t.strictSame(await meddling.fillMany([{ ...entry(key, 'b'), lease: other.held[0]! }]), [false])
  t.strictSame(await get(backend, key), [undefined])
})

t.test('whoever takes over what is deleted in that moment may fill it, and nobody else', async t => {
  const key = newKey()
  await backend.setMany([entry(key, 'a value of more than twelve bytes')])
  const before = await lease(backend, [key])
  const meddling = backendOf(meddler(client, /append /, command => command.replace('append ', `delete ${key} noreply\r\nappend `)))
  const taken = await lease(meddling, [key], { takeOver: true })
  t.same(taken.held[0], taken.mark)
  t.strictSame(await backend.fillMany([{ ...entry(key, 'late'), lease: before.held[0]! }]), [false])
  t.strictSame(await meddling.fillMany([{ ...entry(key, 'value'), lease: taken.held[0]! }]), [true])
  t.strictSame(await get(backend, key), ['value'])
})

t.test('a server of several that was restarted refuses old leases, though it counts from 1 again', async t => {
  const [restarted, staying] = await Promise.all([startMemcached(t), startMemcached(t)])
  const clients = [restarted, staying].map(({ port }) => clientOf(t, port))
  const both = backendOf(clients)
  const at = newStampKey()
  let key = newKey()
  await both.setMany([entry(key, 'where is it?')])
  while (await clients[0]!.get(key) === undefined) {
    key = newKey()
    await both.setMany([entry(key, 'where is it?')])
  }
  await reborn(restarted)
  await eventually(t, async () => await clients[0]!.get(key) === undefined, 'it is back')
  const old = await lease(both, [key], { at })
  await reborn(restarted)
  await eventually(t, async () => await clients[0]!.get(key) === undefined, 'it is back again')
  const { held } = await lease(both, [key], { at })
  t.strictSame(await both.fillMany([{ ...entry(key, 'stale'), lease: old.held[0]! }]), [false])
  t.strictSame(await both.fillMany([{ ...entry(key, 'fresh'), lease: held[0]! }]), [true])
})

t.test('a region does not believe what an old lease filled after its server was restarted', async t => {
  const own = await startMemcached(t)
  const namespace = randomUUID()
  const ownClient = clientOf(t, own.port)
  const [a, b] = [await regionOf(t, { tiers: [memcached(ownClient)] }, namespace), await regionOf(t, { tiers: [memcached(ownClient)] }, namespace)]
  const [begun, ended, newerBegun, newerEnded] = [gate(), gate(), gate(), gate()]
  const stale = a.region.getOrCreate('alice', async () => { begun.open(); await ended.opened; return 'stale' })
  await begun.opened
  await reborn(own)
  await eventually(t, async () => await ownClient.get('x') === undefined, 'it is back')
  // The same commands as before the restart: the numbers are the same, too.
  const newer = b.region.getOrCreate('alice', async () => { newerBegun.open(); await newerEnded.opened; return 'newer' })
  await newerBegun.opened
  ended.open()
  t.equal(await stale, 'stale')
  await a.manager.idle()
  t.not(await b.region.get('alice'), 'stale')
  newerEnded.open()
  t.equal(await newer, 'newer')
})

// ─── stamps and tags ─────────────────────────────────────────────────────────────────────────────

t.test('an invalidation raises the stamp before it deletes, so that a primed row can not slip in between', async t => {
  const [key, at] = [newKey(), newStampKey()]
  await lease(backend, [], { at })
  let seen: unknown[] = []
  const slow = backendOf(after(client, /^cas /, async () => {
    const { stamp, held } = await lease(backend, [key], { at })
    seen = [stamp.deleted, text(held[0])]
  }))
  await backend.setMany([entry(key, 'a value of more than twelve bytes')])
  await slow.forgetMany(at, someStamp(), [key])
  t.strictSame(seen, [1, 'a value of more than twelve bytes'])
  t.strictSame(await get(backend, key), [undefined])
})

t.test('an invalidation does not count as done by a change of the stamp that began before it', async t => {
  const at = newStampKey()
  const [changing, changed] = [gate(), gate()]
  const slow = backendOf(after(client, /^cas /, async () => { changing.open(); await changed.opened }))
  const { stamp } = await lease(backend, [], { at })
  const first = slow.forgetMany(at, someStamp(), [newKey()])
  await changing.opened
  const others = Promise.all([slow.forgetMany(at, someStamp(), [newKey()]), slow.forgetMany(at, someStamp(), [newKey()])])
  changed.open()
  await Promise.all([first, others])
  t.strictSame((await lease(backend, [], { at })).stamp, { ...stamp, deleted: 3 })
})

t.test('a stamp that is lost as soon as it is made is answered all the same, and nobody believes what carries it', async t => {
  const at = newStampKey()
  const forgetful = backendOf(meddler(client, /gets /, command => command.replace('gets ', `delete ${at} noreply\r\ngets `)))
  const { stamp } = await lease(forgetful, [newKey()], { at })
  t.not((await lease(backend, [], { at })).stamp.epoch, stamp.epoch)
})

t.test('many processes change one stamp at once, and no change is lost', async t => {
  const at = newStampKey()
  const processes = Array.from({ length: 8 }, () => backendOf(clientOf(t, server.port)))
  const { stamp } = await lease(backend, [], { at })
  await Promise.all(processes.flatMap(one => Array.from({ length: 20 }, async () => await one.revise(at, { kind: 'soft', stamp: someStamp() }))))
  t.strictSame((await lease(backend, [], { at })).stamp, { ...stamp, softened: 160 })
})

t.test('whoever never gets his turn to change a stamp gives up with an error', async t => {
  const at = newStampKey()
  const inTheWay = backendOf({
    options: client.options,
    send: async (data: string | Buffer) => {
      const answer = await client.send(data)
      if (data.toString().startsWith('gets ')) await client.set(at, Buffer.from(someStamp()))
      return answer
    }
  })
  await t.rejects(inTheWay.revise(at, { kind: 'soft', stamp: someStamp() }), { message: 'the stamp was changed by others 100 times' })
})

t.test('a change of a stamp that fails holds up no later one', async t => {
  const at = newStampKey()
  const [begun, failing] = [gate(), gate()]
  let sent = 0
  const shaky = backendOf({
    options: client.options,
    send: async (data: string | Buffer) => {
      if (sent++ > 0) return await client.send(data)
      begun.open()
      await failing.opened
      throw new Error('socket end')
    }
  })
  const first = shaky.revise(at, { kind: 'soft', stamp: someStamp() })
  await begun.opened
  const second = shaky.revise(at, { kind: 'soft', stamp: someStamp() })
  failing.open()
  await t.rejects(first, { message: 'socket end' })
  await second
  t.equal((await lease(backend, [], { at })).stamp.softened, 1)
})

t.test('a tag that is invalidated while it is held has no version that is too old', async t => {
  const invalidate = async (at: string, tag: string) => await backend.revise(at, { kind: 'tags', stamp: someStamp(), tagKeys: [tag] })
  for (const [moment, command] of Object.entries({ 'after its mark': /^add .*tag/, 'after the stamp was read': /^gets .*stamp\r\n/ })) {
    const at = newStampKey()
    const tag = `${at}:tag`
    await lease(backend, [], { at })
    await backendOf(after(client, command, () => invalidate(at, tag))).holdTags(at, [{ key: tag, ttl: minute }])
    const [version] = await get(backend, tag)
    t.ok(version === undefined || Number(version.split('|')[1]) >= 1, `${moment}: ${version}`)
  }
})

t.test('a tag that is held while it is invalidated has no version that is too old', async t => {
  const at = newStampKey()
  const tag = `${at}:tag`
  await lease(backend, [], { at })
  await backend.holdTags(at, [{ key: tag, ttl: minute }]) // what is not there would be an error to delete, and no moment
  const invalidating = backendOf(after(client, /^(cas|delete) /, () => backend.holdTags(at, [{ key: tag, ttl: minute }])))
  await invalidating.revise(at, { kind: 'tags', stamp: someStamp(), tagKeys: [tag] })
  const [version] = await get(backend, tag)
  t.ok(version === undefined || Number(version.split('|')[1]) >= 1, String(version))
})

t.test('while a tag has a mark and no version yet, what carries it is doubted', async t => {
  const namespace = randomUUID()
  const { region } = await regionOf(t, { tiers: [backend] }, namespace)
  await region.set('alice', 1, { tags: ['team'] })
  await region.invalidateTags('others')
  t.equal(await region.get('alice'), 1)
  const tag = `{${namespace}:people}:tag:team`
  t.strictSame((await get(backend, tag)).length, 1)
  await backend.setMany([entry(tag, '-')])
  t.equal(await region.get('alice'), undefined)
})

t.test('a tag that is held long enough costs one round trip, and another one its version', async t => {
  const at = newStampKey()
  const tag = `${at}:tag`
  const proxy = await recordingProxy(t, server.port)
  const counted = backendOf(clientOf(t, proxy.port))
  await lease(counted, [], { at })
  const commandsOf = async (ttl: number) => {
    proxy.reset()
    await counted.holdTags(at, [{ key: tag, ttl }])
    return proxy.commands
  }
  t.strictSame(await commandsOf(minute), ['add', 'gets', 'gets', 'cas'])
  t.strictSame(await commandsOf(minute), ['add', 'gets'])
  t.strictSame(await commandsOf(10 * minute), ['add', 'gets', 'gets', 'cas'], 'for longer')
  t.strictSame(await commandsOf(minute), ['add', 'gets'])
  const meddling = backendOf(meddler(client, /^add /, command => command.replace('gets ', `delete ${tag} noreply\r\ngets `)))
  await meddling.holdTags(at, [{ key: tag, ttl: minute }])
  t.strictSame(await get(backend, tag), [undefined], 'deleted in that very moment: it stays so')
})

t.test('tags, soft and hard invalidations are known to every process', async t => {
  const namespace = randomUUID()
  const a = await regionOf(t, { tiers: [backend], grace: '10s' }, namespace)
  const b = await regionOf(t, { tiers: [backendOf(clientOf(t, server.port))], grace: '10s' }, namespace)
  await a.region.setMany([['alice', 1], ['bob', 2]], { tags: ['team'] })
  await a.region.set('carol', 3, { tags: ['others'] })
  t.strictSame(await b.region.getMany(['alice', 'bob', 'carol']), [1, 2, 3])
  await b.region.invalidateTags('team')
  t.strictSame(await a.region.getMany(['alice', 'bob', 'carol']), [undefined, undefined, 3])
  await a.region.set('alice', 4, { tags: ['team'] })
  t.equal(await b.region.get('alice'), 4)
  await b.region.invalidate({ soft: true })
  t.equal(await a.region.get('alice'), undefined)
  t.equal(await a.region.get('alice', { maxAge: '1h' }), undefined)
  t.equal(await a.region.get('alice', { maxAge: Infinity }), 4)
  t.equal(await a.region.getOrCreate('alice', () => 5), 4, 'stale within grace')
  await a.manager.idle()
  t.equal(await b.region.get('alice'), 5)
  await b.region.invalidate()
  t.equal(await a.region.get('alice'), undefined)
})

// ─── lifetimes, sizes, foreign things ────────────────────────────────────────────────────────────

t.test('a ttl is seconds, one stroke of the clock more than it takes; past thirty days the second of the epoch', async t => {
  const sent: number[] = []
  const recording = backendOf({ options: client.options, send: async (data: Buffer) => { sent.push(Number(data.toString().split(' ')[3])) } })
  const day = 86_400_000
  for (const ttl of [1, 1000, 1001, 29 * day]) await recording.setMany([entry('a', 'v', ttl)])
  t.strictSame(sent, [2, 2, 3, 29 * 86_400 + 1])
  sent.length = 0
  const now = Math.floor(Date.now() / 1000)
  await recording.setMany([entry('a', 'v', 30 * day)])
  t.ok(Math.abs(sent[0]! - now - 30 * 86_400) < 10, `an absolute time: ${sent[0]}`)
  await recording.setMany([entry('a', 'v', 200 * 365 * day)])
  t.equal(sent[1], 0, 'later than memcached can count: never')
})

t.test('the server keeps values for 31 days, or for a year, as it is told', async t => {
  const namespace = randomUUID()
  const { region, manager } = await regionOf(t, { tiers: [backend], ttl: '31d' }, namespace)
  const day = 86_400
  /** What the server says. Seconds. */
  const left = async (key: string) => Number(/^HD t(\d+)\r/.exec(String(await ask(server.port, `mg ${namespace}:people:k:${key} t`, /\r\n/)))?.[1])
  await region.getOrCreate('loaded', () => 1, { tags: ['team'] })
  await manager.idle()
  await region.set('set', 2)
  await region.set('for-a-year', 3, { ttl: '365d' })
  await region.set('thirty-days', 4, { ttl: '30d' })
  for (const [key, days] of Object.entries({ loaded: 31, set: 31, 'for-a-year': 365, 'thirty-days': 30 })) {
    const seconds = await left(key)
    t.ok(seconds > days * day - 60 && seconds < days * day + 60, `${key}: ${seconds}`)
  }
  t.strictSame(await region.getMany(['loaded', 'set', 'for-a-year', 'thirty-days']), [1, 2, 3, 4])
  await region.invalidateTags('team')
  t.equal(await region.get('loaded'), undefined, 'its tag is held as long')
})

t.test('of values around a mebibyte, the smaller is kept, and the larger returned and not cached', async t => {
  const { region, manager, logger } = await regionOf(t, { tiers: [memory(), backend] })
  const mebibyte = 1_048_576
  const loads: number[] = []
  for (const size of [0, mebibyte - 1024, mebibyte, mebibyte + 1]) {
    const value = Buffer.alloc(size, 'x')
    for (let i = 0; i < 2; i++) {
      const got = await region.getOrCreate(`${size} bytes`, () => { loads.push(size); return value })
      t.ok(Buffer.isBuffer(got) && got.equals(value), `${size} bytes`)
      await manager.idle()
    }
  }
  t.strictSame(loads, [0, mebibyte - 1024, mebibyte, mebibyte, mebibyte + 1, mebibyte + 1])
  t.equal(logger.lines.warn.length, 1)
})

t.test('a value larger than the server takes is returned and not cached, with one warning', async t => {
  const { region, manager, logger } = await regionOf(t, { tiers: [memory(), backend] })
  const large = 'x'.repeat(2_000_000)
  let loads = 0
  const load = (value: string) => () => { loads++; return value }
  for (const key of ['a', 'a', 'b']) {
    t.equal(await region.getOrCreate(key, load(large)), large)
    await manager.idle()
  }
  t.equal(loads, 3)
  t.equal(await region.getOrCreate('a', load('small')), 'small')
  await manager.idle()
  t.equal(await region.get('a'), 'small')
  const of = (level: 'warn') => logger.lines[level].map(({ message }) => message)
  t.strictSame(of('warn'), ['a tier can not keep a value; further ones will not be logged'])
  t.match(logger.lines.warn[0]!.details, { tier: 'memcached', region: 'people', err: { message: 'SERVER_ERROR object too large for cache' } })
})

t.test('what is set and too large is not kept, nor what was there before, and others are', async t => {
  const [a, b] = [newKey(), newKey()]
  await backend.setMany([entry(a, 'before')])
  const failed = await backend.setMany([entry(a, 'x'.repeat(2_000_000)), entry(b, 'small')]).catch(error => error)
  t.type(failed, UnstorableError)
  t.match(failed, { keys: [a], message: 'SERVER_ERROR object too large for cache' })
  t.strictSame(await get(backend, a, b), [undefined, 'small'])

  const { region, logger } = await regionOf(t, { tiers: [backend] })
  for (let i = 0; i < 5; i++) await region.setMany<unknown>([['a', 'x'.repeat(2_000_000)], ['b', i]])
  t.strictSame(await region.getMany(['a', 'b']), [undefined, 4], 'and it is not left alone for that')
  t.equal(logger.lines.warn.length, 1)
})

t.test('of several servers, one that is away or silent costs cache objects only what is on it', async t => {
  const servers = [await startMemcached(t), await startMemcached(t)] as const
  const spread = backendOf(servers.map(({ port }) => clientOf(t, port)))
  const Item = cacheObject({ name: 'Item', backend: spread, properties: { a: property<number>(), b: property<number>() }, timeout: '1s' })
  const ids = Array.from({ length: 50 }, (_, i) => i)
  const saveAll = async () => await Promise.allSettled(ids.map(async id => {
    const item = new Item(id)
    item.a = id
    item.b = id
    await item.save()
  }))
  const read = async (name: 'a' | 'b') => (await Promise.allSettled(ids.map(id => new Item(id).get(name)))).map(one => one.status === 'fulfilled' ? one.value : 'failed')
  t.ok((await saveAll()).every(({ status }) => status === 'fulfilled'))
  t.strictSame(await read('a'), ids)

  const isOnFirst = ids.map(id => spread.serverOf(`Item.${id}.a`) === spread.serverOf('Item.0.a'))
  const onServer = async (port: number) => await ask(port, 'get Item.0.a', /END\r\n/)
  const first = (await onServer(servers[0].port))!.startsWith('VALUE') ? servers[0] : servers[1]
  const expected = ids.map(id => isOnFirst[id] ? 'failed' : id)
  t.ok(new Set(isOnFirst).size === 2)
  await silence(t, first)
  t.strictSame(await read('a'), expected, 'silent')
  const error = await Promise.all(ids.map(id => new Item(id).getAll())).catch(error => error as Error)
  t.match(error, { code: 'FST_CACHING_API_BACKEND_FAILED' })
  first.resume()
  await first.kill()
  t.strictSame(await read('a'), expected, 'away')
  const saved = await saveAll()
  const otherOf = (id: number) => spread.serverOf(`Item.${id}.b`) === spread.serverOf('Item.0.a')
  for (const id of ids) {
    const lost = [...isOnFirst[id] ? ['a'] : [], ...otherOf(id) ? ['b'] : []]
    t.match(saved[id], lost.length === 0 ? { status: 'fulfilled' } : { reason: { properties: lost } }, `saving ${id}`)
  }
})

t.test('a value that is too large takes the place of what was there: that is not found any more', async t => {
  const namespace = randomUUID()
  const large = 'x'.repeat(2_000_000)
  for (const tiers of [[backend], [memory(), backend]] as [Backend, ...Backend[]][]) {
    const { region, manager } = await regionOf(t, { tiers, grace: '1h' }, namespace)
    const { region: elsewhere } = await regionOf(t, { tiers: [backend], grace: '1h' }, namespace)
    await region.set('set', 'before')
    await region.set<string>('set', large)
    t.strictSame(await Promise.all([region.get('set'), elsewhere.get('set')]), [undefined, undefined], 'set')

    let row = 'before'
    const Rows = cachedObject({ name: 'Rows', region: 'people', methods: { get: loadOne((_context, _id: number) => row) } })
    const key = tiers.length
    t.equal(await manager.createApi().get(Rows, 'get', [key]), 'before')
    await manager.idle()
    row = large
    t.equal(await manager.createApi().refresh(Rows, 'get', [key]), large)
    await manager.idle()
    t.equal(await manager.createApi().get(Rows, 'get', [key]), large, 'refreshed')
    await manager.idle()

    await region.set('stale', 'before')
    await region.invalidate({ soft: true })
    t.equal(await region.getOrCreate('stale', () => large), 'before')
    await manager.idle()
    t.equal(await region.getOrCreate('stale', () => large), large, 'reloaded in the background')
    await manager.idle()
  }
})

t.test("what somebody else has left under a key of ours is no value, and one's own can take its place", async t => {
  const namespace = randomUUID()
  const { region, manager, logger } = await regionOf(t, { tiers: [backend] }, namespace)
  await region.set('mine', 'kept')
  const foreign: Record<string, string> = { text: '0 60 3\r\nabc', number: '4 60 2\r\n42', json: '2 60 7\r\n{"a":1}', 'broken json': '2 60 3\r\n{{{', compressed: '9 60 3\r\nabc', null: '2 60 4\r\nnull' }
  const keys = Object.keys(foreign).map(name => `foreign-${name.replace(' ', '-')}`)
  for (const [i, bytes] of Object.values(foreign).entries()) {
    t.match(await ask(server.port, `set ${namespace}:people:k:${keys[i]} ${bytes}`, /\r\n/), 'STORED')
  }
  t.strictSame(await region.getMany(['mine', ...keys]), ['kept', ...keys.map(() => undefined)])
  t.equal(logger.lines.warn.length, 1)
  t.strictSame(await region.getOrCreateMany(keys, missing => missing.map(key => `own ${key}`)), keys.map(key => `own ${key}`))
  await manager.idle()
  t.strictSame(await region.getMany(keys), keys.map(key => `own ${key}`))
})

// ─── servers that are away ───────────────────────────────────────────────────────────────────────

/** Connects to whatever listens there, until something does. */
async function isUp (port: number): Promise<boolean> {
  return await new Promise(resolve => {
    const socket = connect(port, '127.0.0.1', () => { socket.destroy(); resolve(true) })
    socket.on('error', () => resolve(false))
  })
}

t.test('a server that hangs, dies and comes back costs reads a tierTimeout and nothing else', async t => {
  const own = await startMemcached(t)
  const log = t.capture(console, 'log')
  const ownClient = clientOf(t, own.port, { cmdTimeout: 500 })
  const { region, manager } = await regionOf(t, { tiers: [memcached(ownClient)], tierTimeout: 100 })
  const load = (value: unknown) => async () => value
  t.equal(await region.getOrCreate('alice', load(1)), 1)
  await manager.idle()

  await silence(t, own)
  const started = performance.now()
  t.equal(await region.getOrCreate('alice', load(2)), 2)
  t.ok(performance.now() - started < 2000)
  await t.rejects(region.delete('alice'), { code: 'FST_CACHING_API_INVALIDATION_PENDING' })
  own.resume()
  await eventually(t, async () => await region.getOrCreate('alice', load(3)) === 3, 'it is told to forget what it held, and believed again')

  await own.kill()
  t.equal(await region.getOrCreate('bob', load(4)), 4)
  await t.rejects(region.delete('bob'), { code: 'FST_CACHING_API_INVALIDATION_PENDING' })
  await own.start()
  await eventually(t, () => isUp(own.port), 'it is up')
  await eventually(t, async () => {
    await region.getOrCreate('carol', load(5))
    await manager.idle()
    return await region.get('carol') === 5
  }, 'it keeps values again')
  t.strictSame(log(), [], 'its client had nothing to say')
})

t.test('answers that come after their tierTimeout are nobody else’s', async t => {
  const own = await startMemcached(t)
  const [ownClient, namespace] = [clientOf(t, own.port), randomUUID()]
  const { region: patient } = await regionOf(t, { tiers: [memcached(ownClient)] }, namespace)
  const { region: hasty } = await regionOf(t, { tiers: [memcached(ownClient)], tierTimeout: 100 }, namespace)
  const keys = ['alice', 'bob', 'carol', 'dave']
  await patient.setMany(keys.map(key => [key, `value of ${key}`]))
  await silence(t, own)
  t.strictSame(await Promise.all(['alice', 'bob'].map(async key => await hasty.get(key))), [undefined, undefined])
  t.equal(await hasty.getOrCreate('bob', () => 'loaded'), 'loaded')
  await t.rejects(hasty.delete('dave'), { code: 'FST_CACHING_API_INVALIDATION_PENDING' })
  // In the client's queue after all of these.
  const found = patient.getMany(['carol', 'absent', 'alice', 'bob'])
  own.resume()
  t.strictSame(await found, ['value of carol', undefined, 'value of alice', 'value of bob'])
  await eventually(t, async () => await patient.get('dave') === undefined, 'what it was told to forget is forgotten')
  await eventually(t, async () => await hasty.get('carol') === 'value of carol', 'and it is asked again')
})

t.test('a server that dies in the middle of its answer has given none', async t => {
  const own = await startMemcached(t)
  const proxy = await recordingProxy(t, own.port)
  const cutOff = backendOf(clientOf(t, proxy.port))
  const direct = backendOf(clientOf(t, own.port))
  const [at, keys] = [newStampKey(), Array.from({ length: 25 }, newKey)]
  const large = 'x'.repeat(1_000_000) // all of them together fit in no buffer on the way
  await lease(direct, [], { at })
  const asks: Record<string, () => Promise<unknown>> = {
    getMany: () => cutOff.getMany(keys),
    leaseMany: () => lease(cutOff, keys, { at })
  }
  for (const [name, asking] of Object.entries(asks)) {
    await direct.setMany(keys.map(key => entry(key, large)))
    proxy.reset()
    proxy.pause('replies')
    const answer = t.rejects(asking(), { message: /^socket / }, name)
    const written = async () => Number(/bytes_written (\d+)/.exec(String(await ask(own.port, 'stats', /END\r\n/)))?.[1])
    await eventually(t, async () => await written() > large.length, 'it has begun to answer')
    await own.kill()
    proxy.resume()
    await answer
    t.ok(proxy.bytesToClient > large.length && proxy.bytesToClient < 25 * large.length, 'a part of it had come')
    await own.start()
    await eventually(t, async () => (await cutOff.getMany([newKey()]))[0] === undefined, 'it is asked again')
    await direct.getMany(keys).catch(() => {}) // its client learns that the connection was lost
    t.strictSame(await get(cutOff, ...keys), keys.map(() => undefined), 'it came back empty')
  }
})

t.test('a server that is not there yet is used when it is', async t => {
  const own = await startMemcached(t)
  await own.kill()
  const { region, manager } = await regionOf(t, { tiers: [memcached(clientOf(t, own.port))], tierTimeout: 250 })
  t.equal(await region.getOrCreate('alice', () => 1), 1)
  await t.rejects(region.delete('alice'), { code: 'FST_CACHING_API_INVALIDATION_PENDING' })
  await own.start()
  await eventually(t, async () => {
    await region.getOrCreate('alice', () => 2)
    await manager.idle()
    return await region.get('alice') === 2
  }, 'it keeps values')
})

t.test('a server that comes back empty is filled again', async t => {
  const own = await startMemcached(t)
  const ownClient = clientOf(t, own.port)
  const { region, manager } = await regionOf(t, { tiers: [memcached(ownClient)] })
  await region.set('alice', 1, { tags: ['team'] })
  await reborn(own)
  await eventually(t, async () => await ownClient.get('x') === undefined, 'it is back')
  t.equal(await region.get('alice'), undefined)
  await region.delete('alice')
  await region.invalidateTags('team')
  t.equal(await region.getOrCreate('alice', () => 2, { tags: ['team'] }), 2)
  await manager.idle()
  t.equal(await region.get('alice'), 2)
  await region.invalidateTags('team')
  t.equal(await region.get('alice'), undefined)
})

// ─── servers that are started otherwise ──────────────────────────────────────────────────────────

/** One that evicts nothing, and what takes all of its room for things as small as those of a region. */
async function startUnevicting (t: Test) {
  const own = await startMemcached(t, { args: ['-m', '2', '-M'] })
  const filler = clientOf(t, own.port)
  const fillUp = async () => {
    let made = 0
    const item = (size: number, reply: string) => `add filler-${made++} 8 0 ${size}${reply}\r\n${'x'.repeat(size)}\r\n`
    for (let size = 1; size < 400; size += 15) {
      for (let isFull = false; !isFull;) {
        const several = Array.from({ length: 1000 }, () => item(size, ' noreply')).join('')
        isFull = await filler.send(several + item(size, '')).then(() => false, error => /out of memory/.test(String(error)))
      }
    }
  }
  return { client: clientOf(t, own.port), others: clientOf(t, own.port), fillUp }
}

t.test('where a server has no room and may evict nothing, values are returned and not cached, with one warning', async t => {
  const { client, fillUp } = await startUnevicting(t)
  const { region, manager, logger } = await regionOf(t, { tiers: [memory(), memcached(client)] })
  await fillUp()
  let loads = 0
  for (let i = 0; i < 5; i++) {
    t.equal(await region.getOrCreate('alice', () => ++loads), i + 1)
    await manager.idle()
  }
  await region.set('bob', 1)
  await region.delete('alice')
  await region.invalidate()
  t.strictSame(await region.getMany(['alice', 'bob']), [undefined, undefined])
  t.strictSame(logger.lines.warn.map(({ message }) => message), ['a tier can not keep a value; further ones will not be logged'])
  t.match(logger.lines.warn[0]!.details, { tier: 'memcached', err: { message: 'SERVER_ERROR out of memory storing object' } })
})

t.test('where a server has no room, whatever is invalidated or replaced is gone in all processes', async t => {
  const invalidations: Record<string, (region: Region) => Promise<unknown>> = {
    'a key': region => region.delete('alice'),
    'a tag': region => region.invalidateTags('team'),
    'the region': region => region.invalidate(),
    'the region, softly': region => region.invalidate({ soft: true }),
    'a value that is set': region => region.set('alice', 'new')
  }
  const { client, others, fillUp } = await startUnevicting(t)
  const regions = await Promise.all(Object.entries(invalidations).map(async ([name, invalidate]) => {
    const namespace = randomUUID()
    const { region } = await regionOf(t, { tiers: [memcached(client)] }, namespace)
    const { region: other } = await regionOf(t, { tiers: [memcached(others)] }, namespace)
    await region.set('alice', 'old', { tags: ['team'] })
    t.equal(await other.get('alice'), 'old')
    return { name, region, other, invalidate }
  }))
  for (const { name, region, other, invalidate } of regions) {
    await fillUp()
    await invalidate(region)
    const [mine, theirs] = [await region.get('alice'), await other.get('alice')]
    t.not(mine, 'old', name)
    t.not(theirs, 'old', name)
  }
})

t.test('a lease that there is no room for fills nothing, and says why', async t => {
  const { client, fillUp } = await startUnevicting(t)
  const full = backendOf(client)
  const [at, key, old] = [newStampKey(), newKey(), newKey()]
  await lease(full, [], { at })
  await full.setMany([entry(old, 'x'.repeat(400))])
  await fillUp()
  const { held } = await lease(full, [key, old], { at })
  const [none, refused] = await full.fillMany([{ ...entry(key, 'value'), lease: held[0]! }, { ...entry(old, 'x'.repeat(300)), lease: held[1]! }])
  t.match(none, { message: 'SERVER_ERROR out of memory storing object' })
  t.match(refused, { message: 'SERVER_ERROR out of memory storing object' })
  const { held: [taken] } = await lease(full, [old], { at, takeOver: true })
  t.not((await full.fillMany([{ ...entry(old, 'late'), lease: held[1]! }]))[0], true, 'who had the right before has lost it')
  t.match(await full.fillMany([{ ...entry(old, 'value'), lease: taken! }]), [{ message: 'SERVER_ERROR out of memory storing object' }])
})

t.test('a server that can not compare and swap is not used, and says why', async t => {
  const own = await startMemcached(t, { args: ['-C'] })
  const { region, manager, logger } = await regionOf(t, { tiers: [memcached(clientOf(t, own.port))] })
  for (let i = 0; i < 4; i++) {
    t.equal(await region.getOrCreate('alice', () => i), i)
    await manager.idle()
  }
  t.match(logger.lines.warn, [{ message: 'a tier is away: it is left alone, and probed', details: { err: { message: `memcached at 127.0.0.1:${own.port} was started with -C: nothing can be compared and swapped` } } }])
})

// ─── of several servers ──────────────────────────────────────────────────────────────────────────

t.test('one dead server of several fails what is asked of it, and only that', async t => {
  const servers = await Promise.all([startMemcached(t), startMemcached(t), startMemcached(t)])
  const several = backendOf(servers.map(({ port }) => clientOf(t, port)))
  const keys = servers.flatMap(({ port }) => Array.from({ length: 10 }, () => keyOn(several, `127.0.0.1:${port}`)))
  await several.setMany(keys.map(key => entry(key, key)))
  await servers[1]!.kill()
  const found = await Promise.allSettled(keys.map(key => get(several, key)))
  t.same(found.map(one => one.status === 'fulfilled' && one.value[0]), keys.map((key, i) => i >= 10 && i < 20 ? false : key))
  await t.rejects(several.getMany(keys), 'no miss is made up')
  await t.rejects(several.setMany(keys.map(key => entry(key, key))))
  await t.rejects(several.deleteMany(keys))
  await t.rejects(lease(several, keys))
  await t.rejects(lease(several, keys, { takeOver: true }))
})

/** The same client, and how often it was asked for something. */
function counted (client: MemcachedLike) {
  const one = { sent: 0, options: client.options, send: async (data: string | Buffer) => { one.sent++; return await client.send(data) } }
  return one
}

/** A client of nobody: what it answers is the test's. */
const actor = (server: string, answer: () => Promise<unknown>) => counted({ options: { server }, send: answer })
const stored = async () => ['STORED']

/** Where it is kept, of several. */
const addressOf = (several: MemcachedBackend, key: string) => (several.serverOf(key) as unknown as { address: string }).address

function keyOn (several: MemcachedBackend, address: string, make = newKey): string {
  for (;;) {
    const key = make()
    if (addressOf(several, key) === address) return key
  }
}

/** However long the test is held up: of what is asked for in one moment, at most a probe is sent. */
async function isLeftAlone (t: Test, several: MemcachedBackend, key: string, client: { sent: number }): Promise<void> {
  const before = client.sent
  const asked = await Promise.allSettled(Array.from({ length: 20 }, async () => await several.getMany([key])))
  const refused = asked.filter(one => one.status === 'rejected' && (one.reason as Error).message === `memcached at ${addressOf(several, key)} is left alone since it failed`)
  t.ok(refused.length >= 19, `${refused.length} of 20 are refused`)
  t.ok(client.sent - before <= 1, `${client.sent - before} sent`)
}

t.test('a server of several that is silent is left alone, the others are not, and it is used again when it answers', async t => {
  const servers = [await startMemcached(t), await startMemcached(t)] as const
  const clients = servers.map(({ port }) => counted(clientOf(t, port)))
  const both = backendOf(clients)
  const logger = silentLogger()
  both.allow(1000, logger)
  const [mute, speaking] = servers.map(({ address }) => keyOn(both, address)) as [string, string]
  await both.setMany([entry(mute, 'mute'), entry(speaking, 'speaking')])

  await silence(t, servers[0])
  const unanswered = { message: `memcached at ${servers[0].address} did not answer within 1000 ms` }
  await Promise.all([
    ...[1, 2, 3].map(async () => await t.rejects(both.getMany([mute]), unanswered)),
    ...[1, 2, 3].map(async () => t.strictSame(await get(both, speaking), ['speaking']))
  ])
  await isLeftAlone(t, both, mute, clients[0]!)
  t.strictSame(await get(both, speaking), ['speaking'])
  await t.rejects(both.getMany([speaking, mute]), 'no miss is made up')
  t.match(logger.lines.warn, [{ details: { tier: `memcached at ${servers[0].address}`, err: unanswered }, message: 'a tier is away: it is left alone, and probed' }])

  servers[0].resume()
  await eventually(t, async () => (await get(both, mute))[0] === 'mute', 'it is used again')
  t.strictSame(logger.lines.info, [{ details: { tier: `memcached at ${servers[0].address}` }, message: 'a tier is back' }])
  const before = clients[0]!.sent
  t.strictSame(await Promise.all(Array.from({ length: 20 }, async () => (await get(both, mute))[0])), Array.from({ length: 20 }, () => 'mute'))
  t.equal(clients[0]!.sent - before, 20)
})

t.test('a region goes on with the servers that answer, however many reads of the silent one fail in between', async t => {
  const servers = [await startMemcached(t), await startMemcached(t)] as const
  const both = backendOf(servers.map(({ port }) => clientOf(t, port)))
  // The stamp is on the one that will answer.
  const stampKey = keyOn(both, servers[1].address, () => `{${randomUUID()}:people}:stamp`)
  const namespace = stampKey.slice(1, stampKey.indexOf(':'))
  const [mute, speaking] = servers.map(({ address }) => keyOn(both, address, () => `${namespace}:people:k:${newKey()}`).split(':').at(-1)) as [string, string]
  const { region, logger } = await regionOf(t, { tiers: [both], tierTimeout: '1s' }, namespace)
  await region.setMany([[mute, 'mute'], [speaking, 'speaking']])
  t.strictSame(await region.getMany([mute, speaking]), ['mute', 'speaking'])

  await silence(t, servers[0])
  for (let i = 0; i < 3; i++) {
    t.equal(await region.get(mute), undefined)
    t.equal(await region.get(speaking), 'speaking')
  }
  for (let round = 0; round < 5; round++) {
    for (let i = 0; i < 4; i++) t.equal(await region.get(mute), undefined)
    t.equal(await region.get(speaking), 'speaking', `round ${round}`)
  }
  t.match(logger.lines.warn, [{ details: { tier: `memcached at ${servers[0].address}` } }], 'the region has told how long it waits, and where to log; the tier as a whole is not away')
  servers[0].resume()
  await eventually(t, async () => await region.get(mute) === 'mute', 'it is used again')
})

t.test('a server that refuses connections, or drops them, is left alone as well', async t => {
  for (const message of ['connect ECONNREFUSED 127.0.0.1:1', 'socket end', 'Command timeout', 'No more valid servers left']) {
    const lost = actor('a:1', async () => { throw new Error(message) })
    const both = backendOf([lost, actor('b:1', stored)])
    both.allow(minute) // nobody has told where to log
    const [away, there] = [keyOn(both, 'a:1'), keyOn(both, 'b:1')]
    for (let i = 0; i < 3; i++) await t.rejects(both.setMany([entry(away, 'v')]), { message })
    await isLeftAlone(t, both, away, lost)
    await both.setMany([entry(there, 'v')])
  }
})

t.test('a server that is left alone and comes back is used again, also where nobody logs', async t => {
  let isAway = true
  const changing = actor('a:1', async () => {
    if (isAway) throw new Error('socket end')
    return await stored()
  })
  const both = backendOf([changing, actor('b:1', stored)])
  both.allow(minute)
  const key = keyOn(both, 'a:1')
  for (let i = 0; i < 3; i++) await t.rejects(both.setMany([entry(key, 'v')]), { message: 'socket end' })
  isAway = false
  await eventually(t, async () => { await both.setMany([entry(key, 'v')]); return true }, 'it is used again')
})

t.test('a server that answers with an error has answered', async t => {
  const answers = ['NOT_STORED', 'EXISTS', 'NOT_FOUND', 'ERROR', 'CLIENT_ERROR bad data chunk', 'SERVER_ERROR out of memory storing object', 'SERVER_ERROR object too large for cache']
  for (const message of answers) {
    const refusing = actor('a:1', async () => { throw new Error(message) })
    const both = backendOf([refusing, actor('b:1', stored)])
    both.allow(minute)
    const key = keyOn(both, 'a:1')
    for (let i = 0; i < 10; i++) await both.setMany([entry(key, 'v')]).catch(error => t.equal((error as Error).message, message))
    t.equal(refusing.sent, 10, message)
  }

  const servers = [await startMemcached(t), await startMemcached(t)] as const
  const both = backendOf(servers.map(({ port }) => clientOf(t, port)))
  both.allow(minute)
  const key = keyOn(both, servers[0].address)
  for (let i = 0; i < 5; i++) await t.rejects(both.setMany([entry(key, 'x'.repeat(2_000_000))]), { keys: [key], message: 'SERVER_ERROR object too large for cache' })
  for (let i = 0; i < 5; i++) await both.deleteMany([key])
  for (const foreign of ['2 60 3\r\n{{{', '9 60 3\r\nabc']) {
    const keys = Array.from({ length: 5 }, () => keyOn(both, servers[0].address))
    for (const one of keys) await ask(servers[0].port, `set ${one} ${foreign}`, /\r\n/)
    t.strictSame(await Promise.all(keys.map(async one => (await get(both, one))[0])), keys.map(() => undefined), 'what is not understood')
  }
  await both.setMany([entry(key, 'kept')])
  t.strictSame(await get(both, key), ['kept'])
})

t.test('how long a server may take is the largest that it was told; a single one, or one that was told nothing, has no breaker', async t => {
  const silent = () => actor('a:1', async () => await new Promise(() => {}))
  const both = backendOf([silent(), actor('b:1', stored)])
  for (const milliseconds of [1, 3, 2]) both.allow(milliseconds)
  await t.rejects(both.getMany([keyOn(both, 'a:1')]), { message: 'memcached at a:1 did not answer within 3 ms' })

  const lost = () => actor('a:1', async () => { throw new Error('socket end') })
  const [single, untold] = [lost(), lost()]
  const one = backendOf(single)
  one.allow(minute)
  const two = backendOf([untold, actor('b:1', stored)])
  for (const [backend, client] of [[one, single], [two, untold]] as const) {
    const key = keyOn(two, 'a:1')
    for (let i = 0; i < 10; i++) await t.rejects(backend.getMany([key]), { message: 'socket end' })
    t.equal(client.sent, 10)
  }
})
