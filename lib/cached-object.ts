import type { CachingApi } from './caching-api.js'
import { isObject, namesOf, refuse, refuseUnknown, refusing } from './checks.js'
import { resolveDuration, type Duration } from './duration.js'
import { show } from './errors.js'
import { isName, nameRule } from './keys.js'
import type { LoaderContext } from './loader-context.js'

/** A row goes loader → `preCache` → tiers → `postCache` → request, whichever of these it came from. */
export interface MethodOptions<T, Stored = T, Out = Stored> {
  /** Before a row goes into the tiers: drop, convert, copy. Not a promise. */
  preCache?: (row: T) => Stored
  /** Once for each request that reads the value, on an object of its own: attach lazyloads, make an instance. */
  postCache?: (stored: Stored, api: CachingApi) => Out
  /** Other methods of the same object that a row answers as well: `{ getById: user => [user.id] }`. */
  primes?: Readonly<Record<string, (row: T) => readonly unknown[]>>
  /** What a region's `invalidateTags` forgets the row by. */
  tags?: (row: T) => readonly string[]
  /** How long a row is fresh. Default: the region's. */
  ttl?: Duration
  /** How long past `ttl` it may be served stale. Default: the region's. */
  grace?: Duration
  /** How long "there is no such row" is remembered. Default: the region's, or else `ttl`. */
  negativeTtl?: Duration
}

/** Its arguments, what a read of it resolves to, and what its loader gives. */
export interface LoadMethod<A extends readonly unknown[], Result, Row = Result> { readonly args: A, readonly result: Result, readonly row: Row }

// `any`: to infer the methods' own types, TypeScript needs a bound without variance.
type Methods = Record<string, LoadMethod<any, any, any>>

export interface CachedObjectDefinition<M extends Methods> {
  /** Part of every key. */
  name: string
  /** The name of the region that keeps it. */
  region: string
  /** Part of every key: raise it when the shape of the values changes. Default 1. */
  version?: number
  methods: M
}

export interface CachedObject<M extends Methods> { readonly name: string, readonly region: string, readonly methods: M }

/** Any cached object, whatever its methods. */
export type AnyCachedObject = CachedObject<any>
export type MethodName<O extends AnyCachedObject> = keyof O['methods'] & string
export type ArgsOf<O extends AnyCachedObject, M extends MethodName<O>> = O['methods'][M]['args']
export type ResultOf<O extends AnyCachedObject, M extends MethodName<O>> = O['methods'][M]['result']
export type RowOf<O extends AnyCachedObject, M extends MethodName<O>> = O['methods'][M]['row']
/** What `getMany` takes for each read of a method of one argument. Not an array: it would be taken for the list of arguments. */
export type SoleArg<A> = A extends readonly [infer Only extends NoArray] ? Only : A extends readonly [infer Only] ? Exclude<Only, readonly unknown[]> : never
/** What is known to be no array. `Exclude` alone would stay an open question in generic code. */
type NoArray = string | number | bigint | boolean | null | undefined | (object & { readonly [Symbol.iterator]?: never })

/** A method as it was defined. The types of its functions were checked where `loadOne` or `loadMany` was called. */
export interface MethodDefinition {
  readonly kind: 'one' | 'many'
  /** 'one': a row, or null. 'many': rows in any order. */
  readonly load: (context: LoaderContext, ...args: readonly unknown[]) => unknown
  readonly idOf: ((row: unknown) => unknown) | undefined
  readonly maxBatch: number
  readonly preCache: ((row: unknown) => unknown) | undefined
  readonly postCache: ((stored: unknown, api: CachingApi) => unknown) | undefined
  readonly primes: readonly (readonly [method: string, args: (row: unknown) => readonly unknown[]])[]
  readonly tags: ((row: unknown) => readonly string[]) | undefined
  readonly ttl: number | undefined
  readonly grace: number | undefined
  readonly negativeTtl: number | undefined
}

const kMethod = Symbol('method definition')
const kVersion = Symbol('version')

// NoInfer: within `cachedObject(…)` a method's result would be inferred from what that accepts, which is any.

/** One load for one set of arguments. Its `null` or `undefined` means "there is no such row", and is remembered as such. */
export function loadOne<A extends readonly unknown[], T, Stored = T, Out = Stored> (
  load: (context: LoaderContext, ...args: A) => Promise<T | null | undefined> | T | null | undefined,
  options: MethodOptions<T, Stored, Out> = {}
): LoadMethod<A, NoInfer<Awaited<Out>> | null, T> {
  assertFunction(load, 'loadOne(load)')
  return makeMethod('loadOne', optionNames, options, { kind: 'one', load, idOf: undefined, maxBatch: 1 })
}

/**
 * One load for many ids: `where id = any($1)`. Rows may come in any order and be fewer; an id without a row becomes `null`. An
 * Error among the rows fails the read of its id, and no other: `Object.assign(new Error('refused'), { id })`, where `idOf` finds it,
 * of a loader that returns `Promise<(Row | Error)[]>`. One of no id that was asked for fails the reads of all.
 */
