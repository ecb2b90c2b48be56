import { isDeepStrictEqual } from 'node:util'
import fc from 'fast-check'
import t from 'tap'
import { msgpackSerializer } from '../../lib/serializer.js'
import { UncacheableValue, copy, copyGiven, copyIn, own, share } from '../../lib/values.js'

/** Two readers of one kept value. */
function twoReaders (value: unknown): [any, any] {
  const shared = copyIn(value)
  return [own(shared), own(shared)]
}

/** Does to a value whatever a handler could. What is frozen throws, and that is fine. */
function vandalize (value: unknown, seen = new Set<object>()): void {
  if (typeof value !== 'object' || value === null || seen.has(value)) return
  seen.add(value)
  const attempt = (change: () => void) => { try { change() } catch { /* frozen */ } }
  if (value instanceof Date) value.setTime(0)
  else if (value instanceof Map) {
    for (const [key, item] of value) { vandalize(key, seen); vandalize(item, seen) }
    value.clear()
  } else if (value instanceof Set) {
    for (const item of value) vandalize(item, seen)
    value.clear()
  } else if (value instanceof DataView) {
    for (let i = 0; i < value.byteLength; i++) value.setUint8(i, 0xee)
  } else if (ArrayBuffer.isView(value)) new Uint8Array(value.buffer, value.byteOffset, value.byteLength).fill(0xee)
  else if (value instanceof ArrayBuffer) new Uint8Array(value).fill(0xee)
  else {
    for (const item of Object.values(value)) vandalize(item, seen)
    attempt(() => { (value as Record<string, unknown>)['added'] = 1 })
    for (const name of Object.keys(value)) {
      attempt(() => Object.defineProperty(value, name, { value: 'changed' }))
      attempt(() => { delete (value as Record<string, unknown>)[name] })
    }
    if (Array.isArray(value)) attempt(() => value.push('added'))
  }
}

class City {
  id: number
  name: string
  #secret = 1
  constructor (id: number, name: string) {
    this.id = id
    this.name = name
  }

  get label () { return `${this.name} ${this.#secret}` }
}

/** Everything that a value may be made of, as deep as it matters. */
const makeValues: Record<string, () => unknown> = {
  'an object': () => ({ id: 1, name: 'a', tags: ['a', 'b'], of: { country: { code: 'DE', at: [1, [2, [3]]] } } }),
  'an array': () => [{ id: 1, of: { at: [1] } }, [{ id: 2 }], 3],
  'a Date': () => new Date(5),
  'a Date below': () => ({ id: 1, a: { b: { at: new Date(5) } }, frozen: { b: [1] } }),
  'a Date in an array': () => [{ at: new Date(5) }, { at: 1 }],
  'a Map': () => new Map<unknown, unknown>([['a', { b: new Date(5) }], [{ key: 1 }, new Set([1])]]),
  'a Map below': () => ({ a: { b: new Map([['a', { b: 1 }]]) } }),
  'a Set': () => new Set([{ a: 1 }]),
  'a Set below': () => ({ a: [new Set([{ a: 1 }])] }),
  'a Buffer': () => Buffer.from('abc'),
  'a Buffer below': () => ({ a: { b: [Buffer.from('abc')] } }),
  'a typed array': () => new Float64Array([1, 2]),
  'a typed array below': () => ({ a: { b: [new Uint16Array([1, 2])] } }),
  'a DataView below': () => ({ a: new DataView(Uint8Array.from([1, 2]).buffer) }),
  'an ArrayBuffer below': () => ({ a: { b: Uint8Array.from([1, 2]).buffer } }),
  'a class instance': () => new City(1, 'a'),
  'a class instance below': () => ({ a: [new City(1, 'a')], at: new City(2, 'b') }),
  'an object without a prototype': () => Object.assign(Object.create(null), { a: Object.assign(Object.create(null), { b: 1 }) }),
  'own properties of the prototype’s names': () => JSON.parse('{"__proto__": {"a": [1]}, "constructor": {"b": 1}, "hasOwnProperty": 1, "a": {"__proto__": {"c": 1}}}'),
  'a Date under __proto__': () => Object.defineProperty({}, '__proto__', { value: { at: new Date(5) }, enumerable: true }),
  'an error and an expression': () => ({ error: new TypeError('a'), expression: /a+/gi }),
  'one object in two places': () => { const b = { c: { at: new Date(5) } }; return { a: b, b, c: [b] } },
  'a cycle through the top level': () => { const a: Record<string, unknown> = { id: 1, at: { b: 1 } }; a['self'] = { a }; return a },
  'a cycle through the top level of an array': () => { const a: unknown[] = [{ b: 1 }]; a.push({ a }); return a },
  'a cycle below': () => { const a: Record<string, unknown> = { id: 1 }; a['self'] = a; return { a } },
  'a cycle below that holds a Date': () => {
    // Whoever is asked about b first, on the way back to a, doesn't know of the Date yet.
    const a: Record<string, unknown> = {}
    const b = { a }
    Object.assign(a, { b, at: new Date(5) })
    return { a, b }
  },
  'a cycle through a Map': () => { const a = new Map<string, unknown>(); a.set('self', { a }); return { a } }
}

