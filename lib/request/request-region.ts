import { assertNoOptions } from '../checks.js'
import { InvalidArgumentError, show } from '../errors.js'
import type { Recorder } from './recorder.js'
import { Region, pairsOf } from '../region.js'
import { createOptionNames, readOptionNames, type CreateOptions, type ReadOptions, type WriteOptions } from '../region-options.js'
import { copyGiven, own } from '../values.js'

/** A region with one request's memory in front of it. */
export class RequestRegion implements Pick<Region, 'get' | 'getMany' | 'getOrCreate' | 'getOrCreateMany' | 'set' | 'setMany' | 'delete' | 'deleteMany'> {
  readonly #region: Region
  readonly #recorder: Recorder
  readonly #seen = new Map<string, Promise<unknown>>()
  /** Those that only look, until they have found something: who would create the value doesn't wait for them. */
  readonly #looks = new WeakSet<Promise<unknown>>()
  readonly #underWay = new WeakSet<Promise<unknown>>()

  constructor (region: Region, recorder: Recorder) {
    this.#region = new Region(region.keyspace, region.path, recorder)
    this.#recorder = recorder
  }

  get<T> (key: string, options?: ReadOptions): Promise<T | undefined> {
    return this.#refusal(options, readOptionNames) ?? this.#recall<T | undefined>(key) ?? this.#look(key, options)
  }

  #look<T> (key: string, options: ReadOptions | undefined): Promise<T | undefined> {
    const look = this.#region.get<T>(key, options)
    this.#looks.add(look)
    return this.#remember(key, look)
  }

  async getMany<T> (keys: readonly string[], options?: ReadOptions): Promise<(T | undefined)[]> {
    assertKeys(keys)
    this.#region.checkOptions(readOptionNames, options)
    return await Promise.all(keys.map(key => this.#recall<T | undefined>(key) ?? this.#look<T>(key, options)))
  }

  getOrCreate<T> (key: string, creator: () => T | Promise<T>, options?: CreateOptions<T>): Promise<T> {
    const made = this.#refusal(options, createOptionNames) ?? (this.#isMade(key) ? this.#recall<T>(key) : undefined)
    return made ?? this.#remember(key, this.#region.getOrCreate(key, creator, options))
  }

  async getOrCreateMany<T> (keys: readonly string[], creator: (missing: readonly string[]) => readonly T[] | Promise<readonly T[]>, options?: CreateOptions<T>): Promise<T[]> {
    assertKeys(keys)
    this.#region.checkOptions(createOptionNames, options)
    const missing = [...new Set(keys)].filter(key => !this.#isMade(key))
    if (missing.length > 0) {
      const created = this.#region.createEach(missing, creator, options)
      missing.forEach((key, i) => { void this.#remember(key, created[i]!) })
    }
    const asked = new Set(missing)
    return await Promise.all(keys.map(async key => await (asked.delete(key) ? this.#seen.get(key) : this.#recall(key)))) as T[]
  }

  async set<T> (key: string, value: T, options?: WriteOptions): Promise<void> {
    await this.setMany([[key, value]], options)
  }

  async setMany<T> (entries: Iterable<readonly [key: string, value: T]>, options?: WriteOptions): Promise<void> {
    const list = pairsOf(entries)
    const copies = list.map(([key, value]) => [key, own(copyGiven(value))] as const)
    const written = this.#region.setMany(list, options)
    // Its own writes are seen at once, as they are read back from the tiers.
    const seen = copies.map(([key, value]) => ({ key, before: this.#seen.get(key), promise: this.#remember(key, Promise.resolve(value)) }))
    for (const { promise } of seen) this.#underWay.delete(promise) // a loader may read what it writes
    try {
      await written
    } catch (error) {
      for (const { key, before, promise } of seen.toReversed()) {
        if (this.#seen.get(key) !== promise) continue
        if (before === undefined) this.#seen.delete(key)
        else this.#keep(key, before)
      }
      throw error
    }
  }

  async delete (key: string): Promise<void> {
    assertNoOptions(arguments, 1)
    await this.deleteMany([key])
  }

  async deleteMany (keys: readonly string[]): Promise<void> {
    assertNoOptions(arguments, 1)
    assertKeys(keys)
    for (const key of keys) this.#seen.delete(key)
    await this.#region.deleteMany(keys)
  }

  /** A rejection, where the call can't have these options: also of what is seen already, which needs none. */
  #refusal (options: CreateOptions<never> | undefined, names: readonly string[]): Promise<never> | undefined {
    if (options === undefined) return undefined
    try {
      this.#region.checkOptions(names, options)
      return undefined
    } catch (error) {
      return Promise.reject(error)
    }
  }

  #isMade (key: string): boolean {
    const seen = this.#seen.get(key)
    return seen !== undefined && !this.#looks.has(seen)
  }

  #recall<T> (key: string): Promise<T> | undefined {
    const seen = this.#seen.get(key)
    if (seen === undefined) return undefined
    this.#recorder.local++
    return (this.#underWay.has(seen) ? this.#region.waitFor(key, seen) : seen) as Promise<T>
  }

  /** "No value" and a failure are not remembered: the next read tries again. */
  #remember<T> (key: string, promise: Promise<T>): Promise<T> {
    this.#underWay.add(promise)
    promise.then(value => {
      this.#underWay.delete(promise)
      if (value !== undefined) this.#looks.delete(promise)
    }, () => {})
    this.#keep(key, promise)
    return promise
  }

  #keep (key: string, promise: Promise<unknown>): void {
    this.#seen.set(key, promise)
    promise.then(value => { if (value === undefined) this.#forget(key, promise) }, () => { this.#forget(key, promise) })
  }

  #forget (key: string, promise: Promise<unknown>): void {
    if (this.#seen.get(key) === promise) this.#seen.delete(key)
  }
}

function assertKeys (keys: readonly string[]): void {
  if (!Array.isArray(keys)) throw new InvalidArgumentError('keys', 'an array of strings', show(keys))
}
