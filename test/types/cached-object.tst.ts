import { describe, expect, test } from 'tstyche'
import { cachedObject, loadMany, loadOne, type ArgsOf, type CachedObject, type CachingApi, type LoadMethod, type MethodName, type ResultOf, type RowOf, type SoleArg } from '../../plugin/index.js'

interface Photo { id: string, url: string }
interface UserRow { id: number, name: string, photoId: string, password: string }

declare const api: CachingApi
declare function select<T> (ids: readonly unknown[]): Promise<T[]>

const PhotoOf = cachedObject({
  name: 'Photo',
  region: 'objects',
  methods: { getById: loadMany({ load: (_context, ids: readonly string[]) => select<Photo>(ids), idOf: photo => photo.id }) }
})

const User = cachedObject({
  name: 'User',
  region: 'objects',
  version: 2,
  methods: {
    getById: loadMany({
      load: (_context, ids: readonly number[]) => select<UserRow>(ids),
      idOf: user => user.id,
      preCache: ({ password, ...user }) => user,
      postCache: (user, api) => api.lazyload(user, 'photo', PhotoOf, 'getById', [user.photoId]),
      primes: { getByName: user => [user.name] },
      tags: user => [`user-${user.id}`]
    }),
    getByName: loadOne(async (_context, name: string): Promise<UserRow | undefined> => (await select<UserRow>([name]))[0]),
    search: loadOne((_context, by: { name: string }, limit?: number) => ({ by, limit })),
    count: loadOne(() => 5),
    byBigint: loadMany({ load: (_context, ids: readonly bigint[]) => select<{ id: bigint }>(ids), idOf: row => row.id })
  }
})
type Users = typeof User

describe('without annotations, types come from the loaders', () => {
  test('loadMany: one id in, a row or null out', () => {
    expect(api.get(PhotoOf, 'getById', ['a'])).type.toBe<Promise<Photo | null>>()
    expect(api.get(User, 'byBigint', [1n])).type.toBe<Promise<{ id: bigint } | null>>()
    expect<ArgsOf<Users, 'getById'>>().type.toBe<[id: number]>()
  })

  test('loadOne: its arguments in, what it returns or null out', () => {
    expect(api.get(User, 'getByName', ['alice'])).type.toBe<Promise<UserRow | null>>()
    expect(api.get(User, 'search', [{ name: 'a' }, 10])).type.toBe<Promise<{ by: { name: string }, limit: number | undefined } | null>>()
    expect(api.get(User, 'count', [])).type.toBe<Promise<number | null>>()
  })

  test('preCache decides what postCache gets, postCache what a read resolves to', () => {
    type Stored = Omit<UserRow, 'password'>
    expect<NonNullable<ResultOf<Users, 'getById'>>>().type.toBeAssignableTo<Stored & { readonly photo: Promise<Photo | null> }>()
    expect<NonNullable<ResultOf<Users, 'getById'>>>().type.not.toHaveProperty('password')
    expect<null>().type.toBeAssignableTo<ResultOf<Users, 'getById'>>()
    expect<RowOf<Users, 'getById'>>().type.toBe<UserRow>()
  })

  test('what postCache promises has come when the row is read', () => {
    const Awaited = cachedObject({
      name: 'Awaited',
      region: 'objects',
      methods: {
        one: loadOne(async (_context, _id: number) => ({ id: 1 }), { postCache: async ({ id }) => ({ id, photo: 'x' }) }),
        many: loadMany({ load: async (_context, ids: readonly number[]) => ids.map(id => ({ id })), idOf: ({ id }) => id, postCache: async ({ id }) => ({ id, photo: 'x' }) })
      }
    })
    expect(api.get(Awaited, 'one', [1])).type.toBe<Promise<{ id: number, photo: string } | null>>()
    expect(api.peek(Awaited, 'many', [1])).type.toBe<{ id: number, photo: string } | null | undefined>()
  })

  test('the names of methods are those that were given', () => {
    expect<MethodName<Users>>().type.toBe<'getById' | 'getByName' | 'search' | 'count' | 'byBigint'>()
    expect(User.methods.getByName).type.toBeAssignableTo<LoadMethod<[name: string], UserRow | null, UserRow>>()
  })
})

