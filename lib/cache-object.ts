import { assertBackend } from './checks.js'
import { longestTimer, resolveDuration, type Duration } from './duration.js'
import { BackendFailedError, InvalidArgumentError, InvalidDefinitionError, show, type FailedProperties } from './errors.js'
import { groupBy } from './group-by.js'
import { propertyKey, validName } from './keys.js'
import { ObjectBackend } from './object-backend.js'
import { msgpackSerializer } from './serializer.js'
import { UnstorableError, type Backend } from './tiers/backend.js'
import { watch, type UnsavedObjects } from './unsaved.js'
import { copyIn, own, share, type Shared } from './values.js'

export interface Property<T> { readonly value: T }

export interface PropertyOptions<T> {
  /** Where this property lives, if not in the object's own backend. */
  backend?: Backend
  /** What a read resolves to where nothing is stored. A stored 0, '' or false is not nothing. Default `null`. */
  default?: T
  /** How long a value is kept after it was written. Default: 365 days. */
  ttl?: Duration
}

// `any`: inference of the properties' own types needs a bound without variance.
export type Properties = Record<string, Property<any>>
type ValueOf<P extends Properties, K extends keyof P> = P[K]['value']

export interface CacheObjectDefinition<P extends Properties> {
  /** Part of every key: objects of one name and backend share what they keep. */
  name: string
  /** For properties that name none of their own. */
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
  /** As a string: 1, '1' and 1n are the same id. */
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

const kProperty = Symbol('property definition')
const kModel = Symbol('model')

interface PropertyDefinition {
  readonly backend: Backend | undefined
  readonly fallback: Shared
  readonly ttl: number
}

/** A property in its object. */
interface ModelProperty {
  readonly name: string
  readonly backend: ObjectBackend
  readonly fallback: Shared
  readonly ttl: number
}

/** What a class is: its definition, checked, with every default in place. */
interface Model {
  readonly name: string
  readonly backend: Backend | undefined
  readonly timeout: number
  readonly properties: ReadonlyMap<string, ModelProperty>
  readonly backends: ReadonlySet<Backend>
  /** As they were made, for classes that extend this one. */
  readonly made: Properties
}

/** A value under way to its backend; without one, a deletion. */
interface Write {
  readonly shared: Shared | undefined
  readonly bytes: Uint8Array | undefined
}

/** What an instance knows of one of its properties. */
interface Slot {
  readonly property: ModelProperty
  /** Assigned, not saved yet. */
  staged: Write | undefined
  /** The newest of those that are under way. */
  writing: Write | undefined
  /** Last read or written; without a value, there was nothing. */
  known: { readonly shared: Shared | undefined } | undefined
  /** Goes up with each write: what a read that began before has found is old. */
  writes: number
  /** Ends with the newest write: the next one waits for it, so that they arrive in their order. */
  tail: Promise<void> | undefined
}

const nothing: Shared = { value: null, loose: undefined }
const deletion: Write = { shared: undefined, bytes: undefined }
const year = 365 * 24 * 60 * 60 * 1000

/** A property of a cache object. @throws InvalidDefinitionError */
export function property<T> (options: PropertyOptions<T> = {}): Property<T> {
  if (typeof options !== 'object' || options === null) throw new InvalidDefinitionError(`property(options) must be an object, got ${show(options)}`)
  const { backend, default: fallback = null, ttl = year, ...rest } = options
  const [unknown] = Object.keys(rest)
  if (unknown !== undefined) throw new InvalidDefinitionError(`property: '${unknown}' is not an option; the options are backend, default, ttl`)
  const definition: PropertyDefinition = defining('property', () => {
    if (backend !== undefined) assertBackend(backend, 'backend')
    return { backend, fallback: fallback === null ? nothing : copyIn(fallback), ttl: Math.ceil(resolveDuration(ttl, 'ttl', 1)) }
  })
  return Object.freeze({ [kProperty]: definition }) as unknown as Property<T>
}

const definitionOf = (made: unknown): PropertyDefinition | undefined => (Object(made) as { [kProperty]?: PropertyDefinition })[kProperty]

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
  if (typeof definition !== 'object' || definition === null) throw new InvalidDefinitionError(`cacheObject(definition) must be an object, got ${show(definition)}`)
  const { extends: Base = CacheObject } = definition
  const base = modelOf(Base)
  if (base === undefined && Base !== CacheObject) throw new InvalidDefinitionError(`cacheObject: extends must be a class made by cacheObject, got ${show(Base)}`)
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

/** @internal Undefined for what cacheObject didn't make. */
export const modelOf = (object: unknown): Model | undefined => (Object(object) as { [kModel]?: Model })[kModel]

function resolveModel (definition: CacheObjectDefinition<Properties> & { extends?: unknown }, base: Model | undefined, above: object): Model {
  const { name, backend = base?.backend, properties, timeout = base?.timeout ?? 250, extends: _, ...rest } = definition
  if (typeof name !== 'string' || !validName.test(name)) throw new InvalidDefinitionError(`cacheObject: name must be 1 to 64 letters, digits and . $ @ / - _, got ${show(name)}`)
  const [unknown] = Object.keys(rest)
  if (unknown !== undefined) throw new InvalidDefinitionError(`${name}: '${unknown}' is not an option; the options are name, backend, properties, timeout, extends`)
  if (typeof properties !== 'object' || properties === null || Array.isArray(properties)) throw new InvalidDefinitionError(`${name}: properties must be an object of property(…), got ${show(properties)}`)
  for (const own of Object.keys(properties)) {
    // 'then' would be called by whoever awaits the object.
    if (base?.properties.has(own) !== true && (own in above || own === 'id' || own === 'then')) throw new InvalidDefinitionError(`${name}: a property can't be named '${own}': that is a member of the object`)
  }
  const budget = defining(name, () => {
    if (backend !== undefined) assertBackend(backend, 'backend')
    return resolveDuration(timeout, 'timeout', 1, longestTimer)
  })
  const made = Object.freeze({ ...base?.made, ...properties })
  const resolved = new Map<string, ModelProperty>()
  for (const [own, property] of Object.entries(made)) {
    const { backend: itsOwn, ...definition } = definitionOf(property) ?? refuse(`${name}.${own} must be made by property(…), got ${show(property)}`)
    const home = itsOwn ?? backend ?? refuse(`${name}.${own} has no backend: give one to it, or to ${name}`)
    resolved.set(own, { name: own, backend: ObjectBackend.of(home, budget), ...definition })
  }
  const backends = new Set(Array.from(resolved.values(), property => property.backend.backend))
  return { name, backend, timeout: budget, properties: resolved, backends, made }
}

// Private access for the accessors of the classes that cacheObject makes, and for the request.
let read: (object: CacheObject, property: string) => Promise<unknown>
let stage: (object: CacheObject, property: string, value: unknown) => void
/** @internal What is assigned to the object, by its constructor or from now on, is saved by `saver`. */
export let saveBy: (object: object, saver: UnsavedObjects) => void
/** @internal @throws InvalidDefinitionError */
export let assertUnhidden: (object: object) => void

class CacheObject {
  declare static readonly [kModel]: Model

