import { LRUCache } from 'lru-cache'
import type { Entry } from '../entry.js'
import type { Generation, LocalBackend, LocalEntry, Shortcuts } from './backend.js'

/** What is longer is found by its key, which is hashed: it need not be kept. */
const longestAlias = 64

/** Tags whose last invalidation is remembered one by one; older ones share the newest of theirs. */
const mostTags = 10_000

/**
 * A memory in its place in a region. It answers at once, and it knows which generation of the region a load began in, so
 * that a value that is older than an invalidation is dropped instead of kept.
 */
export class LocalTier {
  readonly backend: LocalBackend
  /** Replaced by every invalidation, kept by every load from its beginning. */
  generation: Generation = { epoch: 0, softened: 0, tagged: 0, deleted: 0 }
  readonly #taggedAt: LRUCache<string, number>
  #forgottenTaggedAt = 0

  constructor (backend: LocalBackend) {
    this.backend = backend
    this.#taggedAt = new LRUCache({
      max: mostTags,
      dispose: (taggedAt, _tag, reason) => { if (reason === 'evict') this.#forgottenTaggedAt = Math.max(this.#forgottenTaggedAt, taggedAt) }
    })
  }

  get name (): string {
    return this.backend.name
  }

  get (key: string): Entry | undefined {
    const entry = this.backend.getEntry(key)
    if (entry === undefined || entry.generation === this.generation) return entry
    return this.#believe(entry)
  }

  /** The same without a key, if `remember` has been told of the entry, and its turn to be looked up has not come. */
  recall (shortcuts: Shortcuts, alias: unknown): Entry | undefined {
    const entry = shortcuts.get(alias)
    if (entry === undefined || !this.backend.isRecent(entry)) return undefined
    return entry.generation === this.generation ? entry : this.#believe(entry)
  }

  /** As `get`, and for `recall` next time: until it is replaced or evicted. */
  remember (key: string, shortcuts: Shortcuts, alias: unknown): Entry | undefined {
    const entry = this.backend.getEntry(key)
    if (entry === undefined) return undefined
    if (entry.shortcuts === undefined && isShort(alias)) {
      entry.shortcuts = shortcuts
      // A string of its own: one that was cut from a URL keeps all of that.
      entry.alias = typeof alias === 'string' ? structuredClone(alias) : alias
      shortcuts.set(entry.alias, entry)
    }
    return entry.generation === this.generation ? entry : this.#believe(entry)
  }

  #believe (entry: LocalEntry): Entry | undefined {
    const { generation } = entry
    if (generation.epoch !== this.generation.epoch) return undefined
    if (entry.tags.some(tag => (this.#taggedAt.get(tag) ?? this.#forgottenTaggedAt) > generation.tagged)) return undefined
    return generation.softened === this.generation.softened ? entry : { ...entry, softened: true }
  }

  /** Keeps what was loaded or found since `generation`, unless there is something newer. */
  set (key: string, entry: Entry, generation: Generation = this.generation): void {
    if (generation !== this.generation && isOlder(generation, this.backend.getEntry(key)?.generation)) return
    const { value, loose, loadedAt, freshUntil, staleUntil, tags, stamp } = entry
    // One literal, all in one place: of a copy that gets one property more, V8 keeps the properties apart from the object.
    this.backend.setEntry(key, { value, loose, loadedAt, freshUntil, staleUntil, tags, stamp, softened: entry.softened === true, generation, usedAt: 0, shortcuts: undefined, alias: undefined })
  }

  forget (keys: readonly string[]): void {
    this.generation = { ...this.generation, deleted: this.generation.deleted + 1 }
    for (const key of keys) this.backend.deleteEntry(key)
  }

  /** There is something newer for a key than what has been on its way until now: a row that came along may be for it, too. */
  replaced (): void {
    this.generation = { ...this.generation, deleted: this.generation.deleted + 1 }
  }

  revise (kind: 'hard' | 'soft'): void {
    const { generation } = this
    this.generation = kind === 'hard' ? { ...generation, epoch: generation.epoch + 1 } : { ...generation, softened: generation.softened + 1 }
  }

  forgetTags (tags: readonly string[]): void {
    const tagged = this.generation.tagged + 1
    this.generation = { ...this.generation, tagged }
    for (const tag of tags) this.#taggedAt.set(tag, tagged)
  }
}

function isShort (alias: unknown): boolean {
  switch (typeof alias) {
    case 'string': return alias.length <= longestAlias
    case 'bigint': return BigInt.asIntN(64, alias) === alias
    default: return true
  }
}

/** Each invalidation raises one of the numbers, and none ever falls. */
const isOlder = (one: Generation, other: Generation | undefined): boolean =>
  other !== undefined && (one.epoch < other.epoch || one.softened < other.softened || one.tagged < other.tagged || one.deleted < other.deleted)