describe('getMany', () => {
  test('gives a list of results', () => {
    expect(api.getMany(PhotoOf, 'getById', ['a', 'b'])).type.toBe<Promise<Array<Photo | null>>>()
  })

  test('takes bare ids in code that is generic in them', () => {
    function many<Id extends string | number, T> (object: CachedObject<{ byId: LoadMethod<[id: Id], T | null, T> }>, ids: readonly Id[]) {
      return api.getMany(object, 'byId', ids)
    }
    expect(many<string, Photo>).type.toBeCallableWith({} as CachedObject<{ byId: LoadMethod<[id: string], Photo | null, Photo> }>, ['a'])
  })

  test('takes bare arguments of a method of one, and tuples of any', () => {
    expect(api.getMany).type.toBeCallableWith(User, 'getById', [1, 2])
    expect(api.getMany).type.toBeCallableWith(User, 'getById', [[1], 2] as Array<number | [number]>)
    expect(api.getMany).type.toBeCallableWith(User, 'getById', [1, 2] as readonly number[])
    expect(api.getMany).type.toBeCallableWith(User, 'search', [[{ name: 'a' }, 1], [{ name: 'b' }]] as Array<[{ name: string }, number?]>)
    expect(api.getMany).type.not.toBeCallableWith(User, 'getById', ['1'])
    const ByTags = cachedObject({ name: 'ByTags', region: 'objects', methods: { get: loadOne((_context, tags: string[]) => tags) } })
    expect(api.getMany).type.toBeCallableWith(ByTags, 'get', [[['a', 'b']], [['c']]] as Array<[string[]]>)
    expect(api.getMany).type.not.toBeCallableWith(ByTags, 'get', [['a', 'b'], ['c']])
    expect(api.getMany).type.not.toBeCallableWith(User, 'search', [{ name: 'a' }])
    expect(api.getMany).type.not.toBeCallableWith(User, 'getById', 1)
    expect<SoleArg<[id: number]>>().type.toBe<number>()
    expect<SoleArg<[a: number, b: number]>>().type.toBe<never>()
    expect<SoleArg<[ids: number[]]>>().type.toBe<never>()
    expect<SoleArg<[one: number | readonly string[]]>>().type.toBe<number>()
    expect<SoleArg<[one: { id: number } | Date | null]>>().type.toBe<{ id: number } | Date | null>()
  })
})

describe('wrong use is an error of the compiler', () => {
  test('a method that there isn\'t', () => {
    expect(api.get).type.not.toBeCallableWith(User, 'get_by_id', [1])
    expect(api.getMany).type.not.toBeCallableWith(User, 'get_by_id', [1])
    expect(api.peek).type.not.toBeCallableWith(User, 'toString', [1])
    expect(api.lazyload).type.not.toBeCallableWith({}, 'user', User, 'get_by_id', [1])
  })

  test('arguments of another type or number', () => {
    for (const read of [api.get, api.peek, api.invalidate, api.refresh]) {
      expect(read).type.toBeCallableWith(User, 'getById', [1])
    }
    expect(api.get).type.not.toBeCallableWith(User, 'getById', ['1'])
    expect(api.get).type.not.toBeCallableWith(User, 'getById', [1, 2])
    expect(api.get).type.not.toBeCallableWith(User, 'getById', [])
    expect(api.get).type.not.toBeCallableWith(User, 'getById', 1)
    expect(api.invalidate).type.not.toBeCallableWith(User, 'getByName', [1])
    expect(api.refresh).type.not.toBeCallableWith(User, 'search', [{ nam: 'a' }])
  })

  test('options that there aren\'t', () => {
    expect(api.get).type.toBeCallableWith(User, 'getById', [1], { maxAge: '5s', force: true })
    expect(api.get).type.not.toBeCallableWith(User, 'getById', [1], { ttl: '5s' })
    expect(api.get).type.not.toBeCallableWith(User, 'getById', [1], { force: 'yes' })
  })

  test('what is no cached object', () => {
    expect(api.get).type.not.toBeCallableWith('User', 'getById', [1])
    expect(api.get).type.not.toBeCallableWith({ name: 'User' }, 'getById', [1])
  })
})

test('set takes a row as the loader gives it, or null, and not what a read resolves to', () => {
  const row: UserRow = { id: 1, name: 'alice', photoId: 'a', password: 'secret' }
  expect(api.set).type.toBeCallableWith(User, 'getById', [1], row)
  expect(api.set).type.toBeCallableWith(User, 'getById', [1], null, { ttl: '5m', grace: 5, tags: ['a'] })
  expect(api.set).type.not.toBeCallableWith(User, 'getById', [1], { id: 1, name: 'alice', photoId: 'a' })
  expect(api.set).type.not.toBeCallableWith(User, 'getById', [1], undefined)
  expect(api.set).type.not.toBeCallableWith(User, 'getById', [1])
  expect(api.set(User, 'count', [], 7)).type.toBe<Promise<void>>()
})

test('peek gives what a read resolves to, at once, or undefined', () => {
  expect(api.peek(PhotoOf, 'getById', ['a'])).type.toBe<Photo | null | undefined>()
})

