import { isDeepStrictEqual } from 'node:util'
import t, { type Test } from 'tap'
import type { LocalEntry } from '../../../lib/backends/backend.js'
import { memory, type MemoryBackend, type MemoryOptions } from '../../../lib/backends/memory.js'
import { newStamp } from '../../../lib/stamp.js'
import { copyIn } from '../../../lib/values.js'

const memoryOf = (options?: MemoryOptions) => memory(options) as MemoryBackend
const generation = { epoch: 0, softened: 0, tagged: 0, deleted: 0 }
const entryOf = (value: unknown): LocalEntry =>
  ({ ...copyIn(value), loadedAt: 0, freshUntil: 1, staleUntil: 1, tags: [], stamp: newStamp(), generation, validIn: generation, usedAt: 0, shortcuts: undefined, alias: undefined })

t.test('an entry is kept as it is, until it is deleted', async t => {
  const backend = memoryOf()
  const entry = entryOf({ id: 1 })
  t.equal(backend.getEntry('a'), undefined)
  backend.setEntry('a', entry)
  t.equal(backend.getEntry('a'), entry)
  backend.deleteEntry('a')
  t.equal(backend.getEntry('a'), undefined)
  backend.deleteEntry('a')
})

t.test('the least recently used make room for more than maxEntries', async t => {
  const backend = memoryOf({ maxEntries: 3 })
  for (const key of ['a', 'b', 'c']) backend.setEntry(key, entryOf(key))
  backend.getEntry('a')
  backend.setEntry('d', entryOf('d'))
  t.strictSame(['a', 'b', 'c', 'd'].map(key => backend.getEntry(key)?.value), ['a', undefined, 'c', 'd'])
})

t.test('an entry is used without its key for as long as it could not be among the next to make room', async t => {
  const backend = memoryOf({ maxEntries: 16 })
  const entry = entryOf('used')
  backend.setEntry('used', entry)
  let uses = 0
  for (let i = 0; i < 100; i++) {
    if (backend.isRecent(entry)) uses++
    else t.equal(backend.getEntry('used'), entry)
    if (i % 2 === 0) backend.setEntry(`key-${i}`, entryOf(i))
    else await backend.setMany([{ key: `key-${i}`, value: Buffer.from('raw'), ttl: 1000 }])
  }
  t.ok(uses > 50 && uses < 75, 'in a full memory of sixteen: twice, then its key is asked for')

  const smallest = memoryOf({ maxEntries: 2 })
  smallest.setEntry('a', entry)
  t.ok(smallest.isRecent(entry))
  smallest.setEntry('b', entryOf('b'))
  t.notOk(smallest.isRecent(entry), 'the next one would take its place')
})

t.test('what is replaced, deleted or evicted is not found by its alias either', async t => {
  const backend = memoryOf({ maxEntries: 2 })
  const shortcuts = new Map<unknown, LocalEntry>()
  const put = (key: string) => {
    const entry = { ...entryOf(key), shortcuts, alias: key }
    backend.setEntry(key, entry)
    shortcuts.set(key, entry)
    return entry
  }
  const old = put('a')
  t.not(put('a'), old)
  t.equal(shortcuts.get('a')?.value, 'a')
  backend.setEntry('a', entryOf('not yet found by it'))
  t.strictSame([...shortcuts.keys()], [])
  for (const key of ['a', 'b', 'c']) put(key)
  t.strictSame([...shortcuts.keys()], ['b', 'c'])
  backend.deleteEntry('b')
  t.strictSame([...shortcuts.keys()], ['c'])
  await backend.close()
  t.strictSame([...shortcuts.keys()], [])
})

t.test('a memory without bounds of one’s own keeps ten thousand values', async t => {
  const backend = memoryOf()
  const entry = entryOf(1)
  for (let i = 0; i < 10_001; i++) backend.setEntry(`key-${i}`, entry)
  t.equal(backend.getEntry('key-0'), undefined)
  t.equal(backend.getEntry('key-1'), entry)
})

