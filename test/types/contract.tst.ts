/* Every name that other people's code relies on, and its shape. Renaming one is a breaking change. */
import type { FastifyPluginAsync } from 'fastify'
import { describe, expect, test } from 'tstyche'
import cachingApi, * as all from '../../plugin/index.js'
import type {
  AnyCachedObject, ArgsOf, Backend, CachedObject, CachedObjectDefinition, CachingApi, CachingApiOptions, CachingManager, CachingManagerOptions,
  CreateOptions, DogpileLock, Duration, ErrorCode, GetOptions, HeldLock, InvalidationBus, LoaderContext, LoadMethod, MethodName, MethodOptions,
  ReadOptions, Region, RegionOptions, RequestStats, ResultOf, RowOf, Serializer, SoleArg, WrappedFunction, WriteOptions
} from '../../plugin/index.js'

type LogFn = (details: object, message: string) => void
type Either<T, U> = T | U

test('the plugin is the default export', () => {
  expect(cachingApi).type.toBeAssignableTo<FastifyPluginAsync<CachingApiOptions>>()
  expect<CachingApiOptions>().type.toBeAssignableTo<CachingManagerOptions>()
  expect<CachingApiOptions>().type.toBeAssignableFrom<CachingManagerOptions & { serverTiming?: boolean }>()
})

test('options', () => {
  expect<Duration>().type.toBe<Either<number, string>>()
  expect<CachingManagerOptions>().type.toBeAssignableFrom<{
    regions: Record<string, RegionOptions>
    namespace?: string
    context?: LoaderContext | (() => LoaderContext | Promise<LoaderContext>)
    lock?: DogpileLock
    bus?: InvalidationBus
    logger?: { debug: LogFn, info: LogFn, warn: LogFn, error: LogFn }
    now?: () => number
  }>()
  expect<RegionOptions>().type.toBe<{
    tiers: readonly [Backend, ...Backend[]]
    ttl: Duration
    grace?: Duration
    refresh?: 'background' | 'inline'
    negativeTtl?: Duration
    jitter?: number
    lockTtl?: Duration
    lockWait?: Duration
    loadTimeout?: { soft?: Duration, hard?: Duration }
    tierTimeout?: Duration
    serializer?: Serializer
    coherence?: 'acknowledged' | 'eventual'
  }>()
  expect<ReadOptions>().type.toBe<{ maxAge?: Duration }>()
  expect<WriteOptions>().type.toBe<{ ttl?: Duration, grace?: Duration, tags?: readonly string[] }>()
  expect<CreateOptions<number>>().type.toBeAssignableFrom<{ maxAge?: Duration, ttl?: Duration, grace?: Duration, tags?: readonly string[] | ((value: number) => readonly string[]), shouldCache?: (value: number) => boolean }>()
  expect<GetOptions>().type.toBeAssignableFrom<{ maxAge?: Duration, force?: boolean }>()
  expect<MethodOptions<{ id: number }, { a: 1 }, { b: 1 }>>().type.toBeAssignableFrom<{
    preCache?: (row: { id: number }) => { a: 1 }
    postCache?: (stored: { a: 1 }, api: CachingApi) => { b: 1 }
    primes?: Readonly<Record<string, (row: { id: number }) => readonly unknown[]>>
    tags?: (row: { id: number }) => readonly string[]
    ttl?: Duration
    grace?: Duration
    negativeTtl?: Duration
  }>()
})

test('CachingManager', () => {
  expect(all.CachingManager).type.toBeConstructableWith({ regions: { a: { tiers: [all.memory()], ttl: '5m' } } })
  expect(all.CachingManager).type.not.toBeConstructableWith()
  expect(all.CachingManager).type.not.toBeConstructableWith({ regions: { a: { tiers: [], ttl: '5m' } } })
  expect(all.CachingManager).type.not.toBeConstructableWith({ regions: { a: { tiers: [all.memory()] } } })
  expect<CachingManager>().type.toBeAssignableTo<{
    readonly regions: ReadonlyMap<string, Region>
    region (name: string): Region
    createApi (): CachingApi
    close (): Promise<void>
  }>()
})

