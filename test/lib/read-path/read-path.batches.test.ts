import { randomUUID } from 'node:crypto'
import t from 'tap'
import { cachedObject, loadMany, loadOne } from '../../../lib/cached-object.js'
import { memory } from '../../../lib/backends/memory.js'
import { redis } from '../../../lib/backends/redis.js'
import { MapBackend } from '../../helpers/backend-doubles.js'
import { lockThat } from '../../helpers/dogpile.js'
import { countingLoader, gate, heldLoad } from '../../helpers/doubles.js'
import { clientOf, processOf } from '../../helpers/regions.js'
import { startRedis } from '../../helpers/servers.js'

const client = clientOf(t, (await startRedis(t, { shared: true })).port)

t.test('the keys that are missing in one tick make one question to each tier and one call of the loader', async t => {
  const near = new MapBackend('near')
  const far = new MapBackend('far')
  const { manager } = await processOf(t, { tiers: [memory(), near, far] })
  const { load, idOf, calls } = countingLoader(Array.from({ length: 100 }, (_, id) => ({ id })))
  const City = cachedObject({ name: 'City', region: 'people', methods: { getById: loadMany({ load, idOf }) } })

  // Of ten requests, some later than others in the same tick.
  const reads = Array.from({ length: 10 }, async (_, request) => {
    const api = manager.createApi()
    for (let later = 0; later < request; later++) await Promise.resolve()
    return await api.getMany(City, 'getById', Array.from({ length: 20 }, (_, i) => request * 9 + i))
  })
  const rows = await Promise.all(reads)
  for (const [request, found] of rows.entries()) t.strictSame(found.map(row => row?.id ?? null), Array.from({ length: 20 }, (_, i) => request * 9 + i < 100 ? request * 9 + i : null))

  t.equal(calls.length, 1)
  t.equal(calls[0]!.length, 101, 'each id once')
  for (const { name, reads } of [near, far]) {
    t.equal(reads.length, 1, `${name} was asked once`)
    for (const keys of reads) t.equal(new Set(keys).size, 101)
  }

  await manager.idle()
  near.kept.clear()
  near.reads.length = far.reads.length = 0
  const other = await processOf(t, { tiers: [memory(), near, far] }, { namespace: manager.region('people').keyspace.prefix.split(':')[0]! })
  await other.manager.createApi().getMany(City, 'getById', [1, 2, 3])
  t.equal(calls.length, 1)
  t.strictSame([near.reads[0]!.length, far.reads[0]!.length], [3, 3])
})

t.test('more keys than a command of Redis is for are looked for in parts, all at once, and loaded together', async t => {
  const namespace = randomUUID()
  const asked: number[] = []
  const door = gate()
  const backend = redis(client)
  const getMany = backend.getMany.bind(backend)
  backend.getMany = async keys => {
    asked.push(keys.length)
    if (asked.length === 2) await door.opened
    return await getMany(keys)
  }
  const { load, idOf, calls } = countingLoader(Array.from({ length: 2500 }, (_, id) => ({ id })))
  const City = cachedObject({ name: 'City', region: 'people', methods: { getById: loadMany({ load, idOf }) } })
  const ids = Array.from({ length: 2500 }, (_, id) => id)
  const found = ids.filter(id => id % 1000 !== 7)
  const other = await processOf(t, { tiers: [redis(client)] }, { namespace })
  await other.manager.createApi().getMany(City, 'getById', found)
  await other.manager.idle()
  t.strictSame(calls.splice(0).map(call => call.length), [1000, 1000, 497], 'by maxBatch')

  const { manager } = await processOf(t, { tiers: [backend] }, { namespace })
  const api = manager.createApi()
  const first = api.get(City, 'getById', [0])
  const all = api.getMany(City, 'getById', ids)
  t.equal((await first)?.id, 0, 'the first part has landed')
  t.strictSame(asked, [1001, 1001, 501], 'while the second one is on its way; each with the stamp')
  t.strictSame(calls, [])
  door.open()
  t.strictSame((await all).map(row => row?.id), ids)
  t.strictSame(calls, [[7, 1007, 2007]], 'what is missing of all parts is loaded together')
  t.match(api.stats, { tiers: { redis: 2497 }, loaded: 3 })
  const [, seconds] = /cache-redis;desc="2497";dur=([\d.]+)/.exec(api.serverTiming) ?? []
  t.ok(Number(seconds) > 0, api.serverTiming)

  await manager.idle()
  asked.length = 0
  await manager.createApi().getMany(City, 'getById', ids.slice(0, 1000))
  t.strictSame(asked, [1001])
})

t.test('a part that can\'t be looked for fails nobody, and holds up no other', async t => {
  const namespace = randomUUID()
  const backend = redis(client)
  const getMany = backend.getMany.bind(backend)
  let asked = 0
  backend.getMany = async keys => {
    if (++asked === 2) throw new Error('away')
    return await getMany(keys)
  }
  const keys = Array.from({ length: 1500 }, (_, i) => `k${i}`)
  const other = await processOf(t, { tiers: [redis(client)] }, { namespace })
  await other.region.setMany(keys.map(key => [key, key]))
  const { region } = await processOf(t, { tiers: [backend] }, { namespace })
  t.strictSame(await region.getMany(keys), keys.map((key, i) => i < 1000 ? key : undefined))
  t.equal(asked, 2)
})

