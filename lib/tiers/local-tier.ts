import { LRUCache } from 'lru-cache'
import type { Invalidation } from '../coherence/messages.js'
import type { Entry } from '../entry.js'
import { MemoryBackend } from '../backends/memory.js'
import type { Generation, LocalBackend, LocalEntry, Shortcuts } from '../backends/backend.js'

/** Longer arguments are found by their keys, which are hashed: as aliases they could take any amount of memory. */
const longestAlias = 64

/** Tags whose last invalidation is remembered. */
const mostTags = 10_000

/**
 * A memory in its place in a region. It answers at once, and it knows the generation of the region in which a load began,
 * so that a value that is older than an invalidation is not kept.
 */
export class LocalTier {
  backend: LocalBackend
  /** Its own among the tiers of the region. */
  readonly name: string
  /** Replaced by every invalidation, kept by every load from its beginning. */
  generation: Generation = { epoch: 0, softened: 0, tagged: 0, deleted: 0 }
  /** By tag: the generation's `tagged` when it was last invalidated. */
  readonly #taggedAt: LRUCache<string, number>
  /** The latest of those that made room: it stands for every tag that isn't there. */
  #evictedTaggedAt = 0

  constructor (backend: LocalBackend, name: string = backend.name) {
    this.backend = backend
    this.name = name
    this.#taggedAt = new LRUCache({
      max: mostTags,
      dispose: (taggedAt, _tag, reason) => { if (reason === 'evict') this.#evictedTaggedAt = Math.max(this.#evictedTaggedAt, taggedAt) }
    })
  }

  get (key: string): Entry | undefined {
    const entry = this.backend.getEntry(key)
    if (entry === undefined || entry.validIn === this.generation) return entry
    return this.#ifValid(entry)
  }

  /** The same without a key, where `remember` has registered the alias, and the entry was looked up recently enough. */
  recall (shortcuts: Shortcuts, alias: unknown): Entry | undefined {
    const entry = shortcuts.get(alias)
    if (entry === undefined || !this.backend.isRecent(entry)) return undefined
    return entry.validIn === this.generation ? entry : this.#ifValid(entry)
  }

  /** Does what `get` does, and lets `recall` find the entry by the alias until it is replaced or evicted. */
  remember (key: string, shortcuts: Shortcuts, alias: unknown): Entry | undefined {
    const entry = this.backend.getEntry(key)
    if (entry === undefined) return undefined
    if (entry.shortcuts === undefined && isShort(alias)) {
      entry.shortcuts = shortcuts
      // A copy: a substring of a URL would keep the whole URL in memory.
      entry.alias = typeof alias === 'string' ? structuredClone(alias) : alias
      shortcuts.set(entry.alias, entry)
    }
    return entry.validIn === this.generation ? entry : this.#ifValid(entry)
  }

  #ifValid (entry: LocalEntry): Entry | undefined {
    const { generation } = entry
    if (generation.epoch !== this.generation.epoch) return undefined
    if (entry.tags.some(tag => (this.#taggedAt.get(tag) ?? this.#evictedTaggedAt) > generation.tagged)) return undefined
    if (generation.softened !== this.generation.softened) return { ...entry, softened: true }
    entry.validIn = this.generation
    return entry
  }

  /** Keeps what was loaded or found since `generation` began, unless there is something newer. */
  set (key: string, entry: Entry, generation: Generation = this.generation): void {
    if (generation !== this.generation && isOlder(generation, this.backend.getEntry(key)?.generation)) return
    const { value, loose, loadedAt, freshUntil, staleUntil, tags, stamp } = entry
    // One literal with all properties: V8 keeps those that are added later apart from the object, which makes a hit slower.
    this.backend.setEntry(key, { value, loose, loadedAt, freshUntil, staleUntil, tags, stamp, softened: entry.softened === true, generation, validIn: generation, usedAt: 0, shortcuts: undefined, alias: undefined })
  }

  /** Keys, everything with one of the tags, or the whole region, which may be softened instead: at once, while `SharedTier.forget` has to ask. */
  forget ({ keys = [], tags = [], hard = false, soft = false }: Invalidation): void {
    if (keys.length > 0) this.#raise('deleted')
    for (const key of keys) this.backend.deleteEntry(key)
    if (tags.length > 0) this.#raise('tagged')
    for (const tag of tags) this.#taggedAt.set(tag, this.generation.tagged)
    if (hard) this.#raise('epoch')
    if (soft) this.#raise('softened')
  }

  /** Forgets this value of a key, if it is there: an equal one is reason enough. */
  drop (key: string, { value }: Entry): void {
    if (Object.is(this.get(key)?.value, value)) this.backend.deleteEntry(key)
  }

  /**
   * `entry` has replaced whatever a key had: what is there now stays only if it is certainly that entry, and rows that came
   * along with a load under way, and may be for the key, aren't primed.
   */
  replaced (key: string, entry: Entry): void {
    this.#raise('deleted')
    if (!isSame(this.get(key), entry)) this.backend.deleteEntry(key)
  }

  /** From now on what is still under way is kept nowhere: the backend may be another manager's soon. */
  close (): void {
    this.backend = new MemoryBackend({ maxEntries: 1 })
  }

  #raise (part: keyof Generation): void {
    this.generation = { ...this.generation, [part]: this.generation[part] + 1 }
  }
}

function isShort (alias: unknown): boolean {
  switch (typeof alias) {
    case 'string': return alias.length <= longestAlias
    case 'bigint': return BigInt.asIntN(64, alias) === alias
    default: return true
  }
}

/** The tier keeps a copy of the entry, with the same value; of a primitive value, the tags tell one from another. */
const isSame = (one: Entry | undefined, other: Entry): boolean => one !== undefined && Object.is(one.value, other.value) && one.loadedAt === other.loadedAt && one.tags === other.tags

/** Each invalidation raises one of the numbers; none ever falls. */
const isOlder = (one: Generation, other: Generation | undefined): boolean =>
  other !== undefined && (one.epoch < other.epoch || one.softened < other.softened || one.tagged < other.tagged || one.deleted < other.deleted)
