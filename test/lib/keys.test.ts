import { isDeepStrictEqual } from 'node:util'
import fc from 'fast-check'
import t from 'tap'
import { cachedObject, loadMany, loadOne } from '../../lib/cached-object.js'
import { CachingManager } from '../../lib/caching-manager.js'
import { Keyspace, assertName, callerKey, encodeArguments, propertyKey, safeKey } from '../../lib/keys.js'
import { memory } from '../../lib/backends/memory.js'

const encode = (...args: unknown[]) => encodeArguments(args, 'City.search')
const invalidArgument = { code: 'FST_CACHING_API_INVALID_ARGUMENT' }

/** What memcached takes, and what chooses no slot of a Redis Cluster. */
const harmless = /^[!-z|~]{1,250}$/

const hostile = [
  '', ' ', 'a b', 'a:b', ':', '::', '#', '#a', '{tag}', '{', '}', 'get k\r\nset k 0 0 1\r\nx', '\r\n', '\0', 'a\0b', '\x7f', '\x1b[2J',
  'é', 'ﬁ', '日本', '👍', '\ud83d', '\udc4d', '\ufffd', '../../etc/passwd', '*', '?', '[a-z]', '__proto__', 'constructor', 'toString',
  'app:objects:k:a', 'app:other:k:a', 'x'.repeat(100), 'x'.repeat(101), 'x'.repeat(10_000), 'é'.repeat(10_000), '👍'.repeat(500_000), 'x'.repeat(1_000_000)
]

t.test('arguments are told apart by type', async t => {
  const different = [
    [1], ['1'], [1n], ['1n'], [true], ['true'], [null], ['null'], [undefined], ['undefined'], [], [NaN], ['NaN'], [Infinity], [-Infinity],
    [new Date(1)], ['@1'], ['1970-01-01T00:00:00.001Z'], [new Date(NaN)], [''], [[]], [{}], ['[]'], ['{}'], [[[]]], [{ 0: 'a' }], [['a']], [1.5], [0], [-1]
  ]
  t.equal(new Set(different.map(args => encode(...args))).size, different.length)
})

t.test('arguments are told apart by position', async t => {
  const different = [
    [1, 23], [12, 3], [123], [1, 2, 3], ['a', 'b'], ['ab'], ['a,b'], ['a","b'], [['a', 'b']], [['ab']], [['a'], 'b'], ['a', ['b']], [1, undefined],
    [1], [undefined, 1], [1, null], ['1 2', 3], ['1', '2 3'], [{ a: 1 }, 2], [{ a: 1, b: 2 }], [{ a: [1, 2] }], [[{ a: 1 }, 2]], [{ a: undefined }], [{ 'a":1,"b': 2 }]
  ]
  t.equal(new Set(different.map(args => encode(...args))).size, different.length)
})

t.test('the order of properties does not matter, at any depth', async t => {
  t.equal(encode({ a: 1, b: { c: 2, d: 3 } }), encode({ b: { d: 3, c: 2 }, a: 1 }))
  t.not(encode({ a: 1, b: 2 }), encode({ a: 2, b: 1 }))
  t.equal(encode({ 2: 'b', 1: 'a', x: 0 }), encode({ x: 0, 1: 'a', 2: 'b' }))
  t.equal(encode(Object.assign(Object.create(null), { a: 1 })), encode({ a: 1 }))
})

t.test('0 and -0 are one argument, as they are for ===', async t => {
  t.equal(encode(-0), encode(0))
  t.equal(encode([-0]), encode([0]))
})

t.test('a number alone and one among others are written alike', async t => {
  t.equal(encode(1), '1')
  t.equal(encode([1]), '[1]')
  t.equal(encode(1, 2), '1,2')
})

t.test('one object in two places is no cycle', async t => {
  const center = { lat: 1, lon: 2 }
  t.equal(encode({ from: center, to: center }, center), encode({ from: { ...center }, to: { ...center } }, { ...center }))
})