  static {
    read = (object, property) => object.#read(object.#slot(property), false)
    stage = (object, property, value) => object.#stage(object.#slot(property), value)
    saveBy = (object, saver) => { (object as CacheObject).#saveBy(saver) }
    assertUnhidden = object => (object as CacheObject).#assertUnhidden()
  }

  readonly id: string
  readonly #model: Model
  readonly #slots = new Map<string, Slot>()
  #saver: UnsavedObjects | undefined
  #watched = false
  #unhidden = false

  constructor (id: unknown) {
    this.#model = new.target[kModel]
    this.id = idOf(id, this.#model.name)
  }

  async get (property: string, options?: { useCache?: boolean }): Promise<unknown> {
    this.#assertUnhidden()
    return await this.#read(this.#slot(property), options?.useCache === true)
  }

  async getAll (): Promise<Record<string, unknown>> {
    const slots = this.#allSlots()
    const failures: Failure[] = []
    const found = await Promise.all(slots.map(slot => this.#find(slot, false).catch((error: unknown): undefined => { failures.push({ slot, error }) })))
    const values: Record<string, unknown> = {}
    slots.forEach(({ property: { name } }, i) => { if (found[i] !== undefined) values[name] = own(found[i]) })
    if (failures.length > 0) throw this.#failure('read from', failures, values)
    return values
  }

  async set (property: string, value: unknown): Promise<void> {
    this.#assertUnhidden()
    const slot = this.#slot(property)
    const write = this.#encode(slot.property, value)
    slot.staged = undefined // this is newer
    await this.#write([{ slot, write }], false)
  }

  async delete (property: string): Promise<void> {
    await this.set(property, null)
  }

  async deleteAll (): Promise<void> {
    const slots = this.#allSlots()
    for (const slot of slots) slot.staged = undefined
    await this.#write(slots.map(slot => ({ slot, write: deletion })), false)
  }

  async save (): Promise<void> {
    this.#assertUnhidden()
    const writes: SlotWrite[] = []
    for (const slot of this.#slots.values()) {
      if (slot.staged === undefined) continue
      writes.push({ slot, write: slot.staged })
      slot.staged = undefined
    }
    await this.#write(writes, true)
  }

  // ─── reading ───────────────────────────────────────────────────────────────────────────────────

  async #read (slot: Slot, useCache: boolean): Promise<unknown> {
    try {
      return own(await this.#find(slot, useCache))
    } catch (error) {
      throw this.#failure('read from', [{ slot, error }])
    }
  }

  /** @throws the backend's own error */
  async #find (slot: Slot, useCache: boolean): Promise<Shared> {
    const { property } = slot
    const mine = slot.staged ?? slot.writing ?? (useCache ? slot.known : undefined)
    if (mine !== undefined) return mine.shared ?? property.fallback
    const { writes } = slot
    const bytes = await property.backend.read(this.#key(property))
    const shared = bytes === undefined ? undefined : this.#decode(property, bytes)
    // A value that was written meanwhile is newer than this one.
    if (slot.writes === writes) slot.known = { shared }
    return shared ?? property.fallback
  }

  /** What can't be read is as if it weren't there, as in the tiers. */
  #decode (property: ModelProperty, bytes: Uint8Array): Shared | undefined {
    try {
      return share(msgpackSerializer.decode(bytes))
    } catch (error) {
      warnOfForeignBytes(`${this.#model.name}.${property.name}`, property.backend.backend.name, error)
      return undefined
    }
  }

  // ─── writing ───────────────────────────────────────────────────────────────────────────────────

  #stage (slot: Slot, value: unknown): void {
    slot.staged = this.#encode(slot.property, value)
    if (this.#saver?.take(this) === true || this.#watched) return
    this.#watched = true
    const slots = this.#slots
    watch(this, { name: this.#model.name, hasUnsaved: () => hasStaged(slots) })
  }

  #saveBy (saver: UnsavedObjects): void {
    this.#saver = saver
    if (hasStaged(this.#slots)) saver.take(this)
  }

  /** At once: what becomes of the caller's object later is not what was assigned. @throws InvalidArgumentError */
  #encode (property: ModelProperty, value: unknown): Write {
    if (value === null) return deletion
    const where = `${this.#model.name}.${property.name}`
    if (value === undefined) throw new InvalidArgumentError(where, 'a value, or null for none', 'undefined')
    try {
      const shared = copyIn(value)
      return { shared, bytes: msgpackSerializer.encode(shared.value) }
    } catch (error) {
      throw new InvalidArgumentError(where, 'a value that can be kept', (error as Error).message)
    }
  }

  /** @throws BackendFailedError that names the properties of the backends that failed */
  async #write (writes: readonly SlotWrite[], keepFailed: boolean): Promise<void> {
    const groups = groupBy(writes, ({ slot: { property } }) => property.backend.fateOf(this.#key(property)))
    const failures = await Promise.all(Array.from(groups.values(), async group => await this.#writeTo(group[0]!.slot.property.backend, group, keepFailed)))
    if (failures.some(some => some.length > 0)) throw this.#failure('written to', failures.flat())
  }

  async #writeTo (backend: ObjectBackend, writes: readonly SlotWrite[], keepFailed: boolean): Promise<Failure[]> {
    const before = writes.map(({ slot }) => slot.tail).filter(tail => tail !== undefined)
    const done = before.length === 0 ? this.#send(backend, writes) : Promise.all(before).then(() => this.#send(backend, writes))
    const tail = done.catch(() => {})
    for (const { slot, write } of writes) {
      slot.writing = write
      slot.tail = tail
      slot.writes++
    }
    const failures = await done.then(() => [], error => this.#failed(writes, error))
    for (const { slot, write } of writes) {
      if (slot.tail !== tail) continue // a newer write is under way
      slot.writing = slot.tail = undefined
      const error = failures.find(failure => failure.slot === slot)?.error
      // After a failure nobody knows what is there.
      slot.known = error === undefined && write.shared !== undefined ? { shared: write.shared } : undefined
      // What can never be kept is not tried again; and something newer may have been assigned.
      if (error !== undefined && keepFailed && !this.#isHopeless(slot, error)) slot.staged ??= write
    }
    return failures
  }

  #failed (writes: readonly SlotWrite[], error: unknown): Failure[] {
    const failed = error instanceof UnstorableError ? writes.filter(({ slot }) => error.keys.includes(this.#key(slot.property))) : writes
    return failed.map(({ slot }) => ({ slot, error: error ?? new Error('it gave no reason') }))
  }

  #isHopeless ({ property }: Slot, error: unknown): boolean {
    return error instanceof UnstorableError && !error.forNow.includes(this.#key(property))
  }

  async #send (backend: ObjectBackend, writes: readonly SlotWrite[]): Promise<void> {
    const entries = []
    const deletions = []
    for (const { slot: { property }, write: { bytes } } of writes) {
      const key = this.#key(property)
      if (bytes === undefined) deletions.push(key)
      else entries.push({ key, value: bytes, ttl: property.ttl })
    }
    await backend.write(entries, deletions)
  }

  // ─── the rest ──────────────────────────────────────────────────────────────────────────────────

  #key (property: ModelProperty): string {
    return propertyKey(this.#model.name, this.id, property.name)
  }

  /** @throws InvalidDefinitionError */
  #allSlots (): Slot[] {
    this.#assertUnhidden()
    return Array.from(this.#model.properties.keys(), name => this.#slot(name))
  }

  /**
   * A field of a subclass takes the place of the accessor, and a method lets an assignment do so: what is assigned would
   * be kept nowhere. Not in the constructor, since fields are defined after it. @throws InvalidDefinitionError
   */
  #assertUnhidden (): void {
    if (this.#unhidden) return
    const { name, properties } = this.#model
    const hiding = Object.getOwnPropertyNames(this).filter(own => properties.has(own))
    for (let above = prototypeOf(this); !Object.hasOwn(above.constructor, kModel); above = prototypeOf(above)) {
      hiding.push(...Object.getOwnPropertyNames(above).filter(own => properties.has(own) && 'value' in Object.getOwnPropertyDescriptor(above, own)!))
    }
    if (hiding.length > 0) refuse(`${this.constructor.name}: its own ${hiding.join(', ')} would hide what ${name} keeps under that name, and nothing assigned to it would be saved: remove it; for a type alone, write \`declare ${hiding[0]}\``)
    this.#unhidden = true
  }

  /** @throws InvalidArgumentError */
  #slot (name: string): Slot {
    let slot = this.#slots.get(name)
    if (slot !== undefined) return slot
    const property = this.#model.properties.get(name)
    if (property === undefined) throw new InvalidArgumentError(`A property of ${this.#model.name}`, `one of ${[...this.#model.properties.keys()].join(', ')}`, show(name))
    slot = { property, staged: undefined, writing: undefined, known: undefined, writes: 0, tail: undefined }
    this.#slots.set(name, slot)
    return slot
  }

  #failure (what: 'read from' | 'written to', failures: readonly Failure[], values?: Record<string, unknown>): BackendFailedError {
    const byBackend = new Map<ObjectBackend, FailedProperties & { properties: string[] }>()
    for (const { slot: { property: { name, backend } }, error } of failures) {
      const known = byBackend.get(backend)
      if (known === undefined) byBackend.set(backend, { properties: [name], backend: backend.backend.name, error })
      else known.properties.push(name)
    }
    return new BackendFailedError(`${this.#model.name} ${show(this.id)}`, what, [...byBackend.values()], values)
  }
}

const prototypeOf = (object: object): object => Object.getPrototypeOf(object) as object

const hasStaged = (slots: ReadonlyMap<string, Slot>): boolean => [...slots.values()].some(({ staged }) => staged !== undefined)

interface SlotWrite { readonly slot: Slot, readonly write: Write }
interface Failure { readonly slot: Slot, readonly error: unknown }

/** @internal @throws InvalidArgumentError */
export function idOf (id: unknown, name: string): string {
  if (typeof id === 'string' || typeof id === 'bigint' || (typeof id === 'number' && Number.isFinite(id))) return String(id)
  throw new InvalidArgumentError(`An id of ${name}`, 'a string, a finite number or a bigint', show(id))
}

const warned = new Set<string>()

function warnOfForeignBytes (property: string, backend: string, error: unknown): void {
  if (warned.has(property)) return
  warned.add(property)
  process.emitWarning(`what ${backend} holds for ${property} was not written by this package, and counts as nothing: ${(error as Error).message}`, 'FastifyCachingApiWarning')
}

function refuse (what: string): never {
  throw new InvalidDefinitionError(what)
}

/** Whatever is wrong in there is wrong with the definition. */
function defining<T> (where: string, resolve: () => T): T {
  try {
    return resolve()
  } catch (error) {
    throw new InvalidDefinitionError(`${where}: ${(error as Error).message}`)
  }
}