t.test('a batch that is larger than maxBatch is split', async t => {
  const { manager } = await processOf(t, { tiers: [memory()] })
  const { load, idOf, calls } = countingLoader(Array.from({ length: 100 }, (_, id) => ({ id })))
  const City = cachedObject({ name: 'City', region: 'people', methods: { getById: loadMany({ load, idOf, maxBatch: 40 }) } })
  const ids = Array.from({ length: 100 }, (_, id) => id)
  t.strictSame((await manager.createApi().getMany(City, 'getById', ids)).map(row => row?.id), ids)
  t.strictSame(calls.map(call => call.length), [40, 40, 20])
})

t.test('what a load finds besides is there for those who want it', async t => {
  const namespace = randomUUID()
  const { manager } = await processOf(t, { tiers: [memory(), redis(client)] }, { namespace })
  const { load, idOf, calls } = countingLoader([{ id: 1, name: 'alice' }, { id: 2, name: 'bob' }])
  const names: string[] = []
  const Person = cachedObject({
    name: 'Person',
    region: 'people',
    methods: {
      byId: loadMany({ load, idOf, primes: { byName: row => [row.name] } }),
      byName: loadOne((_context, name: string) => { names.push(name); return { id: 0, name } })
    }
  })
  t.equal((await manager.createApi().getMany(Person, 'byId', [1, 2, 3])).length, 3)
  await manager.idle()
  const other = await processOf(t, { tiers: [redis(client)] }, { namespace })
  for (const api of [manager.createApi(), other.manager.createApi()]) {
    t.strictSame(await api.getMany(Person, 'byName', ['alice', 'bob']), [{ id: 1, name: 'alice' }, { id: 2, name: 'bob' }])
  }
  t.equal(calls.length, 1)
  t.strictSame(names, [])
})

t.test('a key that is known does not wait for one that is not', async t => {
  const namespace = randomUUID()
  const other = await processOf(t, { tiers: [redis(client)] }, { namespace })
  await other.region.set('in redis', 2)
  const { region } = await processOf(t, { tiers: [memory(), redis(client)] }, { namespace })
  await region.set('in memory', 1)

  const { load, end } = heldLoad(3)
  const missing = region.getOrCreate('missing', load)
  t.equal(await region.getOrCreate('in memory', () => 0), 1)
  const inRedis = region.getOrCreate('in redis', () => 0)
  const failing = region.getOrCreate('failing', () => { throw new Error('no luck') })
  t.equal(await inRedis, 2)
  await t.rejects(failing, { message: 'no luck' })
  end()
  t.equal(await missing, 3)
})

t.test('the lock is asked for what was not found before those go on who have found something', async t => {
  const order: string[] = []
  const lock = lockThat(async () => { order.push('the lock'); return undefined })
  const { manager } = await processOf(t, { tiers: [new MapBackend()], lockWait: 1 }, { lock })
  const Person = cachedObject({ name: 'Person', region: 'people', methods: { getById: loadMany({ load: (_context, ids: readonly number[]) => ids.map(id => ({ id })), idOf: row => row.id }) } })
  await manager.createApi().set(Person, 'getById', [1], { id: 1 })
  await Promise.all([1, 2].map(async id => {
    await manager.createApi().get(Person, 'getById', [id])
    order.push(`${id}`)
  }))
  t.strictSame(order.slice(0, 2), ['the lock', '1'])
})

t.test('one tick, one key, two ages: it is loaded once', async t => {
  for (const tiers of [[memory()], [redis(client)]] as const) {
    const { region } = await processOf(t, { tiers })
    const { load, end } = heldLoad('value')
    const reads = [region.getOrCreate('alice', load), region.getOrCreate('alice', load, { maxAge: '1s' }), region.get('alice')]
    t.equal(await reads[2], undefined, 'get does not wait for a load')
    end()
    t.strictSame(await Promise.all(reads), ['value', 'value', undefined])
    t.equal(load.calls, 1)
  }
})

t.test('somebody who asks for an age joins what is loading, and does not take what is already there for new', async t => {
  const backend = new MapBackend()
  const { region, manager } = await processOf(t, { tiers: [backend] })
  const { load, begun, end } = heldLoad('first')
  const first = region.getOrCreate('alice', load)
  await begun
  const second = region.getOrCreate('alice', load, { maxAge: 0 })
  end()
  t.strictSame(await Promise.all([first, second]), ['first', 'first'])

  const written = gate()
  const setMany = backend.setMany.bind(backend)
  backend.setMany = async entries => { await written.opened; await setMany(entries) }
  t.equal(await region.getOrCreate('bob', () => 'first'), 'first')
  t.equal(await region.getOrCreate('bob', () => 'second'), 'first', 'on its way into the tier')
  t.equal(await region.getOrCreate('bob', () => 'third', { maxAge: 0 }), 'third')
  written.open()
  await manager.idle()
})

t.test('who only looks is given what was loaded, though it is still on its way into a tier', async t => {
  const backend = new MapBackend()
  const { region, manager, clock } = await processOf(t, { tiers: [backend] })
  await region.set('bob', 'there is a stamp')
  const held = gate()
  t.capture(backend, 'setMany', async () => { await held.opened })
  const { load, begun, end } = heldLoad('value')
  const [creating, looking] = [region.getOrCreate('alice', load), region.get('alice')]
  await begun
  t.equal(await looking, undefined, 'not before it is there')
  end()
  await creating
  t.strictSame([await region.get('alice'), await region.getMany(['alice', 'nobody']), await region.get('alice', { maxAge: 1000 })], ['value', ['value', undefined], undefined])
  clock.advance(10_000)
  t.equal(await region.get('alice'), undefined, 'nor when its time is over')
  held.open()
  await manager.idle()
})
