import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import t, { type Test } from 'tap'
import { redlock } from '../../../lib/locks/redlock.js'
import { memory } from '../../../lib/backends/memory.js'
import { redis } from '../../../lib/backends/redis.js'
import { heldLoad } from '../../helpers/doubles.js'
import { clientOf, processOf } from '../../helpers/regions.js'
import { startRedis } from '../../helpers/servers.js'

const server = await startRedis(t, { shared: true })
const client = clientOf(t, server.port)

const everything = () => ({
  date: new Date(1),
  map: new Map<unknown, unknown>([['a', { b: [1] }], [1n, new Set(['x'])]]),
  set: new Set([1, '1', { deep: true }]),
  big: 2n ** 70n,
  buffer: Buffer.from('bytes'),
  floats: new Float64Array([1.5, -0, NaN]),
  nan: NaN,
  minusZero: -0,
  infinite: -Infinity,
  none: undefined,
  nested: { nothing: null, none: undefined, list: [null, undefined, { date: new Date(2) }] },
  text: 'ünïcödé \0 \ud800',
  pattern: /a+/gi
})

const equal = (t: Test, actual: unknown, expected: unknown, message: string) => t.doesNotThrow(() => assert.deepStrictEqual(actual, expected), message)

t.test('a value is the same from a loader, from memory and from Redis', async t => {
  const values: unknown[] = [everything(), everything().date, everything().map, everything().set, 1n, everything().buffer, NaN, -0, null, '', false, [undefined, null, -0]]
  for (const [i, value] of values.entries()) {
    const namespace = randomUUID()
    const { region, manager } = await processOf(t, { tiers: [memory(), redis(client)] }, { namespace })
    equal(t, await region.getOrCreate('key', () => value), value, `${i} from the loader`)
    await manager.idle()
    equal(t, await region.get('key'), value, `${i} from memory`)
    const other = await processOf(t, { tiers: [memory(), redis(client)] }, { namespace })
    equal(t, await other.region.get('key'), value, `${i} from Redis`)
    equal(t, await other.region.get('key'), value, `${i} from a memory that was filled by Redis`)
  }
})

/** Tries all that can be done to a value. What is frozen throws, which is as good. */
function spoil (value: unknown): void {
  if (typeof value !== 'object' || value === null) return
  const attempt = (change: () => unknown) => { try { change() } catch {} }
  if (value instanceof Date) value.setTime(12345)
  else if (value instanceof Map) { for (const inner of value.values()) spoil(inner); value.clear() } else if (value instanceof Set) { for (const inner of value) spoil(inner); value.clear() } else if (ArrayBuffer.isView(value)) new Uint8Array(value.buffer, value.byteOffset, value.byteLength).fill(7)
  else {
    for (const inner of Object.values(value)) spoil(inner)
    for (const name of Object.keys(value)) attempt(() => { delete (value as Record<string, unknown>)[name] })
    attempt(() => { (value as Record<string, unknown>)['added'] = true })
  }
}

t.test('what is decoded for one reader alone is its own, and nobody else\'s', async t => {
  const namespace = randomUUID()
  const value = () => ({ name: 'alice', nested: { list: [1] } })
  const writer = await processOf(t, { tiers: [redis(client)] }, { namespace })
  await writer.region.set('alice', value())

  const spoilt = async (label: string, ...reads: readonly (() => Promise<unknown>)[]) => {
    for (const [i, one] of (await Promise.all(reads.map(read => read()))).entries()) {
      equal(t, one, value(), `${label}: ${i}`)
      spoil(one)
    }
  }
  const { region, manager } = await processOf(t, { tiers: [redis(client)] }, { namespace })
  const region2 = manager.createApi().region('people')
  const [look, create] = [() => region.get('alice'), () => region.getOrCreate('alice', () => 0)]
  for (let again = 0; again < 2; again++) await spoilt('one after the other', create)
  await spoilt('one that only looks', look)
  await spoilt('several that only look', look, look, () => region2.get('alice'))
  await spoilt('two of one flight', create, create)
  await spoilt('one that only looks, and one that would load', look, create)

  const near = await processOf(t, { tiers: [memory(), redis(client)] }, { namespace })
  for (let again = 0; again < 3; again++) await spoilt('a memory in front', () => near.region.getOrCreate('alice', () => 0))
  const behind = await processOf(t, { tiers: [redis(client), memory()] }, { namespace })
  for (let again = 0; again < 3; again++) await spoilt('a memory behind', () => behind.region.getOrCreate('alice', () => 0))

  const cyclic: Record<string, unknown> = { inner: { changed: 0 } }
  cyclic['self'] = cyclic
  await writer.region.set('cyclic', cyclic)
  for (let again = 0; again < 2; again++) {
    const { inner } = await region.getOrCreate('cyclic', () => cyclic) as { inner: unknown }
    t.notOk(Object.isFrozen(inner), 'where freezing would not do, all of it is the reader\'s own')
  }

  const kept = value()
  const own = await processOf(t, { tiers: [redis(client)], serializer: { encode: () => Buffer.from('alice'), decode: () => kept } })
  await own.region.set('alice', 0)
  for (let again = 0; again < 2; again++) await spoilt('a serializer that keeps what it gives', () => own.region.getOrCreate('alice', () => 0))
})