test('a lazyloaded property is a promise of what a read resolves to, added to its target', () => {
  const page = api.lazyload({ title: 'x' }, 'photo', PhotoOf, 'getById', ['a'])
  expect(page).type.toBeAssignableTo<{ title: string }>()
  expect(page.photo).type.toBe<Promise<Photo | null>>()
  expect(page).type.not.toHaveProperty('other')
  // @ts-expect-error Cannot assign to 'photo'
  page.photo = Promise.resolve(null)
  expect(api.lazyload).type.not.toBeCallableWith('text', 'photo', PhotoOf, 'getById', ['a'])
})

test('stashed is what its caller says it is', () => {
  expect(api.stash('k', { a: 5 })).type.toBe<{ a: number }>()
  expect(api.stashed<number>('k')).type.toBe<number | undefined>()
})

describe('definitions', () => {
  test('an Error among the rows of loadMany is no row', () => {
    const refused = (id: number) => Object.assign(new Error('refused'), { id })
    const getById = loadMany({ load: async (_context, ids: readonly number[]): Promise<(UserRow | Error)[]> => ids.map(refused), idOf: user => user.id })
    expect(getById).type.toBe<LoadMethod<[id: number], UserRow | null, UserRow>>()
  })

  test('rows of any kind keep their type beside the Errors that a loader of many may return', () => {
    class Row { id = 1; #secret = 1; get secret () { return this.#secret } }
    type Shape = { kind: 'a', id: number, a: 1 } | { kind: 'b', id: number, b: 2 }
    interface Message { id: number, name: string, message: string, stack?: string }
    function rowsOf<T extends { id: number }> (rows: (ids: readonly number[]) => Promise<readonly T[]> | readonly T[]): LoadMethod<[id: number], T | null, T> {
      return loadMany({ load: (_context, ids: readonly number[]) => rows(ids), idOf: row => row.id })
    }
    expect(rowsOf((): readonly Row[] => [])).type.toBe<LoadMethod<[id: number], Row | null, Row>>()
    expect(rowsOf(async (): Promise<readonly Shape[]> => [])).type.toBe<LoadMethod<[id: number], Shape | null, Shape>>()
    expect(loadMany({ load: (_context, ids: readonly number[]) => select<Message>(ids), idOf: row => row.id })).type.toBe<LoadMethod<[id: number], Message | null, Message>>()
    expect(loadMany({ load: (_context, ids: readonly number[]) => select<any>(ids), idOf: row => row.id })).type.toBe<LoadMethod<[id: number], any, any>>()
    expect(loadMany({ load: (_context, ids: readonly number[]) => ids.map(id => ({ id })), idOf: row => row.id })).type.toBe<LoadMethod<[id: number], { id: number } | null, { id: number }>>()
    expect(loadMany<number, UserRow>({ load: async () => [], idOf: user => user.id })).type.toBe<LoadMethod<[id: number], UserRow | null, UserRow>>()
  })

  test('loadMany wants ids that can be compared, and idOf of their type', () => {
    loadMany({
      load: (_context, ids: readonly number[]) => select<UserRow>(ids),
      // @ts-expect-error Type 'string' is not assignable to type 'number'
      idOf: user => user.name
    })
    expect(loadMany).type.not.toBeCallableWith({ load: (_context: unknown, ids: readonly object[]) => [...ids], idOf: (row: object) => row })
    expect(loadMany).type.not.toBeCallableWith({ load: (_context: unknown, ids: readonly number[]) => select<UserRow>(ids) })
  })

  test('options are durations, and functions of a row', () => {
    loadOne((_context, id: number) => ({ id }), { ttl: '10m', grace: 5000, negativeTtl: 0, tags: row => [`${row.id}`] })
    expect(loadOne).type.not.toBeCallableWith((_context: unknown, id: number) => ({ id }), { maxBatch: 5 })
    // @ts-expect-error Property 'name' does not exist
    loadOne((_context, id: number) => ({ id }), { tags: row => [row.name] })
    // @ts-expect-error Type 'number' is not assignable to type 'readonly unknown[]'
    loadOne((_context, id: number) => ({ id }), { primes: { other: row => row.id } })
  })

  test('a cached object has a name, a region and methods', () => {
    expect(cachedObject).type.not.toBeCallableWith({ name: 'User', region: 'objects' })
    expect(cachedObject).type.not.toBeCallableWith({ name: 'User', region: 'objects', methods: { getById: () => 1 } })
    expect(cachedObject).type.not.toBeCallableWith({ region: 'objects', methods: { getById: loadOne(() => 1) } })
    expect(User.name).type.toBe<string>()
    // @ts-expect-error Cannot assign to 'name'
    User.name = 'Other'
  })
})
