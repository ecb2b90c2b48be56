import type { Entry } from '../entry.js'
import type { Keyspace } from '../keys.js'
import { UnstorableError, type BackendEntry, type LeasingBackend } from '../backends/backend.js'
import { holdsValue, type Lease } from './lease.js'
import type { TierBackend } from './tier-backend.js'
import type { TierInvalidations } from './tier-invalidations.js'
import type { UnfencedBackend } from './unfenced-backend.js'

/** An entry, its bytes, and the right to put them there. */
export interface TierFill { readonly key: string, readonly entry: Entry, readonly bytes: Uint8Array, readonly lease: Lease }

/** False: the key was invalidated or filled meanwhile. 'unkept': the tier will never keep such a value. 'unknown': it didn't answer. */
export type Filled = boolean | 'unkept' | 'unknown'

export interface TierFillsOptions {
  backend: TierBackend
  /** For a backend of three methods. */
  unfenced: UnfencedBackend
  invalidations: TierInvalidations
  keyspace: Keyspace
  now: () => number
}

/** Milliseconds for which marks are put, after a fill that was refused for another key's sake. */
const pauseAfterRefusal = 1000

/** Puts loaded entries into a backend, where nothing has happened to their keys since the load began. */
export class TierFills {
  readonly #backend: TierBackend
  readonly #unfenced: UnfencedBackend
  readonly #invalidations: TierInvalidations
  readonly #keyspace: Keyspace
  readonly #now: () => number
  /** By performance.now(). */
  #marksUntil = -Infinity

  constructor ({ backend, unfenced, invalidations, keyspace, now }: TierFillsOptions) {
    this.#backend = backend
    this.#unfenced = unfenced
    this.#invalidations = invalidations
    this.#keyspace = keyspace
    this.#now = now
  }

  /**
   * Whether a fill needs a mark, which costs a round trip. In a quiet region it doesn't: the stamp tells whether any key
   * of it was invalidated since. In a busy one, marks keep one key's invalidation from costing others their fill.
   */
  get needMarks (): boolean {
    const { leasing } = this.#backend
    return leasing !== undefined && (leasing.fillUnchanged === undefined || performance.now() < this.#marksUntil)
  }

  /** In the order of `fills`. Never rejects. */
  async fillMany (fills: readonly TierFill[]): Promise<Filled[]> {
    try {
      return await this.tryMany(fills)
    } catch (error) {
      this.#backend.logFailure(error, 'fill')
      // A value that was to be replaced would be found as long as it is fresh; a refresh has given the new one already.
      const unreplaced = fills.filter(({ lease }) => holdsValue(lease)).map(fill => fill.key)
      if (unreplaced.length > 0) await this.#invalidations.forget({ keys: unreplaced })
      return fills.map(() => 'unknown')
    }
  }

  /** The same, but rejects where the backend fails. */
  async tryMany (fills: readonly TierFill[]): Promise<Filled[]> {
    const now = this.#now()
    const { leasing } = this.#backend
    return leasing === undefined ? await this.#fillUnfenced(fills, now) : await this.#fillLeased(leasing, fills, now)
  }

  async #fillUnfenced (fills: readonly TierFill[], now: number): Promise<Filled[]> {
    const entries = fills.map(({ key, entry, bytes }) => ({ key, value: bytes, ttl: lifetime(entry, now) }))
    const unkept = await this.#backend.run(() => this.#put(entries))
    await this.#forgetUnreplaced([...unkept])
    return fills.map(({ key }) => unkept.has(key) ? 'unkept' : true)
  }

  async #fillLeased (leasing: LeasingBackend, fills: readonly TierFill[], now: number): Promise<Filled[]> {
    const tags = this.#tagsOf(fills, now)
    const [filled] = await this.#backend.run(() => Promise.all([
      this.#compareAndSet(leasing, fills, now),
      tags.length > 0 ? leasing.holdTags(this.#keyspace.stamp, tags) : undefined
    ]))
    // A value that the backend won't keep leaves there what it was to replace. A mark may stay: it is no value.
    await this.#forgetUnreplaced(fills.filter(({ lease }, i) => filled[i] instanceof Error && holdsValue(lease)).map(fill => fill.key))
    return filled.map((one, i) => one instanceof Error ? this.#unkept(fills[i]!.key, one) : one)
  }

  async #compareAndSet (leasing: LeasingBackend, fills: readonly TierFill[], now: number): Promise<(boolean | Error)[]> {
    const { stamp, seenUntil } = fills[0]!.lease // one look, or one claim, was for all of them
    if (seenUntil === undefined) {
      return await leasing.fillMany(fills.map(({ key, entry, bytes, lease }) => ({ key, value: bytes, ttl: lifetime(entry, now), lease: lease.held! })))
    }
    if (performance.now() > seenUntil) return fills.map(() => false)
    const filled = await leasing.fillUnchanged!(this.#keyspace.stamp, stamp, fills.map(({ key, entry, bytes, lease }) => ({ key, value: bytes, ttl: lifetime(entry, now), held: lease.held })))
    if (filled !== undefined) return filled
    this.#marksUntil = performance.now() + pauseAfterRefusal
    return fills.map(() => false)
  }

  /** Resolves to the keys whose values the backend will not keep. */
  async #put (entries: readonly BackendEntry[]): Promise<ReadonlySet<string>> {
    try {
      await this.#unfenced.setMany(entries)
      return new Set()
    } catch (error) {
      if (!(error instanceof UnstorableError)) throw error
      this.#unkept(error.keys[0]!, error)
      return new Set(error.keys)
    }
  }

  #unkept (key: string, error: Error): 'unkept' {
    this.#backend.warnOnce(key, error, 'a tier can not keep a value')
    return 'unkept'
  }

  /** What a value that can't be kept was to replace would be found in its place. */
  async #forgetUnreplaced (keys: readonly string[]): Promise<void> {
    if (keys.length > 0) await this.#invalidations.send({ keys })
  }

  /** A tag lives for as long as the longest-lived entry that carries it, and a second more. */
  #tagsOf (fills: readonly TierFill[], now: number): { key: string, ttl: number }[] {
    const ttls = new Map<string, number>()
    for (const { entry } of fills) for (const tag of entry.tags) ttls.set(tag, Math.max(ttls.get(tag) ?? 0, lifetime(entry, now)))
    return [...ttls].map(([tag, ttl]) => ({ key: this.#keyspace.tag(tag), ttl: ttl + 1000 }))
  }
}

/** An entry's time to live in a backend: as long as it may be served. Milliseconds. */
const lifetime = (entry: Entry, now: number): number => Math.max(1, Math.ceil(entry.staleUntil - now))