for (const [name, make] of Object.entries(makeValues)) {
  t.test(`what one reader does to ${name} is never seen by another`, async t => {
    const shared = copyIn(make())
    const expected = copy(shared.value)
    for (let round = 0; round < 3; round++) {
      const mine = own(shared)
      t.ok(isDeepStrictEqual(mine, expected), `reader ${round} gets the value`)
      vandalize(mine)
    }
    t.ok(isDeepStrictEqual(own(shared), expected))
  })

  t.test(`${name} that a decoder made is shared as safely as a copy`, async t => {
    const shared = share(copy(make()))
    const expected = copy(shared.value)
    vandalize(own(shared))
    t.ok(isDeepStrictEqual(own(shared), expected))
  })

  t.test(`a loader may go on using ${name}: it is neither frozen nor changed, and its changes are not seen`, async t => {
    const loaded = make()
    const shared = copyIn(loaded)
    const expected = copy(shared.value)
    vandalize(own(shared))
    t.ok(isDeepStrictEqual(loaded, make()))
    t.notOk(Object.isFrozen(loaded))
    vandalize(loaded)
    t.ok(isDeepStrictEqual(own(shared), expected))
  })
}

t.test('anything at all that fast-check makes is a reader’s own', async t => {
  const anything = fc.anything({
    withBigInt: true,
    withMap: true,
    withSet: true,
    withTypedArray: true,
    withNullPrototype: true,
    maxDepth: 4,
    values: [fc.string(), fc.double(), fc.boolean(), fc.constantFrom(null, undefined), fc.date({ noInvalidDate: true }), fc.uint8Array().map(bytes => Buffer.from(bytes))]
  })
  fc.assert(fc.property(anything, value => {
    const before = copy(value)
    const shared = copyIn(value)
    vandalize(own(shared))
    return isDeepStrictEqual(own(shared), before) && isDeepStrictEqual(copy(value), before)
  }), { numRuns: 1000 })
})

t.test('a reader may add to its own top level, and below it is frozen', async t => {
  const [a, b] = twoReaders({ id: 1, of: { country: 'DE' }, list: [[1]] })
  a.photo = 'lazyloaded'
  a.id = 2
  t.strictSame(b, { id: 1, of: { country: 'DE' }, list: [[1]] })
  t.throws(() => { a.of.country = 'FR' }, TypeError)
  t.throws(() => a.list[0].push(2), TypeError)
  t.equal(a.of, b.of, 'what is frozen is not copied for each')
})

t.test('primitives are what they are', async t => {
  for (const value of [0, -0, NaN, '', 'a', 1n, true, null, undefined]) {
    const shared = copyIn(value)
    t.ok(Object.is(own(shared), value))
    t.equal(shared.loose, undefined)
  }
})

t.test('instances of classes are plain objects, as after a journey through a shared tier', async t => {
  const [city] = twoReaders({ city: new City(1, 'a') })
  t.ok(isDeepStrictEqual(city, { city: { id: 1, name: 'a' } }))
})

t.test('cycles and repetitions are those of the original', async t => {
  const value: Record<string, any> = { list: [], at: new Date(5) }
  value['self'] = value
  value['list'].push(value['at'], value)
  const copied: any = copy(value)
  t.equal(copied.self, copied)
  t.equal(copied.list[0], copied.at)
  t.equal(copied.list[1], copied)
  t.not(copied, value)
  t.not(copied.at, value['at'])
  const mine: any = own(copyIn(value))
  t.equal(mine.self, mine, 'for a reader too')
  t.equal(mine.list[1], mine)
})

t.test('a property named like what every object has is a property like any other', async t => {
  const value = JSON.parse('{"__proto__": {"a": [1]}, "constructor": 1, "below": {"__proto__": {"b": 2}, "toString": null}}')
  const mine: any = own(copyIn(value))
  t.ok(isDeepStrictEqual(mine, value))
  t.strictSame(Object.keys(mine), ['__proto__', 'constructor', 'below'])
  t.equal(mine.below.b, undefined)
})

t.test('a piece of a larger buffer is copied without the rest of it', async t => {
  const large = new ArrayBuffer(1000)
  const views = [new Uint8Array(large, 8, 16), new Float64Array(large, 8, 2), new DataView(large, 8, 16), Buffer.from(large, 8, 16)]
  for (const view of views) {
    const copied = copy(view) as ArrayBufferView
    t.equal(copied.constructor, view.constructor)
    t.equal(copied.byteLength, 16)
    t.ok(isDeepStrictEqual(copied, view))
    t.not(copied.buffer, large)
    if (!Buffer.isBuffer(copied)) t.equal(copied.buffer.byteLength, 16, view.constructor.name)
  }
})

t.test('a view of memory that threads share becomes a view of memory of its own', async t => {
  const view = new Uint8Array(new SharedArrayBuffer(2))
  const copied = copy(view) as Uint8Array
  view[0] = 1
  t.equal(copied[0], 0)
})