t.test('values make room when there are more than maxBytes of them', async t => {
  const backend = memoryOf({ maxBytes: 10_000 })
  for (let i = 0; i < 20; i++) backend.setEntry(`key-${i}`, entryOf('x'.repeat(1000)))
  const kept = Array.from({ length: 20 }, (_, i) => i).filter(i => backend.getEntry(`key-${i}`) !== undefined)
  t.strictSame(kept, [16, 17, 18, 19], 'four of two kilobytes each')
})

t.test('with maxBytes there may be more than ten thousand values', async t => {
  const backend = memoryOf({ maxBytes: 100_000_000 })
  const entry = entryOf(1)
  for (let i = 0; i < 10_001; i++) backend.setEntry(`key-${i}`, entry)
  t.equal(backend.getEntry('key-0'), entry)
})

t.test('maxEntries and maxBytes hold at once', async t => {
  const backend = memoryOf({ maxBytes: 10_000, maxEntries: 2 })
  for (const key of ['a', 'b', 'c']) backend.setEntry(key, entryOf(key))
  t.equal(backend.getEntry('a'), undefined)
  backend.setEntry('d', entryOf('x'.repeat(4700)))
  t.equal(backend.getEntry('b'), undefined)
  t.equal(backend.getEntry('c'), undefined)
  t.ok(backend.getEntry('d'))
})

t.test('a value larger than all that may be kept is not kept, and neither is the one before it', async t => {
  const backend = memoryOf({ maxBytes: 1000 })
  backend.setEntry('b', entryOf('b'))
  backend.setEntry('a', entryOf('small'))
  backend.setEntry('a', entryOf('x'.repeat(1000)))
  t.equal(backend.getEntry('a'), undefined)
  t.ok(backend.getEntry('b'), 'others stay')
})

/** How many of a value fit into a megabyte. */
function fitting (value: unknown): number {
  const backend = memoryOf({ maxBytes: 1_000_000 })
  const entry = entryOf(value)
  const keys = Array.from({ length: 5000 }, (_, i) => `app:objects:k:${i}`)
  for (const key of keys) backend.setEntry(key, entry)
  return keys.filter(key => backend.getEntry(key) !== undefined).length
}

t.test('the weight of a value is about that of its parts, of whatever kind', async t => {
  const fourKilobytes: [name: string, value: unknown][] = [
    ['text', 'x'.repeat(2000)],
    ['a property', { a: 'x'.repeat(2000) }],
    ['a property name', { ['x'.repeat(4000)]: 1 }],
    ['an array', Array.from({ length: 250 }, (_, i) => i)],
    ['a Buffer', Buffer.alloc(4000)],
    ['a typed array', new Float64Array(500)],
    ['an ArrayBuffer', new ArrayBuffer(4000)],
    ['a DataView', new DataView(new ArrayBuffer(4000))],
    ['a Set', new Set(Array.from({ length: 250 }, (_, i) => i))],
    ['a Map', new Map(Array.from({ length: 125 }, (_, i) => [i, i]))],
    ['a bigint', 2n ** 32_000n],
    ['five texts', Array.from({ length: 5 }, (_, i) => 'x'.repeat(400) + i)]
  ]
  for (const [name, value] of fourKilobytes) {
    const count = fitting(value)
    t.ok(count > 180 && count < 260, `${name}: ${count} fit`)
  }
})

t.test('a small value still takes what it takes to keep it', async t => {
  const cycle: Record<string, unknown> = {}
  cycle['self'] = cycle
  for (const [name, value] of [['a number', 1], ['null', null], ['undefined', undefined], ['true', true], ['a cycle', cycle], ['a Date', new Date()], ['an empty object', {}]] as const) {
    const count = fitting(value)
    t.ok(count > 1500 && count < 2500, `${name}: ${count} fit`)
  }
})

t.test('one object in two places is weighed once', async t => {
  const large = { text: 'x'.repeat(400) }
  t.ok(fitting([large, large, large, large]) > fitting([large, { ...large }]))
})

