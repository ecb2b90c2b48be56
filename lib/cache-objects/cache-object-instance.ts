import { idOf, kModel, type Model, type ModelProperty } from './cache-object-model.js'
import { assertBoolean, assertCallOptions, refuse } from '../checks.js'
import { BackendFailedError, InvalidArgumentError, show, type FailedProperties } from '../errors.js'
import { groupBy } from '../group-by.js'
import { propertyKey } from '../keys.js'
import type { ObjectBackend } from './object-backend.js'
import { msgpackSerializer } from '../serializer.js'
import { UnstorableError } from '../backends/backend.js'
import { watch, type UnsavedObjects } from '../request/unsaved.js'
import { copyIn, own, share, type Shared } from '../values.js'

/** A value on its way to its backend; both undefined for a deletion. */
interface Write {
  readonly shared: Shared | undefined
  readonly bytes: Uint8Array | undefined
}

/** What an instance knows of one of its properties. */
interface Slot {
  readonly property: ModelProperty
  /** Assigned, and not saved yet. */
  staged: Write | undefined
  /** The newest of those that are under way. */
  writing: Write | undefined
  /** What was last read or written. Without a value: nothing was stored. */
  known: { readonly shared: Shared | undefined } | undefined
  /** How many writes there were: a read that began before the last of them has found something old. */
  writes: number
  /** Ends with the newest write. The next one waits for it, so that they arrive in their order. */
  tail: Promise<void> | undefined
}

interface SlotWrite { readonly slot: Slot, readonly write: Write }
interface Failure { readonly slot: Slot, readonly error: unknown }

const deletion: Write = { shared: undefined, bytes: undefined }

// What is private to an instance, for the accessors of its class and for the request.
export let read: (object: CacheObject, property: string) => Promise<unknown>
export let stage: (object: CacheObject, property: string, value: unknown) => void
/** @internal What is assigned to the object, by its constructor or from now on, is saved by `saver`. */
export let saveBy: (object: object, saver: UnsavedObjects) => void
/** @internal @throws InvalidDefinitionError */
export let assertUnhidden: (object: object) => void

/** What all classes of cache objects extend: its public members are those of `CacheObjectMethods`. */
export class CacheObject {
  declare static readonly [kModel]: Model

  static {
    read = (object, property) => object.#read(object.#slot(property), false)
    stage = (object, property, value) => object.#stage(object.#slot(property), value)
    saveBy = (object, saver) => { (object as CacheObject).#saveBy(saver) }
    assertUnhidden = object => (object as CacheObject).#assertUnhidden()
  }

  /** Not to be assigned: what is known and staged is of this id. */
  declare readonly id: string
  readonly #model: Model
  readonly #slots = new Map<string, Slot>()
  #saver: UnsavedObjects | undefined
  #watched = false
  #unhidden = false

  constructor (id: unknown) {
    this.#model = new.target[kModel]
    Object.defineProperty(this, 'id', { value: idOf(id, this.#model.name), enumerable: true })
  }

  async get (property: string, options?: { useCache?: boolean }): Promise<unknown> {
    this.#assertUnhidden()
    return await this.#read(this.#slot(property), options !== undefined && resolveUseCache(options))
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
    slot.staged = undefined // this value is newer
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
    if (slot.writes === writes) slot.known = { shared } // else a newer value was written meanwhile
    return shared ?? property.fallback
  }

  /** Bytes that can't be decoded count as nothing, as they do in the tiers. */
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

  /** When it is assigned, not when it is written: the caller may change its object in between. @throws InvalidArgumentError */
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

  /** `keepFailed`: what a backend didn't take is staged again. @throws BackendFailedError that names the properties of the backends that failed */
  async #write (writes: readonly SlotWrite[], keepFailed: boolean): Promise<void> {
    const groups = groupBy(writes, ({ slot: { property } }) => property.backend.fateOf(this.#key(property)))
    const failures = await Promise.all(Array.from(groups.values(), async group => await this.#writeTo(group[0]!.slot.property.backend, group, keepFailed)))
    if (failures.some(some => some.length > 0)) throw this.#failure('written to', failures.flat())
  }

  async #writeTo (backend: ObjectBackend, writes: readonly SlotWrite[], keepFailed: boolean): Promise<Failure[]> {
    const before = writes.map(({ slot }) => slot.tail).filter(tail => tail !== undefined)
    const sent = before.length === 0 ? this.#send(backend, writes) : Promise.all(before).then(() => this.#send(backend, writes))
    const tail = sent.catch(() => {})
    for (const { slot, write } of writes) {
      slot.writing = write
      slot.tail = tail
      slot.writes++
    }
    const failures = await sent.then(() => [], error => this.#failuresOf(writes, error))
    for (const { slot, write } of writes) {
      if (slot.tail !== tail) continue // a newer write is under way
      slot.writing = slot.tail = undefined
      const error = failures.find(failure => failure.slot === slot)?.error
      // After a failure nobody knows what is stored.
      slot.known = error === undefined && write.shared !== undefined ? { shared: write.shared } : undefined
      // Unless it can never be kept, or something newer was assigned.
      if (error !== undefined && keepFailed && !this.#isHopeless(slot, error)) slot.staged ??= write
    }
    return failures
  }

  #failuresOf (writes: readonly SlotWrite[], error: unknown): Failure[] {
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

  /**
   * A subclass's field replaces an accessor on the instance, and a subclass's method lets an assignment do so: nothing that
   * is assigned there would be saved. The constructor can't check that, since fields are defined after it.
   * @throws InvalidDefinitionError
   */
  #assertUnhidden (): void {
    if (this.#unhidden) return
    const { name, properties } = this.#model
    const hiding = Object.getOwnPropertyNames(this).filter(own => properties.has(own))
    for (let prototype = prototypeOf(this); !Object.hasOwn(prototype.constructor, kModel); prototype = prototypeOf(prototype)) {
      hiding.push(...Object.getOwnPropertyNames(prototype).filter(own => properties.has(own) && 'value' in Object.getOwnPropertyDescriptor(prototype, own)!))
    }
    if (hiding.length > 0) refuse(`${this.constructor.name}: its own ${hiding.join(', ')} would hide what ${name} keeps under that name, and nothing assigned to it would be saved: remove it; for a type alone, write \`declare ${hiding[0]}\``)
    this.#unhidden = true
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

/** @throws InvalidOptionsError */
function resolveUseCache (options: { useCache?: boolean }): boolean {
  assertCallOptions(options, ['useCache'])
  const { useCache = false } = options
  assertBoolean(useCache, 'options.useCache')
  return useCache
}

const prototypeOf = (object: object): object => Object.getPrototypeOf(object) as object

const hasStaged = (slots: ReadonlyMap<string, Slot>): boolean => [...slots.values()].some(({ staged }) => staged !== undefined)

const warned = new Set<string>()

function warnOfForeignBytes (property: string, backend: string, error: unknown): void {
  if (warned.has(property)) return
  warned.add(property)
  process.emitWarning(`what ${backend} holds for ${property} was not written by this package, and counts as nothing: ${(error as Error).message}`, 'FastifyCachingApiWarning')
}