t.test('what can not be told apart from another is refused, and the message says where it is', async t => {
  class City { id = 1 }
  const cycle: unknown[] = []
  cycle.push(cycle)
  const loop: Record<string, unknown> = {}
  loop['self'] = { loop }
  const expected = 'made of strings, numbers, bigints, booleans, null, undefined, Dates, arrays and plain objects'
  const cases: [arg: unknown, where: string, got: string][] = [
    [() => {}, 'City.search[0]', 'a function'],
    [Symbol('s'), 'City.search[0]', 'Symbol(s)'],
    [new City(), 'City.search[0]', 'an instance of City'],
    [new Map(), 'City.search[0]', 'an instance of Map'],
    [new Set([1]), 'City.search[0]', 'an instance of Set'],
    [/a/, 'City.search[0]', 'an instance of RegExp'],
    [Buffer.from('a'), 'City.search[0]', 'an instance of Buffer'],
    [new Error('a'), 'City.search[0]', 'an instance of Error'],
    [Promise.resolve(1), 'City.search[0]', 'an instance of Promise'],
    // eslint-disable-next-line no-new-wrappers -- the boxed one is what is refused
    [new Number(1), 'City.search[0]', 'an instance of Number'],
    [{ near: [1, new City()] }, 'City.search[0].near[1]', 'an instance of City'],
    [[[{ at: Symbol('s') }]], 'City.search[0][0][0].at', 'Symbol(s)'],
    [{ [Symbol('hidden')]: 1 }, 'City.search[0]', 'Symbol(hidden)']
  ]
  for (const [arg, where, got] of cases) t.throws(() => encode(arg), { ...invalidArgument, message: `${where} must be ${expected}, got ${got}` })
  t.throws(() => encode(1, cycle), { ...invalidArgument, message: 'City.search[1][0] must be free of cycles, got one' })
  t.throws(() => encode(loop), { ...invalidArgument, message: 'City.search[0].self.loop must be free of cycles, got one' })

  let deep: unknown = 1
  for (let i = 0; i < 100; i++) deep = [deep]
  t.doesNotThrow(() => encode(deep))
  for (let i = 0; i < 5000; i++) deep = { deep }
  t.throws(() => encode(deep), { ...invalidArgument, message: 'Arguments must be nested no deeper than 100, got more' })
})

/** Few letters, and those that the encoding itself is made of: what could be confused is. */
const confusing = fc.letrec<{ value: unknown }>(tie => ({
  value: fc.oneof(
    { depthSize: 'small', withCrossShrink: true },
    fc.constantFrom<unknown>(0, -0, 1, 12, NaN, 0n, 1n, true, false, null, undefined, '', new Date(0), new Date(1), new Date(NaN)),
    fc.string({ unit: fc.constantFrom('1', 'n', ',', '"', '\\', ':', '[', ']', '{', '}', '@', '\ud83d', '\udc4d'), maxLength: 4 }),
    fc.array(tie('value'), { maxLength: 3 }),
    fc.dictionary(fc.constantFrom('a', 'b', '__proto__', 'constructor', 'a":1,"b', ''), tie('value'), { maxKeys: 3, noNullPrototype: true })
  )
})).value

const withoutMinusZero = (value: unknown): unknown => {
  if (value === 0) return 0
  if (Array.isArray(value)) return value.map(withoutMinusZero)
  if (typeof value !== 'object' || value === null || value instanceof Date) return value
  return Object.fromEntries(Object.entries(value).map(([name, item]) => [name, withoutMinusZero(item)]))
}

t.test('any two lists of arguments have the same key only if they are equal', async t => {
  const args = fc.array(confusing, { maxLength: 3 })
  fc.assert(fc.property(args, args, (a, b) => {
    return (encode(...a) === encode(...b)) === isDeepStrictEqual(withoutMinusZero(a), withoutMinusZero(b))
  }), { numRuns: 10_000 })
})