t.test('what can not be copied faithfully is refused by name', async t => {
  const cases: [value: unknown, what: string][] = [
    [() => {}, 'a function'],
    [function load () {}, 'a function (load)'],
    [{ load () {} }, 'a function (load)'],
    [[Symbol('s')], 'a symbol'],
    [Symbol('s'), 'a symbol'],
    [{ a: { b: Promise.resolve(1) } }, 'an instance of Promise'],
    [new Map([['a', new WeakMap()]]), 'an instance of WeakMap'],
    [new Set([new WeakSet()]), 'an instance of WeakSet'],
    [[new WeakRef({})], 'an instance of WeakRef'],
    [new SharedArrayBuffer(1), 'an instance of SharedArrayBuffer'],
    [new URL('https://example.org'), 'an instance of URL'],
    [new AbortController().signal, 'an instance of AbortSignal'],
    // eslint-disable-next-line no-new-wrappers -- boxed ones have their state inside
    ...[new Number(1), new String('a'), new Boolean(true)].map((boxed): [unknown, string] => [[boxed], `an instance of ${boxed.constructor.name}`])
  ]
  for (const [value, what] of cases) {
    t.throws(() => copyIn(value), { name: 'UncacheableValue', message: `a value that holds ${what} can't be cached` })
    t.throws(() => copyIn(value), UncacheableValue)
  }
})

t.test('of a value that could not be copied, a reader gets a top level of its own, where it is a plain object or an array', async t => {
  const load = () => {}
  for (const value of [{ load }, [load]]) {
    t.not(own({ value, loose: 'uncopied' }), value)
    t.strictSame(own({ value, loose: 'uncopied' }), value)
  }
  const url = new URL('https://example.org')
  t.equal(own({ value: url, loose: 'uncopied' }), url)
})

t.test('an error that is thrown while a value is frozen is not swallowed', async t => {
  const error = new Error('getter')
  for (const a of [{ get b () { throw error } }, { b: {}, get c () { throw error } }]) t.throws(() => share({ a }), error)
})

t.test('an array that is mostly gaps is refused, wherever it is: a copy of it would be as large as it claims to be', async t => {
  const sparse: unknown[] = []
  sparse[4_294_967_294 - 1] = 'the only one'
  const gaps: unknown[] = []
  gaps[600] = 1
  const refused = { name: 'UncacheableValue', message: "a value that holds an array with more than 1000 gaps can't be cached" }
  for (const value of [sparse, { rows: sparse }, new Map([['rows', sparse]]), [gaps, gaps.slice()]]) t.throws(() => copy(value), refused)
  t.equal((copy(gaps) as unknown[]).length, 601)
  t.equal((copy(Array.from({ length: 5000 })) as unknown[]).length, 5000, 'undefined is no gap')
})

t.test('a value is copied down to 500 levels, and a deeper one is refused before it exhausts the stack', async t => {
  const refused = { name: 'UncacheableValue', message: "a value that holds more than 500 levels can't be cached" }
  const wraps: ((inner: unknown) => unknown)[] = [inner => ({ inner }), inner => [inner], inner => new Map([[inner, 'value']]), inner => new Set([inner])]
  for (const wrap of wraps) {
    const nested = (levels: number): unknown => levels === 0 ? 'the bottom' : wrap(nested(levels - 1))
    t.doesNotThrow(() => copy(nested(500)))
    t.throws(() => copy(nested(501)), refused)
  }
  let abyss: unknown = 1
  for (let level = 0; level < 20_000; level++) abyss = [abyss]
  t.throws(() => copy(abyss), refused)
  t.throws(() => copyGiven(abyss), { code: 'FST_CACHING_API_INVALID_ARGUMENT', message: 'value must be one that can be cached, got more than 500 levels' })
  const wide = Array.from({ length: 2000 }, (_, i) => ({ below: { i } }))
  t.strictSame(copy(wide), wide, 'what is beside each other is not deep')
})

t.test('what may be cached is no deeper than the serializer can go', async t => {
  for (const leaf of [1, -0]) { // -0 takes the way through v8
    let deep: unknown = leaf
    for (let level = 0; level < 500; level++) deep = level % 2 === 0 ? { deep } : [deep]
    t.ok(isDeepStrictEqual(msgpackSerializer.decode(msgpackSerializer.encode(copy(deep))), deep))
  }
})

t.test('holes of an array are filled in, whichever way it goes', async t => {
  // eslint-disable-next-line no-sparse-arrays -- it is what is tested
  t.ok(isDeepStrictEqual(copy([, 1]), [undefined, 1]))
})

t.test('a caller’s value that can’t be cached is an invalid argument; what its own getter throws is not', async t => {
  t.throws(() => copyGiven(() => {}), { code: 'FST_CACHING_API_INVALID_ARGUMENT', message: /^value must be one that can be cached, got a function/ })
  t.throws(() => copyGiven({ get a () { throw new Error('mine') } }), { message: 'mine' })
})
