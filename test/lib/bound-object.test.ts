import t, { type Test } from 'tap'
import { BoundObject } from '../../lib/bound-object.js'
import { cachedObject, loadMany, loadOne, type AnyCachedObject } from '../../lib/cached-object.js'
import { CachingManager } from '../../lib/caching-manager.js'
import { memory } from '../../lib/backends/memory.js'
import { silentLogger } from '../helpers/doubles.js'

function bind (t: Pick<Test, 'teardown'>, object: AnyCachedObject, context: () => unknown = () => ({})) {
  const manager = new CachingManager({ regions: { objects: { tiers: [memory()], ttl: 1000, grace: 100, negativeTtl: 10 } } })
  t.teardown(() => manager.close())
  const logger = silentLogger()
  return { manager, logger, bound: new BoundObject(object, { region: manager.region('objects'), context: context as never, logger }) }
}

const idRow = (id: number) => ({ id })

t.test('a method is found by its name, and nothing else is', async t => {
  const User = cachedObject({ name: 'User', region: 'objects', methods: { getById: loadOne(() => null), getByName: loadOne(() => null) } })
  const { bound } = bind(t, User)
  t.equal(bound.object, User)
  t.equal(bound.method('getById'), bound.method('getById'))
  for (const name of ['get_by_id', 'toString', '__proto__', '', undefined, 1]) {
    t.throws(() => bound.method(name as string), { code: 'FST_CACHING_API_INVALID_DEFINITION', message: /^User has no method .*; it has getById, getByName$/ })
  }
})

t.test('a key tells the object, its version, the method and the arguments apart', async t => {
  const methods = { one: loadOne(() => null), other: loadOne(() => null) }
  const keys = new Set<string>()
  let made = 0
  for (const [name, version] of [['User', 1], ['User', 2], ['Users', 1]] as const) {
    const { bound } = bind(t, cachedObject({ name, region: 'objects', version, methods: { one: methods.one, other: methods.other } }))
    for (const method of ['one', 'other']) {
      for (const args of [[1], ['1'], [1n], [], [null], [undefined], [1, 2], [[1, 2]], ['1,2'], ['a', 'b'], ['ab'], [{ a: 1 }], [{ a: '1' }], [new Date(1)], ['x'.repeat(1000)]]) {
        keys.add(bound.method(method).key(args))
        made++
      }
    }
  }
  t.equal(keys.size, made)
  const { bound } = bind(t, cachedObject({ name: 'User', region: 'objects', methods: { one: methods.one } }))
  t.equal(bound.method('one').key([{ a: 1, b: 2 }]), bound.method('one').key([{ b: 2, a: 1 }]))
  t.equal(bound.method('one').key([7]), 'caching-api:objects:o:User:1:one:7')
})

t.test('arguments that are no array, or no single id where ids are loaded, are refused', async t => {
  const { bound } = bind(t, cachedObject({ name: 'User', region: 'objects', methods: { one: loadOne(() => null), many: loadMany({ load: () => [], idOf: () => 1 }) } }))
  for (const args of [1, '1', null, undefined, { 0: 1, length: 1 }]) {
    t.throws(() => bound.method('one').key(args as never), { code: 'FST_CACHING_API_INVALID_ARGUMENT', message: /^Arguments of User\.one must be an array such as \[1\], got / })
  }
  for (const args of [[], [1, 2], [NaN], [-Infinity], [null], [undefined], [[1]], [{}], [true], [new Date()]]) {
    t.throws(() => bound.method('many').key(args), { code: 'FST_CACHING_API_INVALID_ARGUMENT', message: /^Arguments of User\.many must be one id: a string, a number or a bigint, got / })
  }
  for (const args of [[1], ['1'], [1n]]) t.type(bound.method('many').key(args), 'string')
})

t.test('the policy is the method\'s own, then the region\'s', async t => {
  const { bound } = bind(t, cachedObject({ name: 'User', region: 'objects', methods: { plain: loadOne(() => null), own: loadOne(() => null, { ttl: 5, grace: 0, negativeTtl: 7 }) } }))
  t.match(bound.method('plain').policy, { ttl: 1000, grace: 100, negativeTtl: 10 })
  t.match(bound.method('own').policy, { ttl: 5, grace: 0, negativeTtl: 7 })
})

t.test('a loader gets the context first, then its arguments', async t => {
  const seen: unknown[] = []
  const context = { db: 'a pool' }
  const { bound } = bind(t, cachedObject({
    name: 'User',
    region: 'objects',
    methods: {
      one: loadOne((...args: unknown[]) => { seen.push(args); return null }),
      many: loadMany({ load: (...args: unknown[]) => { seen.push(args); return [] as { id: number }[] }, idOf: row => row.id })
    }
  }), async () => context)
  await bound.method('one').source.load([[1, 'a']])
  await bound.method('many').source.load([[1], [2]])
  t.strictSame(seen, [[context, 1, 'a'], [context, [1, 2]]])
})

