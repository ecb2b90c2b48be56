import { LRUCache } from 'lru-cache'
import { assertObject, namesOf } from '../checks.js'
import { InvalidOptionsError, show } from '../errors.js'
import type { Backend, BackendEntry, LocalBackend, LocalEntry } from './backend.js'

export interface MemoryOptions {
  /** The least recently used entries make room. Default 10,000, where `maxBytes` isn't given either; 8,388,608 at most. */
  maxEntries?: number
  /** Keys, values and what it takes to keep them count, as estimated. A value larger than this is not kept. */
  maxBytes?: number
}

const optionNames = namesOf<MemoryOptions>({ maxEntries: true, maxBytes: true })

/** Bytes of heap that an entry takes besides its key and its value: its times, its stamp, its node in the LRU list. */
const overhead = 400

/** A Map of V8 whose keys are replaced all the time throws when it holds more. */
const mostEntries = 2 ** 23

/** What cache objects keep, which use this as any other backend: a copy of the caller's bytes. */
interface RawEntry { readonly bytes: Uint8Array, readonly until: number, readonly shortcuts?: undefined }

/** Keeps values in this process, and no bytes: a hit decodes nothing. Bounded by entries, by bytes, or both. @throws InvalidOptionsError */
export function memory (options: MemoryOptions = {}): Backend {
  assertObject(options, 'memory(options)', optionNames)
  for (const [name, value] of Object.entries(options as MemoryOptions)) {
    if (value !== undefined && !(Number.isSafeInteger(value) && value > 0)) throw new InvalidOptionsError(`memory(options).${name}`, 'a positive integer', show(value))
  }
  const { maxEntries = 0 } = options as MemoryOptions
  if (maxEntries > mostEntries) throw new InvalidOptionsError('memory(options).maxEntries', `at most ${mostEntries}: a Map takes no more`, show(maxEntries))
  return new MemoryBackend(options)
}

export class MemoryBackend implements LocalBackend {
  readonly name = 'memory'
  readonly #kept: LRUCache<string, LocalEntry | RawEntry>
  readonly #weighs: boolean
  /** Counts what was put here: the clock of `usedAt`. */
  #puts = 0
  /** An entry that was last used before then may be evicted soon. */
  #recentSince = 0

  constructor ({ maxEntries, maxBytes }: MemoryOptions) {
    this.#weighs = maxBytes !== undefined
    const bounds: { max?: number, maxSize?: number } = {}
    if (maxBytes !== undefined) bounds.maxSize = maxBytes
    if (maxEntries !== undefined || maxBytes === undefined) bounds.max = maxEntries ?? 10_000
    this.#kept = new LRUCache({ ...bounds as { max: number }, dispose: gone => { if (gone.shortcuts !== undefined) gone.shortcuts.delete(gone.alias) } })
  }

  getEntry (key: string): LocalEntry | undefined {
    const entry = this.#kept.get(key) as LocalEntry | undefined
    if (entry !== undefined) entry.usedAt = this.#puts
    return entry
  }

  /** The order of use only matters when entries are evicted: until an eighth of all have been put since, that is far off. */
  isRecent (entry: LocalEntry): boolean {
    return entry.usedAt >= this.#recentSince
  }

  setEntry (key: string, entry: LocalEntry): void {
    this.#count()
    entry.usedAt = this.#puts
    if (this.#weighs) this.#kept.set(key, entry, { size: overhead + 2 * key.length + weigh(entry.value, new Set()) })
    else this.#kept.set(key, entry)
  }

  #count (): void {
    this.#recentSince = ++this.#puts - (this.#kept.size >> 3)
  }

  deleteEntry (key: string): void {
    this.#kept.delete(key)
  }

  async getMany (keys: readonly string[]): Promise<(Uint8Array | undefined)[]> {
    const now = performance.now()
    return keys.map(key => {
      const found = this.#kept.get(key) as RawEntry | undefined
      return found !== undefined && now < found.until ? Uint8Array.from(found.bytes) : undefined
    })
  }

  async setMany (entries: readonly BackendEntry[]): Promise<void> {
    const now = performance.now()
    for (const { key, value, ttl } of entries) {
      this.#count()
      const raw = { bytes: Uint8Array.from(value), until: now + ttl }
      if (this.#weighs) this.#kept.set(key, raw, { size: overhead + 2 * key.length + value.length })
      else this.#kept.set(key, raw)
    }
  }

  async deleteMany (keys: readonly string[]): Promise<void> {
    for (const key of keys) this.#kept.delete(key)
  }

  async close (): Promise<void> {
    this.#kept.clear()
  }
}

/** About how many bytes of heap a value takes. What is `seen` already counts as a reference. */
function weigh (value: unknown, seen: Set<object>): number {
  switch (typeof value) {
    case 'string': return 16 + 2 * value.length
    case 'bigint': return 16 + value.toString(16).length / 2 | 0
    case 'object': break
    default: return 8
  }
  if (value === null || seen.has(value)) return 8
  seen.add(value)
  if (ArrayBuffer.isView(value) || value instanceof ArrayBuffer) return 64 + value.byteLength
  let bytes = 32
  if (Array.isArray(value) || value instanceof Set) for (const item of value) bytes += 8 + weigh(item, seen)
  else if (value instanceof Map) for (const [key, item] of value) bytes += 16 + weigh(key, seen) + weigh(item, seen)
  else for (const name of Object.keys(value)) bytes += 16 + name.length + weigh((value as Record<string, unknown>)[name], seen)
  return bytes
}