interface RegionContract {
  readonly name: string
  get<T> (key: string, options?: ReadOptions): Promise<T | undefined>
  getMany<T> (keys: readonly string[], options?: ReadOptions): Promise<(T | undefined)[]>
  getOrCreate<T> (key: string, creator: () => T | Promise<T>, options?: CreateOptions<T>): Promise<T>
  getOrCreateMany<T> (keys: readonly string[], creator: (missing: readonly string[]) => readonly T[] | Promise<readonly T[]>, options?: CreateOptions<T>): Promise<T[]>
  set<T> (key: string, value: T, options?: WriteOptions): Promise<void>
  setMany<T> (entries: Iterable<readonly [key: string, value: T]>, options?: WriteOptions): Promise<void>
  delete (key: string): Promise<void>
  deleteMany (keys: readonly string[]): Promise<void>
  invalidate (options?: { soft?: boolean }): Promise<void>
  invalidateTags (...tags: string[]): Promise<void>
  wrap<A extends readonly unknown[], T> (name: string, fn: (...args: A) => T | Promise<T>, options?: CreateOptions<T>): WrappedFunction<A, T>
}

test('Region', () => {
  expect<Region>().type.toBeAssignableTo<RegionContract>()
  expect<RegionContract>().type.toBeAssignableTo<Pick<Region, keyof RegionContract>>()
  expect<WrappedFunction<[a: number], string>>().type.toBeAssignableTo<{
    (a: number): Promise<string>
    get (a: number): Promise<string | undefined>
    set (value: string, a: number): Promise<void>
    refresh (a: number): Promise<string>
    invalidate (a: number): Promise<void>
    readonly original: (a: number) => string | Promise<string>
  }>()
})

describe('Region.wrap keeps the types of the function', () => {
  const region = {} as Region
  const sum = region.wrap('sum', async (a: number, b?: string) => `${a}${b}`)

  test('its arguments, and its result', () => {
    expect(sum(1, 'a')).type.toBe<Promise<string>>()
    expect(sum.get(1)).type.toBe<Promise<string | undefined>>()
    expect(sum.refresh(1)).type.toBe<Promise<string>>()
    expect(sum.set('x', 1, 'a')).type.toBe<Promise<void>>()
    expect(sum.original).type.toBeCallableWith(1, 'a')
    expect(sum).type.toBeCallableWith(1)
    expect(region.wrap('five', () => 5)()).type.toBe<Promise<number>>()
  })

  test('others are errors', () => {
    expect(sum).type.not.toBeCallableWith('1')
    expect(sum).type.not.toBeCallableWith(1, 2)
    expect(sum).type.not.toBeCallableWith()
    expect(sum.set).type.not.toBeCallableWith(5, 1)
    expect(sum.invalidate).type.not.toBeCallableWith('1')
    expect(region.wrap).type.not.toBeCallableWith('sum')
  })
})

interface CachingApiContract {
  get<O extends AnyCachedObject, M extends MethodName<O>> (object: O, method: M, args: ArgsOf<O, M>, options?: GetOptions): Promise<ResultOf<O, M>>
  getMany<O extends AnyCachedObject, M extends MethodName<O>> (object: O, method: M, argsList: ReadonlyArray<ArgsOf<O, M> | SoleArg<ArgsOf<O, M>>>, options?: GetOptions): Promise<Array<ResultOf<O, M>>>
  peek<O extends AnyCachedObject, M extends MethodName<O>> (object: O, method: M, args: ArgsOf<O, M>): ResultOf<O, M> | undefined
  set<O extends AnyCachedObject, M extends MethodName<O>> (object: O, method: M, args: ArgsOf<O, M>, row: RowOf<O, M> | null, options?: WriteOptions): Promise<void>
  invalidate<O extends AnyCachedObject, M extends MethodName<O>> (object: O, method: M, args: ArgsOf<O, M>): Promise<void>
  refresh<O extends AnyCachedObject, M extends MethodName<O>> (object: O, method: M, args: ArgsOf<O, M>): Promise<ResultOf<O, M>>
  lazyload<T extends object, P extends string, O extends AnyCachedObject, M extends MethodName<O>> (target: T, property: P, object: O, method: M, args: ArgsOf<O, M>): T & { readonly [K in P]: Promise<ResultOf<O, M>> }
  stash<T> (key: string, value: T): T
  stashed<T> (key: string): T | undefined
  region (name: string): Pick<Region, 'get' | 'getMany' | 'getOrCreate' | 'getOrCreateMany' | 'set' | 'setMany' | 'delete' | 'deleteMany'>
  readonly stats: Readonly<RequestStats>
}