t.test('a loader of many gets an id once, however many flights want it', async t => {
  const seen: unknown[] = []
  const { bound } = bind(t, cachedObject({ name: 'User', region: 'objects', methods: { many: loadMany({ load: (_context, ids: readonly number[]) => { seen.push(ids); return ids.map(id => ({ id })) }, idOf: row => row.id }) } }))
  t.match(await bound.method('many').source.load([[1], [2], [1]]), [{ value: { id: 1 } }, { value: { id: 2 } }, { value: { id: 1 } }])
  t.strictSame(seen, [[1, 2]])
})

t.test('no row, null and undefined all mean that there is none', async t => {
  const rows = [null, undefined, { id: 2 }] as { id: number }[]
  const { bound } = bind(t, cachedObject({
    name: 'User',
    region: 'objects',
    methods: { one: loadOne((_context, row: unknown) => row), many: loadMany({ load: (_context, _ids: readonly number[]) => rows, idOf: row => row.id }) }
  }))
  t.match(await bound.method('one').source.load([[null]]), [{ value: null }])
  t.match(await bound.method('one').source.load([[undefined]]), [{ value: null }])
  t.match(await bound.method('many').source.load([[1], [2]]), [{ value: null }, { value: { id: 2 } }])
})

t.test('a loader of many that gives no array fails for all of them, by name', async t => {
  for (const rows of [null, undefined, 'rows', new Map(), { rows: [] }]) {
    const { bound } = bind(t, cachedObject({ name: 'User', region: 'objects', methods: { many: loadMany({ load: () => rows as never, idOf: () => 1 }) } }))
    await t.rejects(bound.method('many').source.load([[1], [2]]), { code: 'FST_CACHING_API_BATCH_MISMATCH', message: /^User\.many was asked for an array with the rows of 2 ids, and returned / })
  }
})

t.test('an error in the place of a row fails the read of its id, and no other', async t => {
  const refused = Object.assign(new RangeError('99999999999 is no int'), { id: 99999999999 })
  let healed = false
  const City = cachedObject({
    name: 'City',
    region: 'objects',
    methods: {
      getById: loadMany({
        load: async (_context, ids: readonly number[]): Promise<({ id: number } | Error)[]> => ids.flatMap(id => id === 2 ? [] : id === refused.id && !healed ? [refused] : [idRow(id)]),
        idOf: city => city.id,
        primes: { getBySame: city => [city.id] },
        postCache: city => city.id
      }),
      getBySame: loadOne((_context, id: number) => idRow(id))
    }
  })
  const { manager } = bind(t, City)
  const api = manager.createApi()
  const read = await Promise.allSettled([1, 2, refused.id, 3].map(id => api.get(City, 'getById', [id])))
  t.strictSame(read.map(one => one.status === 'fulfilled' ? one.value : one.reason), [1, null, refused, 3])
  healed = true
  t.equal(await api.get(City, 'getById', [refused.id]), refused.id, 'it is not remembered')
})

t.test('an error in the place of a row that is of no id is that of all', async t => {
  for (const id of [undefined, null, {}]) {
    const lost = Object.assign(new Error('lost'), { id })
    const { bound } = bind(t, cachedObject({ name: 'City', region: 'objects', methods: { getById: loadMany({ load: () => [idRow(1), lost as Error], idOf: city => city.id }) } }))
    await t.rejects(bound.method('getById').source.load([[1], [2]]), lost)
  }
})

t.test('an error in the place of a row in which idOf finds no id that was asked for is that of all, and no row is missing', async t => {
  const lost = Object.assign(new Error('lost'), { code: '22003' })
  const idsOf: Record<string, (row: any) => string> = { name: row => row.name, code: row => row.code, deep: row => row.meta.id }
  for (const [name, idOf] of Object.entries(idsOf)) {
    const { bound, logger } = bind(t, cachedObject({ name: 'City', region: 'objects', methods: { many: loadMany({ load: (_context, _ids: readonly string[]) => [lost], idOf }) } }))
    await t.rejects(bound.method('many').source.load([['a'], ['b']]), lost, name)
    t.strictSame(logger.lines.warn, [])
  }
  const { bound } = bind(t, cachedObject({ name: 'City', region: 'objects', methods: { many: loadMany({ load: (_context, _ids: readonly number[]) => [Object.assign(lost, { id: '1' })], idOf: (row: any) => row.id as number }) } }))
  await t.rejects(bound.method('many').source.load([[1], [2]]), lost, 'the id as a text')
})

t.test('rows that nobody asked for are said once', async t => {
  const { bound, logger } = bind(t, cachedObject({
    name: 'User',
    region: 'objects',
    methods: { many: loadMany({ load: () => [{ id: 1 }, { id: 2 }], idOf: row => row.id }) }
  }))
  t.match(await bound.method('many').source.load([[1], [3]]), [{ value: { id: 1 } }, { value: null }])
  await bound.method('many').source.load([[4]])
  t.strictSame(logger.lines.warn.map(line => line.message), ['User.many loaded a row of id 2, which was not asked for'])
})

