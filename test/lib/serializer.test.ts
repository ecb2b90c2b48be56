import { isDeepStrictEqual } from 'node:util'
import fc from 'fast-check'
import t from 'tap'
import { msgpackSerializer } from '../../lib/serializer.js'
import { copyIn } from '../../lib/values.js'

const { encode, decode } = msgpackSerializer
const journey = (value: unknown): unknown => decode(encode(copyIn(value).value))

const msgpackEncoding = 1
const v8Encoding = 2
const shapedEncoding = 3
const cyclic: Record<string, unknown> = { id: 1 }
cyclic['self'] = [cyclic]
const repeated = { at: new Date(5) }
const withOwnProto = JSON.parse('{"__proto__": {"a": 1}, "constructor": 1, "b": {"__proto__": null}}')

/** A value, and the encoding that keeps it. */
const cases: [name: string, value: unknown, encoding: number][] = [
  ['undefined', undefined, msgpackEncoding],
  ['null', null, msgpackEncoding],
  ['true', true, msgpackEncoding],
  ['a number', 1.5, msgpackEncoding],
  ['large and small numbers', [2 ** 31, 2 ** 32, 2 ** 53, -(2 ** 53), 2 ** 63, 2 ** 64, Number.MAX_VALUE, Number.MIN_VALUE, 0.1 + 0.2], msgpackEncoding],
  ['NaN and the infinities', [NaN, Infinity, -Infinity], msgpackEncoding],
  ['-0', -0, v8Encoding],
  ['-0 below', { a: [-0] }, v8Encoding],
  ['bigints', [0n, 1n, -1n, 2n ** 53n, 2n ** 63n - 1n, -(2n ** 63n)], msgpackEncoding],
  ['bigints of more than 64 bits', [2n ** 63n, 2n ** 64n, -(2n ** 64n), 10n ** 300n, -(10n ** 300n)], msgpackEncoding],
  ['an empty string', '', msgpackEncoding],
  ['strings of all kinds', ['é', '日本', '👍', '\0', '\r\n', 'x'.repeat(100_000), '👍'.repeat(10_000)], msgpackEncoding],
  ['a lone surrogate', '\ud83d', v8Encoding],
  ['a lone surrogate in a property', { '\udc4d': 1 }, v8Encoding],
  ['a Date', new Date(1.7e12), msgpackEncoding],
  ['Dates before 1970, with milliseconds, and at the ends of time', [new Date(-1), new Date(-8.64e15), new Date(8.64e15), new Date(1_234_567_890_123)], msgpackEncoding],
  ['a Map', new Map<unknown, unknown>([['a', 1], [2, new Date(5)], [{ k: 1 }, new Map()]]), v8Encoding],
  ['a Set', { of: new Set<unknown>([1, '1', 1n, null]) }, v8Encoding],
  ['a Buffer', { photo: Buffer.from([0, 1, 255]) }, msgpackEncoding],
  ['an empty Buffer', Buffer.alloc(0), msgpackEncoding],
  ['typed arrays of every kind', [
    new Uint8Array([1, 255]), new Uint8ClampedArray([255]), new Int8Array([-1]), new Uint16Array([65535]), new Int16Array([-1]),
    new Uint32Array([2 ** 32 - 1]), new Int32Array([-1]), new Float32Array([0.5]), new Float64Array([NaN, -0, 0.1]), new BigInt64Array([-1n]), new BigUint64Array([2n ** 64n - 1n])
  ], v8Encoding],
  ['an ArrayBuffer and a DataView', { a: Uint8Array.from([1, 2]).buffer, b: new DataView(Uint8Array.from([1, 2]).buffer) }, v8Encoding],
  ['an undefined property', { a: undefined, b: [undefined] }, msgpackEncoding],
  ['nested nulls', { a: null, b: [null, { c: null }] }, msgpackEncoding],
  ['empty objects and arrays', [{}, [], { a: {} }], msgpackEncoding],
  ['an object of many properties', Object.fromEntries(Array.from({ length: 1000 }, (_, i) => [`p${i}`, i])), msgpackEncoding],
  ['an array of many', Array.from({ length: 70_000 }, (_, i) => i), msgpackEncoding],
  ['own __proto__ and constructor', withOwnProto, v8Encoding],
  ['a cycle', cyclic, v8Encoding],
  ['one object in two places', [repeated, repeated], msgpackEncoding],
  ['an expression and an error', { a: /a+/gi }, v8Encoding]
]

for (const [name, value, encoding] of cases) {
  t.test(`${name} survives being encoded`, async t => {
    t.ok(isDeepStrictEqual(journey(value), value))
    const used = encode(copyIn(value).value)[0]
    t.equal(used === shapedEncoding ? msgpackEncoding : used, encoding, 'in the encoding that keeps it')
  })
}

t.test('an invalid Date survives being encoded', async t => {
  // It is not equal to another one for isDeepStrictEqual of Node 20.
  const { at } = journey({ at: new Date(NaN) }) as { at: Date }
  t.type(at, Date)
  t.ok(Number.isNaN(at.getTime()))
})