test('CachingApi', () => {
  expect<CachingApi>().type.toBeAssignableTo<CachingApiContract>()
  expect<RequestStats>().type.toBe<{ local: number, tiers: Readonly<Record<string, number>>, stale: number, loaded: number, loads: number, waited: number }>()
})

test('cached objects', () => {
  expect<CachedObject<{ find: LoadMethod<[id: number], string | null, string> }>>().type.toBeAssignableTo<{ readonly name: string, readonly region: string, readonly methods: { find: LoadMethod<[id: number], string | null, string> } }>()
  expect<CachedObjectDefinition<{ find: LoadMethod<[], null, string> }>>().type.toBe<{ name: string, region: string, version?: number, methods: { find: LoadMethod<[], null, string> } }>()
  expect<LoadMethod<[id: number], string | null, string>>().type.toBe<{ readonly args: [id: number], readonly result: string | null, readonly row: string }>()
  expect(all.loadOne((_context, id: number) => ({ id }))).type.toBe<LoadMethod<[id: number], { id: number } | null, { id: number }>>()
  expect(all.loadMany({ load: (_context, ids: readonly number[]) => ids.map(id => ({ id })), idOf: row => row.id, maxBatch: 5 })).type.toBe<LoadMethod<[id: number], { id: number } | null, { id: number }>>()
})

test('backends, locks, buses, serializers: what it takes to write one', () => {
  expect<Backend>().type.toBeAssignableFrom<{
    readonly name: string
    getMany (keys: readonly string[]): Promise<(Uint8Array | undefined)[]>
    setMany (entries: readonly { key: string, value: Uint8Array, ttl: number }[]): Promise<void>
    deleteMany (keys: readonly string[]): Promise<void>
    close? (): Promise<void>
  }>()
  expect(all.memory).type.toBeAssignableTo<(options?: { maxEntries?: number, maxBytes?: number }) => Backend>()
  expect(all.redis).type.toBeAssignableTo<(client: unknown, options?: { keyPrefix?: string }) => Backend>()
  expect(all.nothing).type.toBeAssignableTo<() => Backend>()
  expect<DogpileLock>().type.toBeAssignableFrom<{ acquire (names: readonly string[], ttl: number): Promise<HeldLock | undefined> }>()
  expect<HeldLock>().type.toBe<{ readonly token: string, extend (ttl: number): Promise<boolean>, release (): Promise<void> }>()
  expect(all.redlock).type.toBeAssignableTo<(clients: readonly unknown[]) => DogpileLock>()
  expect(all.redisBus).type.toBeAssignableTo<(client: unknown) => InvalidationBus>()
  expect<InvalidationBus>().type.toBeAssignableFrom<{ close (): Promise<void> }>()
  expect<Serializer>().type.toBe<{ encode (value: unknown): Uint8Array, decode (bytes: Uint8Array): unknown }>()
})

test('errors have stable codes', () => {
  expect<ErrorCode>().type.toBe<
    | 'FST_CACHING_API_INVALID_OPTIONS' | 'FST_CACHING_API_INVALID_DEFINITION' | 'FST_CACHING_API_UNKNOWN_REGION'
    | 'FST_CACHING_API_INVALID_ARGUMENT' | 'FST_CACHING_API_BATCH_MISMATCH' | 'FST_CACHING_API_REENTRANT_LOAD'
    | 'FST_CACHING_API_LOAD_TIMEOUT' | 'FST_CACHING_API_INVALIDATION_PENDING' | 'FST_CACHING_API_BACKEND_FAILED' | 'FST_CACHING_API_CLOSED'
  >()
  for (const made of [
    new all.InvalidOptionsError('a', 'b', 'c'), new all.InvalidDefinitionError('a'), new all.UnknownRegionError('a', 'b'), new all.InvalidArgumentError('a', 'b', 'c'),
    new all.BatchMismatchError('a', 'b', 'c'), new all.ReentrantLoadError('a'), new all.LoadTimeoutError('a', 1), new all.InvalidationPendingError('a', 'b'), new all.ClosedError('a')
  ]) expect(made).type.toBeAssignableTo<Error & { code: string, statusCode?: number }>()
})