t.test('options that can not work are refused by name', async t => {
  for (const value of [0, -1, 1.5, NaN, Infinity, '10', null]) {
    t.throws(() => memory({ maxEntries: value as number }), { code: 'FST_CACHING_API_INVALID_OPTIONS', message: /^memory\(options\)\.maxEntries must be a positive integer, got / })
    t.throws(() => memory({ maxBytes: value as number }), { code: 'FST_CACHING_API_INVALID_OPTIONS', message: /^memory\(options\)\.maxBytes must be a positive integer, got / })
  }
  t.throws(() => memory({ maxEntries: 2 ** 23 + 1 }), { code: 'FST_CACHING_API_INVALID_OPTIONS', message: 'memory(options).maxEntries must be at most 8388608: a Map takes no more, got 8388609' })
  t.doesNotThrow(() => memory({ maxBytes: 2 ** 40 }))
  for (const [options, got] of [[null, 'null'], [[], 'an array of 0'], ['1000', "'1000'"]] as const) {
    t.throws(() => memory(options as never), { code: 'FST_CACHING_API_INVALID_OPTIONS', message: `memory(options) must be an object, got ${got}` })
  }
  t.throws(() => memory({ max: 5 } as MemoryOptions), { code: 'FST_CACHING_API_INVALID_OPTIONS', message: 'memory(options).max must be absent: the options are maxEntries, maxBytes, got 5' })
  t.doesNotThrow(() => memory({ maxEntries: undefined as unknown as number, maxBytes: undefined as unknown as number, other: undefined } as MemoryOptions))
})

// ─── as a place for bytes ──────────────────────────────────────────────────────────────────────────

const bytes = (text: string) => new TextEncoder().encode(text)
const atTime = (t: Test) => {
  let time = 1000
  t.intercept(performance, 'now', { value: () => time })
  return { advance: (ms: number) => { time += ms } }
}

t.test('bytes come back in the order of the keys, with gaps and repetitions', async t => {
  const backend = memory()
  await backend.setMany([{ key: 'a', value: bytes('1'), ttl: 1000 }, { key: 'b', value: bytes('2'), ttl: 1000 }])
  t.ok(isDeepStrictEqual(await backend.getMany(['b', 'x', 'a', 'b']), [bytes('2'), undefined, bytes('1'), bytes('2')]))
  t.strictSame(await backend.getMany([]), [])
  await backend.deleteMany(['b', 'x'])
  t.ok(isDeepStrictEqual(await backend.getMany(['b', 'a']), [undefined, bytes('1')]))
})

t.test('bytes end with their time to live, to the millisecond', async t => {
  const { advance } = atTime(t)
  const backend = memory()
  await backend.setMany([{ key: 'a', value: bytes('1'), ttl: 100 }, { key: 'b', value: bytes('2'), ttl: 101 }])
  advance(99)
  t.strictSame((await backend.getMany(['a', 'b'])).map(found => found !== undefined), [true, true])
  advance(1)
  t.strictSame((await backend.getMany(['a', 'b'])).map(found => found !== undefined), [false, true])
  await backend.setMany([{ key: 'a', value: bytes('3'), ttl: 100 }])
  t.strictSame((await backend.getMany(['a'])).map(found => found !== undefined), [true])
})

t.test('bytes belong to whoever gave or got them', async t => {
  const backend = memory()
  const given = Buffer.from('given')
  await backend.setMany([{ key: 'a', value: given, ttl: 1000 }])
  given.fill('x')
  const [first] = await backend.getMany(['a'])
  t.strictSame(Buffer.from(first!).toString(), 'given')
  first!.fill(0)
  const [second] = await backend.getMany(['a'])
  t.strictSame(Buffer.from(second!).toString(), 'given')
})

t.test('bytes are bounded like values', async t => {
  const few = memory({ maxEntries: 2 })
  const light = memory({ maxBytes: 2000 })
  for (const backend of [few, light]) {
    for (const key of ['a', 'b', 'c']) await backend.setMany([{ key, value: Buffer.alloc(400), ttl: 1000 }])
    t.strictSame((await backend.getMany(['a', 'b', 'c'])).map(found => found?.length), [undefined, 400, 400])
  }
})

t.test('a key of values has no bytes', async t => {
  const backend = memoryOf()
  backend.setEntry('a', entryOf(1))
  t.strictSame(await backend.getMany(['a']), [undefined])
})

t.test('a memory that is closed lets go of all it had', async t => {
  const backend = memoryOf()
  backend.setEntry('a', entryOf(1))
  await backend.close()
  t.equal(backend.getEntry('a'), undefined)
})
