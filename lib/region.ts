import { assertBoolean, assertCallOptions, assertNoOptions, assertObject, assertTags } from './checks.js'
import { noTags } from './entry.js'
import { BatchMismatchError, InvalidArgumentError, show } from './errors.js'
import { callerKey, encodeArguments, safeKey, type Keyspace } from './keys.js'
import { ownOf, type Landed, type Waiter } from './read-path/landed.js'
import type { ReadPath } from './read-path/read-path.js'
import type { Recorder } from './request/recorder.js'
import { createOptionNames, readOptionNames, resolveMaxAge, resolvePolicy, writeOptionNames, type CreateOptions, type ReadOptions, type WriteOptions } from './region-options.js'
import type { Loaded, Policy, Source } from './read-path/source.js'
import { own } from './values.js'
import { Want } from './read-path/want.js'

export interface WrappedFunction<A extends readonly unknown[], T> {
  (...args: A): Promise<T>
  /** What is cached for these arguments, if it is fresh. */
  get (...args: A): Promise<T | undefined>
  /** Does what `Region.set` does, for these arguments. */
  set (value: T, ...args: A): Promise<void>
  /** Calls the function whatever is cached, and caches what it returns. */
  refresh (...args: A): Promise<T>
  /** Does what `Region.delete` does, for these arguments. @throws InvalidationPendingError */
  invalidate (...args: A): Promise<void>
  /** The function itself, uncached. */
  readonly original: (...args: A) => T | Promise<T>
}

const noOptions = {}

/**
 * A named area of the cache, shared by all requests: dogpile.cache's region.
 * `undefined` always means "no value"; `null` is a value and is cached as one. Every value that is handed out is the
 * reader's own at its top level, and frozen or copied below.
 */
export class Region {
  readonly name: string
  /** @internal */
  readonly path: ReadPath
  /** @internal */
  readonly keyspace: Keyspace
  readonly #recorder: Recorder | undefined

  /** @internal Regions are made by the CachingManager, and for each request that counts its own reads. */
  constructor (keyspace: Keyspace, path: ReadPath, recorder?: Recorder) {
    this.name = keyspace.region
    this.keyspace = keyspace
    this.path = path
    this.#recorder = recorder
  }

  /**
   * Fresh values only: a stale one is `undefined` here, unless `maxAge` lets it through. Only the `getOrCreate`s serve
   * stale values.
   */
  async get<T> (key: string, options: ReadOptions = noOptions): Promise<T | undefined> {
    return await this.#find(this.#key(key), maxAgeOf(options, readOptionNames)) as T | undefined
  }

