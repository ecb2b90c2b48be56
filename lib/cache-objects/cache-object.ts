import { CacheObject, read, stage } from './cache-object-instance.js'
import { kModel, kProperty, modelOf, resolveModel, type PropertyDefinition } from './cache-object-model.js'
import { assertBackend, isObject, namesOf, refuse, refuseUnknown, refusing } from '../checks.js'
import { resolveDuration, type Duration } from '../duration.js'
import { show } from '../errors.js'
import type { Backend } from '../backends/backend.js'
import { copyIn, type Shared } from '../values.js'

export interface Property<T> { readonly value: T }

export interface PropertyOptions<T> {
  /** Where this property lives, if not in the object's own backend. */
  backend?: Backend
  /** What a read resolves to where nothing is stored. A stored 0, '' or false is not nothing. Default `null`. */
  default?: T
  /** How long a value is kept after it was written. Default: 365 days. */
  ttl?: Duration
}

// `any`: to infer the properties' own types, TypeScript needs a bound without variance.
export type Properties = Record<string, Property<any>>
type ValueOf<P extends Properties, K extends keyof P> = P[K]['value']

export interface CacheObjectDefinition<P extends Properties> {
  /** Part of every key: objects of one name and backend share what they keep. */
  name: string
  /** Where the properties live that name no backend of their own. */
  backend?: Backend
  properties: P
  /** Budget of one operation on one backend; past it the operation has failed. Default '250ms'. */
  timeout?: Duration
}

export interface CacheObjectClass<P extends Properties> {
  new (id: string | number | bigint): CacheObjectInstance<P>
  readonly properties: P
}

export type AnyCacheObjectClass = CacheObjectClass<any>

/** A class with the properties of `C` and those of `P`. */
export interface ExtendedCacheObjectClass<C extends AnyCacheObjectClass, P extends Properties> {
  new (id: string | number | bigint): CacheObjectInstance<Omit<C['properties'], keyof P> & P> & InstanceType<C>
  readonly properties: Omit<C['properties'], keyof P> & P
}

export type CacheObjectInstance<P extends Properties> = CacheObjectMethods<P> & { [K in keyof P]: PropertyAccess<ValueOf<P, K>> }

/** Read: a promise of the value, or of its default, or of `null`. Written: staged until `save()`. */
export type PropertyAccess<T> = Promise<T | null> | T | null

/** All of them reject with BackendFailedError where a backend fails; other backends' properties are not concerned. */
export interface CacheObjectMethods<P extends Properties> {
  /** The id as a string: 1, '1' and 1n are the same. */
  readonly id: string
  /**
   * What was assigned and is not saved yet, or what the backend has. With `useCache`, answered by what this instance
   * last read or wrote, if it did.
   */
  get<K extends keyof P & string> (property: K, options?: { useCache?: boolean }): Promise<ValueOf<P, K> | null>
  /**
   * All properties, with one round trip to each backend. If a backend fails, the error has the names of its
   * `properties`, and the `values` of the others.
   */
  getAll (): Promise<{ [K in keyof P]: ValueOf<P, K> | null }>
  /** Written at once. `null` deletes. */
  set<K extends keyof P & string> (property: K, value: ValueOf<P, K> | null): Promise<void>
  /** Written at once, as `set(property, null)`. */
  delete (property: keyof P & string): Promise<void>
  /** All properties, and what was assigned and not saved. */
  deleteAll (): Promise<void>
  /** Writes what was assigned, with one round trip to each backend. What a backend that is away didn't take stays assigned. */
  save (): Promise<void>
}

const optionNames = namesOf<PropertyOptions<unknown>>({ backend: true, default: true, ttl: true })
const nothing: Shared = { value: null, loose: undefined }
const year = 365 * 24 * 60 * 60 * 1000

/** A property of a cache object. @throws InvalidDefinitionError */
export function property<T> (options: PropertyOptions<T> = {}): Property<T> {
  if (!isObject(options)) refuse(`property(options) must be an object, got ${show(options)}`)
  const { backend, default: fallback = null, ttl = year } = options
  refuseUnknown(options, 'property', optionNames)
  const definition: PropertyDefinition = refusing('property', () => {
    if (backend !== undefined) assertBackend(backend, 'backend')
    return { backend, fallback: fallback === null ? nothing : copyIn(fallback), ttl: Math.ceil(resolveDuration(ttl, 'ttl', 1)) }
  })
  return Object.freeze({ [kProperty]: definition }) as unknown as Property<T>
}

/**
 * A named bag of properties with an id, each kept in a backend under name, id and property.
 *
 *     const UserCache = cacheObject({ name: 'UserCache', backend: redis(client), properties: { username: property<string>() } })
 *     const user = new UserCache(10)
 *     user.username = 'alice'          // staged
 *     await user.save()                // one round trip to each backend
 *     await user.username              // 'alice'
 *
 * With `extends`, the class is a subclass that has that one's properties and methods too. It keeps all of them under its
 * own name, and those that name no backend in its own, if it has one.
 * @throws InvalidDefinitionError
 */
export function cacheObject<C extends AnyCacheObjectClass, P extends Properties> (definition: CacheObjectDefinition<P> & { extends: C }): ExtendedCacheObjectClass<C, P>
export function cacheObject<P extends Properties> (definition: CacheObjectDefinition<P>): CacheObjectClass<P>
export function cacheObject (definition: CacheObjectDefinition<Properties> & { extends?: AnyCacheObjectClass }): AnyCacheObjectClass {
  if (!isObject(definition)) refuse(`cacheObject(definition) must be an object, got ${show(definition)}`)
  const { extends: Base = CacheObject } = definition
  const base = modelOf(Base)
  if (base === undefined && Base !== CacheObject) refuse(`cacheObject: extends must be a class made by cacheObject, got ${show(Base)}`)
  const model = resolveModel(definition, base, Base.prototype as object)

  const Made = class extends (Base as typeof CacheObject) {}
  Object.defineProperty(Made, 'name', { value: model.name })
  Object.defineProperty(Made, 'properties', { value: model.made })
  Object.defineProperty(Made, kModel, { value: model })
  for (const property of model.properties.values()) {
    Object.defineProperty(Made.prototype, property.name, {
      get (this: CacheObject) { return read(this, property.name) },
      set (this: CacheObject, value: unknown) { stage(this, property.name, value) },
      configurable: true
    })
  }
  return Made as unknown as AnyCacheObjectClass
}
