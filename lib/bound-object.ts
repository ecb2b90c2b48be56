import { definitionOf, versionOf, type AnyCachedObject, type MethodDefinition } from './cached-object.js'
import { assertTags, isPromise } from './checks.js'
import { noTags } from './entry.js'
import { BatchMismatchError, InvalidArgumentError, InvalidDefinitionError, show } from './errors.js'
import { encodeArguments, safeKey } from './keys.js'
import type { LoaderContext } from './loader-context.js'
import type { Logger } from './logger.js'
import type { Region } from './region.js'
import type { Loaded, Policy, Primed, Source } from './read-path/source.js'
import type { Shortcuts } from './backends/backend.js'

export interface Binding {
  region: Region
  /** What loaders get as their first argument. */
  context: () => LoaderContext | Promise<LoaderContext>
  logger: Logger
}

/** A row for another method of its object. */
export interface PrimedRow extends Primed { readonly method: BoundMethod, readonly args: readonly unknown[] }

/** A cached object in its region: what a method's name means to one manager. */
export class BoundObject {
  readonly object: AnyCachedObject
  readonly #methods: ReadonlyMap<string, BoundMethod>

  /** `object` must be made by `cachedObject`: the manager checks that. */
  constructor (object: AnyCachedObject, binding: Binding) {
    this.object = object
    this.#methods = new Map(Object.entries(object.methods).map(([name, method]) => [name, new BoundMethod(this, name, definitionOf(method)!, binding)]))
  }

  /** @throws InvalidDefinitionError */
  method (name: string): BoundMethod {
    const method = this.#methods.get(name)
    if (method === undefined) throw new InvalidDefinitionError(`${this.object.name} has no method ${show(name)}; it has ${[...this.#methods.keys()].join(', ')}`)
    return method
  }
}

export class BoundMethod {
  readonly region: Region
  readonly definition: MethodDefinition
  readonly policy: Policy
  readonly source: Source
  /** Entries of the memory tier, by a sole argument that is no object. */
  readonly shortcuts: Shortcuts = new Map()
  readonly #object: BoundObject
  readonly #name: string
  readonly #binding: Binding
  readonly #prefix: string
  /** A table of the keys of numeric ids: slot → id, and slot → key. */
  readonly #ids = new Float64Array(rememberedKeys).fill(NaN)
  readonly #keys: string[] = []
  #warned = false

  constructor (object: BoundObject, name: string, definition: MethodDefinition, binding: Binding) {
    const { region } = binding
    const { policy, negativeTtl } = region.path.options
    this.region = region
    this.definition = definition
    this.policy = {
      ttl: definition.ttl ?? policy.ttl,
      grace: definition.grace ?? policy.grace,
      negativeTtl: definition.negativeTtl ?? negativeTtl,
      shouldCache: undefined
    }
    this.source = {
      maxBatch: definition.maxBatch,
      load: args => this.#load(args as readonly (readonly unknown[])[]),
      nameOf: args => `${this.#name}(${shorten(encodeArguments(args as readonly unknown[], this.#name))})`
    }
    this.#object = object
    this.#name = `${object.object.name}.${name}`
    this.#binding = binding
    this.#prefix = region.keyspace.entry('o', `${object.object.name}:${versionOf(object.object)}:${name}:`)
  }

  /** @throws InvalidArgumentError */
  key (args: readonly unknown[]): string {
    if (!Array.isArray(args)) throw new InvalidArgumentError(`Arguments of ${this.#name}`, 'an array such as [1]', show(args))
    const [first] = args
    if (this.definition.kind === 'many' && (args.length !== 1 || !isId(first))) {
      throw new InvalidArgumentError(`Arguments of ${this.#name}`, 'one id: a string, a number or a bigint', args.length === 1 ? show(first) : show(args))
    }
    if (args.length === 1 && typeof first === 'number') return this.#numberKey(first)
    return this.#prefix + safeKey(encodeArguments(args, this.#name))
  }