t.test('an error keeps its type and message', async t => {
  const error: any = journey({ error: new RangeError('too far') })
  t.type(error.error, RangeError)
  t.equal(error.error.message, 'too far')
})

t.test('anything that can be cached comes back equal, down to -0', async t => {
  const anything = fc.anything({
    withBigInt: true,
    withMap: true,
    withSet: true,
    withTypedArray: true,
    withNullPrototype: true,
    maxDepth: 5,
    key: fc.oneof(fc.string({ unit: 'binary', maxLength: 5 }), fc.constantFrom('__proto__', 'constructor', 'toString')),
    values: [
      fc.string({ unit: 'binary' }), fc.string({ unit: fc.constantFrom('a', '\ud83d', '\udc4d') }), fc.double(), fc.integer(), fc.boolean(), fc.constantFrom(-0, 0, NaN, null, undefined),
      fc.bigInt(), fc.bigInt({ min: -(2n ** 200n), max: 2n ** 200n }), fc.date({ noInvalidDate: true }), fc.uint8Array().map(bytes => Buffer.from(bytes))
    ]
  })
  fc.assert(fc.property(anything, value => {
    const kept = copyIn(value).value
    return isDeepStrictEqual(decode(encode(kept)), kept)
  }), { numRuns: 3000 })
})

t.test('what was decoded shares no memory with the bytes it came from', async t => {
  for (const value of [{ photo: Buffer.from('abc') }, { samples: new Float64Array([1, 2, 3]) }, { bytes: Uint8Array.from([1, 2, 3]), all: new Map([['a', Buffer.from('abc')]]) }]) {
    const bytes = encode(copyIn(value).value)
    const decoded = decode(bytes)
    bytes.fill(0xee)
    t.ok(isDeepStrictEqual(decoded, value))
  }
})

t.test('what was encoded does not change when more is encoded', async t => {
  const first = encode({ name: 'a'.repeat(1000) })
  const before = Buffer.from(first)
  for (let i = 0; i < 100; i++) encode({ name: 'b'.repeat(1000), i })
  t.strictSame(Buffer.from(first), before)
})

t.test('bytes are read where they lie in a larger buffer', async t => {
  for (const value of [{ name: 'a', photo: Buffer.from('abc') }, { samples: new Float64Array([1, 2]) }]) {
    const bytes = encode(copyIn(value).value)
    for (const before of [1, 3, 8]) {
      const around = new Uint8Array(bytes.length + before + 5).fill(0xee)
      around.set(bytes, before)
      t.ok(isDeepStrictEqual(decode(around.subarray(before, before + bytes.length)), value))
    }
  }
})

t.test('rows that have the same properties have them written once for each, from the second one on', async t => {
  const rowOf = (id: number) => ({ id, name: `row ${id}`, at: new Date(id), tags: ['a', 'b'], owner: { id, name: 'x' }, none: undefined, $_1: null })
  const encodings = [1, 2, 3].map(id => encode(rowOf(id))[0])
  t.strictSame(encodings, [msgpackEncoding, shapedEncoding, shapedEncoding])
  for (const id of [1, 2, 3]) t.ok(isDeepStrictEqual(journey(rowOf(id)), rowOf(id)))
  const { length } = encode(rowOf(1))
  const many = Array.from({ length: 100 }, (_, i) => rowOf(i))
  t.ok(encode(many).length < 60 * length, 'and a list of them has them once')
  t.ok(isDeepStrictEqual(journey(many), many))
})

t.test('rows of many kinds in turn come back as what they were', async t => {
  const makers = Array.from({ length: 700 }, (_, kind) => (id: number) => ({ [`id${kind}`]: id, name: 'n'.repeat(id), kind }))
  for (const id of [1, 2, 3, 150]) {
    const rows = makers.map(rowOf => rowOf(id))
    const encoded = rows.map(row => encode(row))
    t.ok(rows.every((row, i) => isDeepStrictEqual(decode(encoded[i]!), row)), `of ${id}`)
  }
})

t.test('the order of properties is kept, and names that only look alike are told apart', async t => {
  const kinds: Record<string, unknown>[] = [
    { a: 1, b: 2 }, { b: 2, a: 1 }, { 'a,b': 1 }, { a: 1, b: 2, c: 3 }, { a: 1 }, { '': 1 }, { é: 1 }, { 'a b': 1 }, { 2: 'two', 1: 'one', z: 0 },
    { constructor: 1, toString: 2, hasOwnProperty: 3, valueOf: 4 }, { ['x'.repeat(51)]: 1 }, Object.fromEntries(Array.from({ length: 41 }, (_, i) => [`p${i}`, i])),
    Object.fromEntries(Array.from({ length: 40 }, (_, i) => [`quite_a_long_name_${i}`, i])), { a: { a: { a: 1 } } }, { then: 1 }
  ]
  for (let time = 0; time < 4; time++) {
    for (const row of kinds) {
      const back = journey(row) as object
      t.ok(isDeepStrictEqual(back, row), Object.keys(row).join())
      t.strictSame(Object.keys(back), Object.keys(row))
    }
  }
  const mixed = [{ a: 1, b: 2 }, { b: 2, a: 1 }, { a: 1 }, null, 5, 'a', [{ a: 1, b: 2 }], { a: { a: 1, b: 2 }, b: [{ a: 1, b: 2 }] }]
  t.ok(isDeepStrictEqual(journey(mixed), mixed))
})

