import type { Recorder } from './recorder.js'
import { Region } from './region.js'
import type { CreateOptions, ReadOptions, WriteOptions } from './region-options.js'

/** A region with one request's memory in front of it. */
export class RequestRegion implements Pick<Region, 'get' | 'getMany' | 'getOrCreate' | 'getOrCreateMany' | 'set' | 'setMany' | 'delete' | 'deleteMany'> {
  readonly #region: Region
  readonly #recorder: Recorder
  readonly #seen = new Map<string, Promise<unknown>>()

  constructor (region: Region, recorder: Recorder) {
    this.#region = new Region(region.keyspace, region.path, recorder)
    this.#recorder = recorder
  }

  get<T> (key: string, options?: ReadOptions): Promise<T | undefined> {
    return this.#recall<T | undefined>(key) ?? this.#remember(key, this.#region.get<T>(key, options))
  }

  async getMany<T> (keys: readonly string[], options?: ReadOptions): Promise<(T | undefined)[]> {
    return await Promise.all(Array.from(keys, key => this.get<T>(key, options)))
  }

  getOrCreate<T> (key: string, creator: () => T | Promise<T>, options?: CreateOptions<T>): Promise<T> {
    return this.#recall<T>(key) ?? this.#remember(key, this.#region.getOrCreate(key, creator, options))
  }

  async getOrCreateMany<T> (keys: readonly string[], creator: (missing: readonly string[]) => readonly T[] | Promise<readonly T[]>, options?: CreateOptions<T>): Promise<T[]> {
    const missing = [...new Set(keys)].filter(key => !this.#seen.has(key))
    if (missing.length > 0) {
      const created = this.#region.getOrCreateMany(missing, creator, options)
      missing.forEach((key, i) => { void this.#remember(key, created.then(values => values[i])) })
    }
    const asked = new Set(missing)
    return await Promise.all(keys.map(async key => await (asked.delete(key) ? this.#seen.get(key) : this.#recall(key)))) as T[]
  }

  async set<T> (key: string, value: T, options?: WriteOptions): Promise<void> {
    await this.setMany([[key, value]], options)
  }

  async setMany<T> (entries: Iterable<readonly [key: string, value: T]>, options?: WriteOptions): Promise<void> {
    const list = [...entries]
    const written = this.#region.setMany(list, options)
    // Its own writes are seen at once: as they are read back from the tiers, which have them by now or will.
    for (const [key, value] of list) void this.#remember(key, written.then(() => value))
    await written
  }

  async delete (key: string): Promise<void> {
    await this.deleteMany([key])
  }

  async deleteMany (keys: readonly string[]): Promise<void> {
    for (const key of keys) this.#seen.delete(key)
    await this.#region.deleteMany(keys)
  }

  #recall<T> (key: string): Promise<T> | undefined {
    const seen = this.#seen.get(key)
    if (seen !== undefined) this.#recorder.local++
    return seen as Promise<T> | undefined
  }

  /** "No value" and a failure are not remembered: the next read tries again. */
  #remember<T> (key: string, promise: Promise<T>): Promise<T> {
    this.#seen.set(key, promise)
    const forget = () => { if (this.#seen.get(key) === promise) this.#seen.delete(key) }
    promise.then(value => { if (value === undefined) forget() }, forget)
    return promise
  }
}