  /** Remembers the keys of ids that were used lately: their parts are joined, and the string is hashed, only once. */
  #numberKey (id: number): string {
    const slot = id & (rememberedKeys - 1)
    if (this.#ids[slot] === id) return this.#keys[slot]!
    this.#ids[slot] = id
    return (this.#keys[slot] = `${this.#prefix}${id}`)
  }

  /** What the tiers keep of a row. */
  store (row: unknown): unknown {
    const { preCache } = this.definition
    if (row === null) return null
    if (preCache === undefined) return row
    const stored = preCache(row)
    if (stored === undefined || isPromise(stored)) throw new InvalidDefinitionError(`${this.#name}: preCache must return what is to be cached, got ${show(stored)}`)
    return stored
  }

  tags (row: unknown): readonly string[] {
    const { tags } = this.definition
    if (tags === undefined || row === null) return noTags
    const made = tags(row)
    assertTags(made)
    return made
  }

  /** The row as other methods of the object would have found it. Not by an argument that the row has no value for. */
  primed (row: unknown): readonly PrimedRow[] {
    return this.definition.primes.flatMap(([name, argsOf]) => {
      const method = this.#object.method(name)
      const args = argsOf(row)
      if (Array.isArray(args) && args.some(arg => arg === null || arg === undefined)) return []
      return [{ method, args, key: method.key(args), value: method.store(row), tags: method.tags(row), policy: method.policy }]
    })
  }

  async #load (argsList: readonly (readonly unknown[])[]): Promise<readonly Loaded[]> {
    const context = await this.#binding.context()
    const { load, kind } = this.definition
    if (kind === 'one') return [this.#loaded(await load(context, ...argsList[0]!))]
    const ids = argsList.map(args => args[0])
    const rows = await load(context, [...new Set(ids)]) // flights of one key may be several, of which one may not join another
    if (!Array.isArray(rows)) throw new BatchMismatchError(this.#name, `an array with the rows of ${ids.length} ids`, show(rows))
    return this.#pair(ids, rows)
  }

  /** The rows in the order of `ids`, each by the id that `idOf` tells. An error among them is that id's alone. @throws one of no such id */
  #pair (ids: readonly unknown[], rows: readonly unknown[]): readonly Loaded[] {
    const byId = new Map<unknown, unknown>()
    for (const row of rows) if (row !== null && row !== undefined) byId.set(row instanceof Error ? this.#idOfError(row, ids) : this.#idOf(row), row)
    byId.delete(null) // rows of nobody, as a left join gives them
    let found = 0
    let byText: Map<string, unknown> | undefined
    const loaded = ids.map((id): Loaded => {
      const row = byId.get(id)
      if (row !== undefined) {
        found++
        return row instanceof Error ? { error: row } : this.#loaded(row)
      }
      byText ??= new Map(Array.from(byId.keys(), other => [String(other), other]))
      const mistaken = byText.get(String(id))
      return mistaken === undefined ? this.#loaded(null) : { error: this.#wrongId(id, mistaken) }
    })
    if (found < byId.size && !this.#warned) this.#warnOfUnasked(ids, byId)
    return loaded
  }

  /**
   * Where `idOf` finds none of `ids` in it, it is of all of them, and thrown: it may not have what `idOf` looks at, or have something
   * else there, such as a `name` or a `code`. A row would be remembered as missing.
   */
  #idOfError (error: Error, ids: readonly unknown[]): unknown {
    let id: unknown
    try {
      id = this.definition.idOf!(error)
    } catch {
      throw error
    }
    if (!ids.includes(id)) throw error
    return id
  }

  /** `null` for a row without one. @throws InvalidDefinitionError */
  #idOf (row: unknown): unknown {
    const id = this.definition.idOf!(row)
    if (typeof id === 'number' || typeof id === 'string' || typeof id === 'bigint') return id
    if (id !== null) throw new InvalidDefinitionError(`${this.#name}: idOf must return a string, a number or a bigint, got ${show(id)}`)
    return null
  }

  /** A row that is there would be remembered as missing. Its id may be a column of type bigint, for instance, which pg gives as strings. */
  #wrongId (asked: unknown, found: unknown): Error {
    return new InvalidDefinitionError(`${this.#name}: idOf must return what load was asked for, ${show(asked)} (${typeof asked}), got ${show(found)} (${typeof found})`)
  }

  #warnOfUnasked (ids: readonly unknown[], byId: ReadonlyMap<unknown, unknown>): void {
    this.#warned = true
    const asked = new Set(ids)
    const unasked = [...byId.keys()].find(id => !asked.has(id))
    this.#binding.logger.warn({ method: this.#name }, `${this.#name} loaded a row of id ${show(unasked)}, which was not asked for`)
  }

  #loaded (row: unknown): Loaded {
    if (row === null || row === undefined) return { value: null, tags: noTags }
    try {
      const primed = this.definition.primes.length === 0 ? undefined : this.primed(row)
      return { value: this.store(row), tags: this.tags(row), ...(primed !== undefined && { primed }) }
    } catch (error) {
      return { error }
    }
  }
}

/** Slots of a method's table of keys. A power of two. */
const rememberedKeys = 1024

const shorten = (text: string): string => text.length > 60 ? `${text.slice(0, 60)}…` : text

const isId = (value: unknown) => Number.isFinite(value) || typeof value === 'string' || typeof value === 'bigint'