  /** In the order of `keys`, duplicates repeated, `undefined` in the gaps. One round trip to each tier. */
  async getMany<T> (keys: readonly string[], options: ReadOptions = noOptions): Promise<(T | undefined)[]> {
    const maxAge = maxAgeOf(options, readOptionNames)
    return await Promise.all(this.#keys(keys).map(key => this.#find(key, maxAge))) as (T | undefined)[]
  }

  /**
   * The creator runs at most once at a time for a key, in this process and, with a lock, in all of them. Its `undefined`
   * is returned but not cached. Rejects with what the creator throws.
   */
  async getOrCreate<T> (key: string, creator: () => T | Promise<T>, options: CreateOptions<T> = noOptions): Promise<T> {
    assertFunction(creator, 'creator')
    const maxAge = maxAgeOf(options, createOptionNames)
    const policy = resolvePolicy(this.path.options.policy, options)
    const source = sourceOf(creator, options.tags)
    return await this.#read(new Want({ key: this.#key(key), maxAge, load: { source, policy } })) as T
  }

  /**
   * The creator is called once with the keys that are missing, each one once, and returns their values in that order.
   * @throws BatchMismatchError where it returns another number of values
   */
  async getOrCreateMany<T> (keys: readonly string[], creator: (missing: readonly string[]) => readonly T[] | Promise<readonly T[]>, options: CreateOptions<T> = noOptions): Promise<T[]> {
    return await Promise.all(this.createEach(keys, creator, options))
  }

  /** @internal As `getOrCreateMany`, with a promise for each key. */
  createEach<T> (keys: readonly string[], creator: (missing: readonly string[]) => readonly T[] | Promise<readonly T[]>, options: CreateOptions<T> = noOptions): Promise<T>[] {
    assertFunction(creator, 'creator')
    const full = this.#keys(keys)
    const maxAge = maxAgeOf(options, createOptionNames)
    const policy = resolvePolicy(this.path.options.policy, options)
    const source: Source = {
      maxBatch: Infinity,
      load: async args => {
        const values = await creator([...args as string[]]) // a copy: it may take its batches out of it
        if (!Array.isArray(values) || values.length !== args.length) {
          throw new BatchMismatchError(`A creator of region ${this.name}`, `${args.length} values, in the order of its keys`, Array.isArray(values) ? String(values.length) : show(values))
        }
        return Array.from(values as readonly T[], value => toLoaded(value, options.tags)) // not `map`, which leaves gaps out
      }
    }
    const load = { source, policy }
    return full.map((key, i) => this.#read(new Want({ key, maxAge, load, arg: keys[i] })) as Promise<T>)
  }

  /** @internal Refuses options that a call which has options of these names would refuse. @throws InvalidOptionsError */
  checkOptions (names: readonly string[], options: CreateOptions<never> = noOptions): void {
    maxAgeOf(options, names)
    resolvePolicy(this.path.options.policy, options)
  }

  /** @internal Returns `promise`, which is under way for that key; or rejects, if it waits for the very loader that calls this. */
  waitFor<T> (key: string, promise: Promise<T>): Promise<T> {
    try {
      this.path.registerWait(this.#key(key))
      return promise
    } catch (error) {
      return Promise.reject(error)
    }
  }

  /** Into every tier, whatever is there. Resolves when it is; a tier that is away forgets the old value later, and this resolves all the same. */
  async set<T> (key: string, value: T, options: WriteOptions = noOptions): Promise<void> {
    await this.setMany([[key, value]], options)
  }

  /** Sets several in one step for each tier. A Map will do, or pairs. */
  async setMany<T> (entries: Iterable<readonly [key: string, value: T]>, options: WriteOptions = noOptions): Promise<void> {
    assertCallOptions(options, writeOptionNames)
    const sets = pairsOf(entries).map(([key, value]) => ({ key: this.#key(key), value }))
    await this.#write(sets, resolvePolicy(this.path.options.policy, options), options.tags)
  }

  /** Resolves when no reader can start to read the old value. @throws InvalidationPendingError */
  async delete (key: string): Promise<void> {
    assertNoOptions(arguments, 1)
    await this.path.invalidate({ keys: [this.#key(key)] })
  }

  /** Resolves when no reader can start to read the old values. @throws InvalidationPendingError */
  async deleteMany (keys: readonly string[]): Promise<void> {
    assertNoOptions(arguments, 1)
    await this.path.invalidate({ keys: this.#keys(keys) })
  }

  /**
   * Forgets the whole region, in every process. Soft: values become stale (served within `grace`). Hard: they are gone.
   * Default hard. Resolves when no reader can start to read the old values.
   * @throws InvalidationPendingError
   */
  async invalidate (options: { soft?: boolean } = noOptions): Promise<void> {
    assertObject(options, 'options', ['soft'])
    const { soft = false } = options
    assertBoolean(soft, 'options.soft')
    await this.path.invalidate(soft ? { soft } : { hard: true })
  }

  /**
   * Forgets every value that was written with one of these tags, in every process. Resolves when no reader can start to read
   * the old values. It takes as long for one value as for a million.
   * @throws InvalidationPendingError
   */
  async invalidateTags (...tags: string[]): Promise<void> {
    assertTags(tags)
    if (tags.length > 0) await this.path.invalidate({ tags: [...new Set(tags)] })
  }

  /** `fn`, cached: dogpile's cache_on_arguments. The key is made of `name` and the arguments, told apart by type: 1 is not '1'. */
  wrap<A extends readonly unknown[], T> (name: string, fn: (...args: A) => T | Promise<T>, options: CreateOptions<T> = noOptions): WrappedFunction<A, T> {
    if (typeof name !== 'string' || name === '') throw new InvalidArgumentError('name', 'a string that is not empty', show(name))
    assertFunction(fn, 'fn')
    const maxAge = maxAgeOf(options, createOptionNames)
    const policy = resolvePolicy(this.path.options.policy, options)
    const keyOf = (args: A) => this.keyspace.entry('f', safeKey(`${JSON.stringify(name)}(${encodeArguments(args, name)})`))
    const { tags } = options
    const loadOf = (args: A) => ({ source: sourceOf(() => fn(...args), tags), policy })
    const wrapped = async (...args: A) => await this.#read(new Want({ key: keyOf(args), maxAge, load: loadOf(args) })) as T
    return Object.assign(wrapped, {
      get: async (...args: A) => await this.#find(keyOf(args), maxAge) as T | undefined,
      set: async (value: T, ...args: A) => {
        assertValue(value)
        await this.#write([{ key: keyOf(args), value }], policy, typeof tags === 'function' ? tags(value) : tags)
      },
      refresh: async (...args: A) => await this.#read(new Want({ key: keyOf(args), maxAge: undefined, load: loadOf(args), isRefresh: true })) as T,
      invalidate: async (...args: A) => { await this.path.invalidate({ keys: [keyOf(args)] }) },
      original: fn
    })
  }

  async #read (want: Want): Promise<unknown> {
    const remembered = want.isRefresh ? undefined : this.path.remembered(want.key)
    if (remembered !== undefined && this.path.isFresh(remembered, want.maxAge)) {
      this.#recorder?.hit(this.path.hit)
      return own(remembered)
    }
    const waiting = new Waiting()
    this.path.fetch(want, waiting, remembered)
    const landed = await waiting.landed
    this.#recorder?.landed(landed)
    return ownOf(landed)
  }

  #find (key: string, maxAge: number | undefined): Promise<unknown> {
    return this.#read(new Want({ key, maxAge, load: undefined }))
  }

  async #write (sets: readonly { key: string, value: unknown }[], policy: Policy, tags: readonly string[] = noTags): Promise<void> {
    assertTags(tags)
    await this.path.set(sets.map(({ key, value }) => ({ key, entry: this.path.entryOf(value, policy, tags) })))
  }

  #key (key: unknown): string {
    return this.keyspace.entry('k', callerKey(key))
  }

  #keys (keys: readonly unknown[]): string[] {
    if (!Array.isArray(keys)) throw new InvalidArgumentError('keys', 'an array of strings', show(keys))
    return keys.map(key => this.#key(key))
  }
}

/** A waiter with a promise. */
class Waiting implements Waiter {
  readonly landed: Promise<Landed>
  land!: (landed: Landed) => void
  fail!: (error: unknown) => void

  constructor () {
    this.landed = new Promise((resolve, reject) => {
      this.land = resolve
      this.fail = reject
    })
  }
}

/** @throws InvalidOptionsError where the call doesn't have one of them, or `maxAge` can't be */
function maxAgeOf (options: ReadOptions, names: readonly string[]): number | undefined {
  if (options === noOptions) return undefined
  assertCallOptions(options, names)
  return resolveMaxAge(options.maxAge)
}

/** A source for one key. */
const sourceOf = <T>(creator: () => T | Promise<T>, tags: CreateOptions<T>['tags']): Source =>
  ({ maxBatch: 1, load: async () => [toLoaded(await creator(), tags)] })

function toLoaded<T> (value: T, tags: CreateOptions<T>['tags']): Loaded {
  if (tags === undefined) return { value, tags: noTags }
  try {
    const made = typeof tags === 'function' ? value === undefined ? noTags : tags(value) : tags
    assertTags(made)
    return { value, tags: made }
  } catch (error) {
    return { error } // the other values of its batch are none the worse
  }
}

/** @throws InvalidArgumentError for anything else, such as a plain object: it would silently write nothing */
export function pairsOf<T> (entries: Iterable<readonly [key: string, value: T]>): (readonly [key: string, value: T])[] {
  const pairs = typeof entries === 'object' && entries !== null && Symbol.iterator in entries ? [...entries] : [entries]
  for (const pair of pairs) {
    if (!Array.isArray(pair)) throw new InvalidArgumentError('entries', 'pairs of a key and a value: an array of them, or a Map', show(pair))
    assertValue(pair[1])
  }
  return pairs as (readonly [key: string, value: T])[]
}

function assertFunction (value: unknown, where: string): void {
  if (typeof value !== 'function') throw new InvalidArgumentError(where, 'a function', show(value))
}

function assertValue (value: unknown): void {
  if (value === undefined) throw new InvalidArgumentError('value', 'anything but undefined, which means "no value"', 'undefined')
}