t.test('rows that are read one after another do not share what they are read from', async t => {
  const rowOf = (id: number) => ({ id, text: `text ${id}`, photo: Buffer.from([id, id]) })
  const read = [1, 2, 3, 4].map(id => journey(rowOf(id)))
  t.ok(isDeepStrictEqual(read, [1, 2, 3, 4].map(rowOf)))
})

t.test('damaged names of properties are refused', async t => {
  encode({ first: 1, second: 2 })
  const bytes = Buffer.from(encode({ first: 1, second: 2 }))
  const at = bytes.indexOf('second')
  for (const name of ['s con,', 's\0cond', 'secon"', 'sec,,d']) {
    const damaged = Buffer.from(bytes)
    damaged.write(name, at, 'latin1')
    t.throws(() => decode(damaged), { name: 'TypeError', message: 'damaged names of properties' })
  }
  t.throws(() => decode(Buffer.from([shapedEncoding])), { message: 'damaged names of properties' })
  t.throws(() => decode(Buffer.from([shapedEncoding, 200, 97])), { message: 'damaged names of properties' })
  t.throws(() => decode(Buffer.from([shapedEncoding, 100, ...Buffer.from(Array.from({ length: 50 }, () => 'a').join()), 0x40])), { message: 'damaged names of properties' })
})

t.test('bytes that give names another meaning change nothing for others', async t => {
  const row = { uid: 7, role: 'user' }
  encode(row)
  const good = Buffer.from(encode(row))
  const names = Buffer.from('uid,role')
  for (const definition of [[0xd4, 0x72, 0x40], [0xd5, 0x72, 0x40, 0x00], [0xd4, 0x72, 0x41]]) {
    const evil = Buffer.from([shapedEncoding, names.length, ...names, ...definition, 0x92, 0xa4, ...Buffer.from('role'), 0xa3, ...Buffer.from('uid'), 1, 2])
    try { decode(evil) } catch { /* it may be refused */ }
    t.strictSame(decode(good), row)
    t.strictSame(journey(row), row)
  }
})

t.test('a value that no encoding can hold is refused with its name', async t => {
  t.throws(() => encode({ load () {} }), /load.*could not be cloned/)
  t.throws(() => encode(() => {}), /could not be cloned/)
  t.throws(() => encode([Symbol('s')]), /Symbol\(s\) could not be cloned/)
})

t.test('truncated bytes are refused, wherever they end', async t => {
  for (const [name, value] of cases) {
    const bytes = encode(copyIn(value).value)
    const step = Math.ceil(bytes.length / 200)
    for (let length = 0; length < bytes.length; length += step) t.throws(() => decode(bytes.subarray(0, length)), `${name}, ${length} of ${bytes.length} bytes`)
  }
})

t.test('bytes of somebody else are refused', async t => {
  for (const foreign of [Buffer.from('{"id":1}'), Buffer.from('hello'), Buffer.alloc(100), Buffer.from([4, 1]), Buffer.from([255])]) {
    t.throws(() => decode(foreign), { name: 'TypeError', message: /^unknown encoding \d+$/ })
  }
})

t.test('bytes that were damaged neither crash nor hang the process', async t => {
  const bytes = fc.oneof(
    fc.uint8Array({ maxLength: 300 }).map(rest => Buffer.from([msgpackEncoding, ...rest])),
    fc.uint8Array({ maxLength: 300 }).map(rest => Buffer.from([shapedEncoding, 3, 97, 44, 98, ...rest])),
    fc.uint8Array({ maxLength: 300 }).map(rest => Buffer.from([v8Encoding, 0xff, 0x0f, ...rest])),
    fc.tuple(fc.constantFrom(...cases.map(([, value]) => encode(copyIn(value).value)).filter(({ length }) => length < 2000)), fc.nat(), fc.integer({ min: 0, max: 255 })).map(([whole, at, byte]) => {
      const damaged = Buffer.from(whole)
      damaged[1 + at % (damaged.length - 1)] = byte
      return damaged
    })
  )
  fc.assert(fc.property(bytes, damaged => {
    try { decode(damaged) } catch (error) { return error instanceof Error }
    return true
  }), { numRuns: 5000 })
  // A length that lies: of an array, a map, a string, a Buffer, a bigint.
  for (const marker of [0xdd, 0xdf, 0xdb, 0xc6, 0xc9]) t.throws(() => decode(Buffer.from([msgpackEncoding, marker, 0xff, 0xff, 0xff, 0xff, 0x42])))
})