t.test('an id of another type than was asked for is an error by name, and no row that is missing', async t => {
  const method = (rows: readonly object[], idOf: (row: never) => unknown) =>
    bind(t, cachedObject({ name: 'User', region: 'objects', methods: { many: loadMany({ load: () => rows as never, idOf: idOf as (row: object) => number }) } })).bound.method('many')
  const idOf = ({ id }: { id: unknown }) => id
  const row = { id: '1' }
  const mistaken = { code: 'FST_CACHING_API_INVALID_DEFINITION', message: "User.many: idOf must return what load was asked for, 1 (number), got '1' (string)" }
  t.match(await method([row], idOf).source.load([[1], ['1'], [2]]), [{ error: mistaken }, { value: row }, { value: null }], 'of that read only')
  t.match(await method([{ id: 1 }, row], idOf).source.load([[1]]), [{ value: { id: 1 } }], 'where it is not there as well')
  t.match(await method([{ id: null }, { id: 2 }], idOf).source.load([[1], [2]]), [{ value: null }, { value: { id: 2 } }], 'a row of nobody, as a left join gives it')
  for (const [wrong, got] of [[() => undefined, 'undefined'], [async () => '1', 'an instance of Promise'], [() => new Date(0), 'an instance of Date']] as const) {
    await t.rejects(method([row], wrong).source.load([['1']]), { code: 'FST_CACHING_API_INVALID_DEFINITION', message: `User.many: idOf must return a string, a number or a bigint, got ${got}` })
  }
})

t.test('hooks that throw, or make no sense, fail the row that they were asked about and no other', async t => {
  const failFor1 = <T>(value: T) => (row: { id: number }): T => { if (row.id === 1) throw new Error('not 1'); return value }
  for (const options of [{ preCache: failFor1({}) }, { tags: failFor1(['x']) }, { tags: (row: { id: number }) => row.id === 1 ? 'x' as never : [] }, { primes: { one: failFor1([1]) } }, { primes: { one: (row: { id: number }) => row.id === 1 ? 1 as never : [1] } }, { preCache: (row: { id: number }) => row.id === 1 ? undefined : row }]) {
    const { bound } = bind(t, cachedObject({
      name: 'User',
      region: 'objects',
      methods: { one: loadOne((_context, id: number) => idRow(id)), many: loadMany({ load: (_context, ids: readonly number[]) => ids.map(idRow), idOf: row => row.id, ...options }) }
    }))
    const [first, second] = await bound.method('many').source.load([[1], [2]])
    t.type((first as { error: unknown }).error, Error)
    t.notOk('error' in second!)
  }
})

t.test('a preCache that returns nothing, or a promise, is an error by name, and not an empty cache', async t => {
  for (const [preCache, got] of [[() => {}, 'undefined'], [async (row: object) => row, 'an instance of Promise']] as const) {
    const { bound } = bind(t, cachedObject({ name: 'User', region: 'objects', methods: { one: loadOne((_context, id: number) => idRow(id), { preCache: preCache as never }) } }))
    t.match(await bound.method('one').source.load([[1]]), [{ error: { code: 'FST_CACHING_API_INVALID_DEFINITION', message: `User.one: preCache must return what is to be cached, got ${got}` } }])
  }
})

t.test('a row answers for the methods that it primes, with their own preCache, tags and policy', async t => {
  const { bound } = bind(t, cachedObject({
    name: 'User',
    region: 'objects',
    methods: {
      getById: loadOne((_context, id: number) => idRow(id), { preCache: row => ({ ...row, kept: true }), tags: row => [`user-${row.id}`], ttl: 5 }),
      find: loadOne((_context, _name: string) => idRow(1), { primes: { getById: row => [row.id] } })
    }
  }))
  const [loaded] = await bound.method('find').source.load([['x']])
  t.match(loaded, { value: { id: 1 }, tags: [], primed: [{ key: bound.method('getById').key([1]), value: { id: 1, kept: true }, tags: ['user-1'], policy: { ttl: 5 } }] })
  t.strictSame(bound.method('getById').tags(null), [], 'no row has no tags')
  t.equal(bound.method('getById').store(null), null, 'and is kept as it is')
})

t.test('a row is not primed by a column that has nothing in it: nobody would find it by that', async t => {
  const { bound } = bind(t, cachedObject({
    name: 'User',
    region: 'objects',
    methods: {
      getById: loadMany({ load: (_context, ids: readonly number[]) => ids.map(id => ({ id, name: id === 1 ? 'ann' : null })), idOf: row => row.id, primes: { getByName: row => [row.name] } }),
      getByName: loadMany({ load: (_context, _names: readonly string[]) => [] as { id: number, name: string | null }[], idOf: row => row.name! })
    }
  }))
  const [ann, nameless] = await bound.method('getById').source.load([[1], [2]])
  t.match(ann, { value: { id: 1 }, primed: [{ key: bound.method('getByName').key(['ann']) }] })
  t.strictSame(nameless, { value: { id: 2, name: null }, tags: [], primed: [] })
})