t.test('whatever one reader does to its value, no other sees it; and nothing is done to what the loader gave', async t => {
  const namespace = randomUUID()
  const { region, manager } = await processOf(t, { tiers: [memory(), redis(client)] }, { namespace })
  const other = await processOf(t, { tiers: [memory(), redis(client)] }, { namespace })
  const given = everything()
  const { load, end } = heldLoad(given)
  const reads = Array.from({ length: 3 }, async () => await region.getOrCreate('key', load))
  end()
  const [first, second, third] = await Promise.all(reads)
  spoil(first)
  equal(t, second, everything(), 'one who waited for the same load')
  spoil(second)
  equal(t, third, everything(), 'another one')
  equal(t, given, everything(), "the loader's own")
  t.notOk(Object.isFrozen(given.nested))
  spoil(given)
  await manager.idle()
  for (const place of ['from Redis', 'from memory', 'from memory again']) {
    for (const reader of [region, other.region]) {
      const read = await reader.get('key')
      equal(t, read, everything(), place)
      spoil(read)
    }
  }

  const set = everything()
  await region.set('set', set)
  spoil(set)
  equal(t, await region.get('set'), everything(), 'what was set')
})

t.test('a stale value that many are served is each one\'s own, too', async t => {
  const { region, clock } = await processOf(t, { tiers: [redis(client)], grace: '1h', refresh: 'inline' })
  await region.set('key', everything())
  clock.advance(10_000)
  const { load, begun, end } = heldLoad(everything())
  const first = region.getOrCreate('key', load)
  await begun
  spoil(await region.getOrCreate('key', load))
  equal(t, await region.getOrCreate('key', load), everything(), 'stale')
  end()
  equal(t, await first, everything(), 'new')
})

t.test('a value that cannot be copied reaches all who wait for it, is not kept, and is warned of once', async t => {
  const { region, manager, logger } = await processOf(t, { tiers: [memory(), redis(client)] }, { lock: redlock([client]) })
  const value = { greet: () => 'hello' }
  const { load, begun, end } = heldLoad(value)
  const reads = [region.getOrCreate('alice', load), region.getOrCreate('alice', load)]
  await begun
  reads.push(region.getOrCreate('alice', load))
  end()
  for (const read of reads) t.equal((await read).greet(), 'hello')
  t.equal(load.calls, 1)
  t.equal(await region.getOrCreate('bob', () => Symbol.iterator as unknown), Symbol.iterator)
  await manager.idle()
  t.strictSame(await region.getMany(['alice', 'bob']), [undefined, undefined])
  t.match(logger.lines.warn, [{ message: /a value can not be cached/, details: { region: 'people', err: { message: /function/ } } }])
})

t.test('a value that is nested too deeply reaches all who wait for it, is not kept, and is refused by set in words', async t => {
  const { region, manager, logger } = await processOf(t, { tiers: [memory(), redis(client)] })
  interface Nested { below?: Nested }
  const abyss: Nested = {}
  for (let level = 0, at = abyss; level < 20_000; level++) at = at.below = {}
  t.equal((await region.getOrCreate('deep', () => abyss)).below, abyss.below)
  await manager.idle()
  t.equal(await region.get('deep'), undefined)
  t.match(logger.lines.warn, [{ message: /a value can not be cached/, details: { err: { message: /more than 500 levels/ } } }])
  await t.rejects(region.set('deep', abyss), { code: 'FST_CACHING_API_INVALID_ARGUMENT', message: /more than 500 levels/ })
})

t.test('a value that the serializer refuses reaches all who wait for it, is not kept, and is warned of once', async t => {
  for (const lock of [undefined, redlock([client]), redlock([clientOf(t, server.port)])]) {
    const json = { encode: (value: unknown) => Buffer.from(JSON.stringify(value)), decode: (bytes: Uint8Array) => JSON.parse(Buffer.from(bytes).toString()) }
    const { region, manager, logger } = await processOf(t, { tiers: [memory(), redis(client)], serializer: json }, lock && { lock })
    t.strictSame(await region.getOrCreateMany(['alice', 'bob', 'carol'], (): unknown[] => [1n, 'b', 2n]), [1n, 'b', 2n])
    await manager.idle()
    t.strictSame(await region.getMany(['alice', 'bob', 'carol']), [undefined, 'b', undefined], 'not even in memory')
    t.equal(logger.lines.warn.length, 1)
  }
})