t.test('any two strings have the same key only if they are the same', async t => {
  const short = fc.string({ unit: fc.constantFrom('#', 'a', 'A', ' ', ':', '\ud83d', '\udc4d', '\ufffd', '👍'), maxLength: 3 })
  fc.assert(fc.property(short, short, (a, b) => (safeKey(a) === safeKey(b)) === (a === b)), { numRuns: 3000 })
  t.equal(new Set(hostile.map(safeKey)).size, new Set(hostile).size)
  // Nobody who asks for the hash of a key gets at the value of that key.
  const hashed = safeKey('a b')
  t.match(hashed, /^#[\w-]{43}$/)
  t.not(safeKey(hashed), hashed)
})

t.test('an ordinary key stays readable', async t => {
  for (const key of ['a', 'user-1', 'user:1', 'a/b?c=d&e', '__proto__', 'constructor', 'x'.repeat(100)]) t.equal(safeKey(key), key)
})

t.test('whatever a key is made of, it stays in its region and is harmless to a backend', async t => {
  const longest = new Keyspace('n'.repeat(64), 'r'.repeat(64))
  const check = (key: string) => {
    const full = longest.entry('k', callerKey(key))
    return full.startsWith(`${longest.prefix}k:`) && harmless.test(full)
  }
  for (const key of hostile) t.ok(check(key), JSON.stringify(key.slice(0, 20)))
  fc.assert(fc.property(fc.string({ unit: 'binary', maxLength: 200 }), check))
  fc.assert(fc.property(fc.string({ unit: 'grapheme', maxLength: 200 }), check))
})

t.test('whatever arguments are made of, they stay with their object and method', async t => {
  const City = cachedObject({
    name: 'City',
    region: 'objects',
    version: 3,
    methods: {
      getById: loadMany({ load: async (_context, _ids: readonly string[]) => [], idOf: (row: { id: string }) => row.id }),
      search: loadOne(async (_context, _query: unknown) => null)
    }
  })
  const manager = new CachingManager({ namespace: 'app', regions: { objects: { tiers: [memory()], ttl: '1m' } } })
  t.teardown(() => manager.close())
  const bound = manager.bind(City)
  const keys = new Set<string>()
  for (const [name, argument] of [['getById', (key: string) => key], ['search', (key: string) => ({ key })]] as const) {
    for (const key of hostile) {
      const full = bound.method(name).key([argument(key)])
      t.ok(full.startsWith(`app:objects:o:City:3:${name}:`) && harmless.test(full), `${name} ${JSON.stringify(key.slice(0, 20))}`)
      keys.add(full)
    }
  }
  t.equal(keys.size, 2 * hostile.length)
  t.equal(bound.method('getById').key([1]), `app:objects:o:City:3:getById:${safeKey(encode(1))}`)
})

t.test('a key that is no string is refused', async t => {
  for (const key of [1, 1n, null, undefined, Symbol('s'), ['a'], {}]) t.throws(() => callerKey(key), { ...invalidArgument, message: /^A key must be a string, got / })
})

t.test('a name has no colon, no blank, no brace and no end beyond 64 characters', async t => {
  for (const name of ['a', 'City', 'app.v2', '@scope/app', 'a-b_c$', '__proto__', 'constructor', 'x'.repeat(64)]) {
    t.doesNotThrow(() => assertName(name, 'namespace'), name)
  }
  for (const name of ['', 'a:b', 'a b', '{a}', 'a\n', 'é', 'x'.repeat(65), 1, undefined, null]) {
    t.throws(() => assertName(name, 'namespace'), { code: 'FST_CACHING_API_INVALID_OPTIONS', message: /^namespace must be a name of 1 to 64 letters, digits and .*, got / })
  }
})

t.test('stamps, tags, locks and channels of a region share its slot, and no key of an entry reaches them', async t => {
  const objects = new Keyspace('app', 'objects')
  const entry = objects.entry('k', 'a:b')
  const others = [objects.stamp, objects.wakeUps, ...hostile.map(tag => objects.tag(tag)), objects.lock(entry)]
  for (const other of others) t.ok(other.startsWith('{app:objects}:'), other)
  t.equal(new Set(others).size, others.length)
  t.equal(objects.lock(entry), '{app:objects}:lock:k:a:b')
  for (const key of hostile) t.notOk(objects.entry('k', callerKey(key)).startsWith('{'))
  t.notOk(others.includes(new Keyspace('app', 'object').stamp))
})

t.test('a property of a cache object has a key of its own, which no region\'s entry has', async t => {
  t.equal(propertyKey('User', '10', 'name'), 'User.10.name')
  const parts = [...new Set([...hostile, 'a', 'b', 'a.b', 'b.a', '.', 'a.', '.a', '%2E', 'a%2Eb', '%', 'a:b', '%3A', '#', '#b'])]
  const keys = parts.flatMap(id => parts.map(own => propertyKey('User', id, own)))
  for (const [name, id, own] of [['a.b', 'c', 'd'], ['a', 'b.c', 'd'], ['a', 'b', 'c.d'], ['a', 'b', 'c']] as const) keys.push(propertyKey(name, id, own))
  t.equal(new Set(keys).size, keys.length)
  for (const key of keys) if (!harmless.test(key) || key.includes(':')) t.fail(key)
  t.ok(propertyKey('.'.repeat(64), 'x'.repeat(1000), 'y').length <= 174)
})