export function loadMany<Id extends string | number | bigint, T, Stored = T, Out = Stored> (method: {
  load: (context: LoaderContext, ids: readonly Id[]) => Promise<readonly (T | Error)[]> | readonly (T | Error)[]
  /** The id that a row answers, of the type that `load` was asked for: 1 is not '1'. */
  idOf: (row: T) => Id
  /** Larger batches are split. Default 1000. */
  maxBatch?: number
} & MethodOptions<T, Stored, Out>): LoadMethod<[id: Id], NoInfer<Awaited<Out>> | null, T> {
  if (!isObject(method)) refuse(`loadMany(method) must be an object with load and idOf, got ${show(method)}`)
  const { load, idOf, maxBatch = 1000, ...options } = method
  assertFunction(load, 'loadMany: load')
  assertFunction(idOf, 'loadMany: idOf')
  if (!Number.isInteger(maxBatch) || maxBatch < 1) refuse(`loadMany: maxBatch must be a positive integer, got ${show(maxBatch)}`)
  return makeMethod('loadMany', ['load', 'idOf', 'maxBatch', ...optionNames], options, { kind: 'many', load, idOf, maxBatch })
}

const optionNames = namesOf<MethodOptions<unknown>>({ preCache: true, postCache: true, primes: true, tags: true, ttl: true, grace: true, negativeTtl: true })

function makeMethod<A extends readonly unknown[], Result, Row> (where: string, known: readonly string[], options: object, own: Pick<MethodDefinition, 'kind' | 'maxBatch'> & { load: unknown, idOf: unknown }): LoadMethod<A, Result, Row> {
  if (!isObject(options)) refuse(`${where}: options must be an object, got ${show(options)}`)
  refuseUnknown(options, where, known)
  const { preCache, postCache, primes = {}, tags, ttl, grace, negativeTtl } = options as MethodOptions<unknown>
  if (!isObject(primes)) refuse(`${where}: primes must be an object of functions, got ${show(primes)}`)
  for (const [name, fn] of Object.entries({ preCache, postCache, tags })) if (fn !== undefined) assertFunction(fn, `${where}: ${name}`)
  for (const [name, fn] of Object.entries(primes)) assertFunction(fn, `${where}: primes.${name}`)
  const durations = refusing(where, () => ({
    ttl: durationOf(ttl, 'ttl', 1),
    grace: durationOf(grace, 'grace'),
    negativeTtl: durationOf(negativeTtl, 'negativeTtl')
  }))
  const definition = { ...own, preCache, postCache, primes: Object.entries(primes), tags, ...durations }
  return { [kMethod]: definition } as unknown as LoadMethod<A, Result, Row>
}

const definitionNames = namesOf<CachedObjectDefinition<Methods>>({ name: true, region: true, version: true, methods: true })

/**
 * A kind of row, and the ways to load it. Its values live in `region` under its name, its version and a method's
 * arguments.
 * @throws InvalidDefinitionError; two objects of one name in one region are refused when they are first used.
 */
export function cachedObject<const M extends Methods> (definition: CachedObjectDefinition<M>): CachedObject<M> {
  if (!isObject(definition)) refuse(`cachedObject(definition) must be an object, got ${show(definition)}`)
  const { name, region, version = 1, methods } = definition
  if (!isName(name)) refuse(`cachedObject: name must be ${nameRule}, got ${show(name)}`)
  refuseUnknown(definition, name, definitionNames)
  if (typeof region !== 'string' || region === '') refuse(`${name}: region must be the name of a region, got ${show(region)}`)
  if (!Number.isSafeInteger(version) || version < 0) refuse(`${name}: version must be a whole number, got ${show(version)}`)
  if (!isObject(methods) || Object.keys(methods).length === 0) refuse(`${name}: methods must be an object of at least one loadOne(…) or loadMany(…), got ${show(methods)}`)
  assertMethods(methods, name)
  return Object.freeze({ name, region, methods: Object.freeze({ ...methods }), [kVersion]: version })
}

function assertMethods (methods: Methods, name: string): void {
  for (const [method, made] of Object.entries(methods)) {
    if (!isName(method)) refuse(`${name}: a method's name must be ${nameRule}, got ${show(method)}`)
    if (definitionOf(made) === undefined) refuse(`${name}.${method} must be made by loadOne or loadMany, got ${show(made)}`)
    for (const [primed] of definitionOf(made)!.primes) {
      if (!Object.hasOwn(methods, primed)) refuse(`${name}.${method} primes '${primed}', which is not a method of ${name}`)
    }
  }
}

/** @internal Undefined for anything that loadOne and loadMany didn't make. */
export const definitionOf = (method: unknown): MethodDefinition | undefined =>
  (Object(method) as { [kMethod]?: MethodDefinition })[kMethod]

/** @internal Undefined for anything that cachedObject didn't make. */
export const versionOf = (object: unknown): number | undefined => (Object(object) as { [kVersion]?: number })[kVersion]

const durationOf = (value: Duration | undefined, path: string, least?: number): number | undefined =>
  value === undefined ? undefined : resolveDuration(value, path, least)

function assertFunction (value: unknown, where: string): void {
  if (typeof value !== 'function') refuse(`${where} must be a function, got ${show(value)}`)
}
