import type { Invalidation } from '../coherence/messages.js'
import type { Entry } from '../entry.js'
import { encodeEntry, isMark, newMark } from '../entry-format.js'
import type { Keyspace } from '../keys.js'
import type { Line } from '../line.js'
import type { Logger } from '../logger.js'
import { msgpackSerializer, type Serializer } from '../serializer.js'
import { formatStamp, newStamp, type Stamp } from '../stamp.js'
import type { Backend, LeasingBackend } from '../backends/backend.js'
import { EntryReader } from './entry-reader.js'
import { claimOfLook, sawNothing, type Claim, type ClaimOptions, type Lease, type Look } from './lease.js'
import { TierBackend } from './tier-backend.js'
import { TierFills, type Filled, type TierFill } from './tier-fills.js'
import { TierInvalidations } from './tier-invalidations.js'
import { TierSets, type TierSet } from './tier-sets.js'
import { UnfencedBackend } from './unfenced-backend.js'

export interface SharedTierOptions {
  backend: Backend
  /** Its own among the tiers of the region. Default: the backend's. */
  name?: string
  keyspace: Keyspace
  serializer: Serializer
  /** Milliseconds for one operation. */
  timeout: number
  /** Milliseconds for which having looked is a right to fill. Default a minute. */
  leaseTtl?: number
  logger: Logger
  now: () => number
  /** The shared tiers behind it: what they may still hold is copied into this one. */
  farther?: readonly SharedTier[]
  /** Called when the backend has been told of what it could not be told of in time. */
  onReplayed?: (what: Invalidation) => void
}

/**
 * A shared backend in its place in a region. It never fails a read: what the backend can't answer within the budget is
 * missing. It stamps entries, so that a region or a tag is forgotten without touching them; and it keeps what it could
 * not deliver until it has.
 */
export class SharedTier {
  readonly backend: Backend
  /** Its own among the tiers of the region. */
  readonly name: string
  /** Whether each read gives values that nobody else has: a serializer of the application's may keep what it gives. */
  readonly decodesAnew: boolean
  /** The same, as this region calls it. */
  readonly #backend: TierBackend
  /** For a backend of three methods. */
  readonly #unfenced: UnfencedBackend
  readonly #keyspace: Keyspace
  /** Asked for with every read. */
  readonly #stampKeys: readonly string[]
  readonly #serializer: Serializer
  readonly #leaseTtl: number
  readonly #reader: EntryReader
  readonly #fills: TierFills
  readonly #sets: TierSets
  readonly #invalidations: TierInvalidations
  /** Whether the region had a stamp when it was last asked for. */
  #hasStamp = true

  constructor ({ backend, name = backend.name, keyspace, serializer, timeout, leaseTtl = 60_000, logger, now, farther = [], onReplayed }: SharedTierOptions) {
    this.backend = backend
    this.name = name
    this.decodesAnew = serializer === msgpackSerializer
    this.#keyspace = keyspace
    this.#serializer = serializer
    this.#leaseTtl = leaseTtl
    const called = this.#backend = new TierBackend({ backend, name, region: keyspace.region, timeout, logger })
    const unfenced = this.#unfenced = new UnfencedBackend(called, keyspace, timeout, async keys => {
      if (await this.forget({ keys })) onReplayed?.({ keys }) // who has read what was written too late keeps it
    })
    this.#stampKeys = called.leasing === undefined ? unfenced.stampKeys : [keyspace.stamp]
    const invalidations = this.#invalidations = new TierInvalidations({
      backend: called,
      revising: called.leasing ?? unfenced,
      keyspace,
      farther: farther.map(tier => tier.#invalidations),
      logger,
      onReplayed
    })
    this.#reader = new EntryReader({ backend: called, invalidations, keyspace, serializer })
    this.#fills = new TierFills({ backend: called, unfenced, invalidations, keyspace, now })
    this.#sets = new TierSets({
      backend: called,
      fills: this.#fills,
      invalidations,
      claimMany: (keys, options) => this.claimMany(keys, options),
      encode: (entry, stamp, value) => this.encode(entry, stamp, value)
    })
  }

  /** Whether it refuses a fill that comes too late. */
  get isLeasing (): boolean {
    return this.#backend.leasing !== undefined
  }

  /** Where it refuses no fill: whether no deletion, set or refresh has begun in this process since the lease was given. */
  isUnchangedSince ({ changes }: Lease): boolean {
    return changes === undefined || changes === this.#unfenced.changes
  }

  /** How many keys one look is for: of more, it is better made in parts. */
  get mostKeys (): number {
    return this.#backend.leasing?.mostKeys ?? Infinity
  }

  /** Whether it didn't answer when it was last asked. */
  get away (): boolean {
    return this.#backend.away
  }

  /** Where one connection carries all commands in their order: that one. */
  get connection (): unknown {
    return this.#backend.leasing?.connection
  }

  get line (): Line | undefined {
    return this.#backend.leasing?.line
  }

  close (): void {
    this.#invalidations.close()
  }

  // ─── looks and claims ──────────────────────────────────────────────────────────────────────────

  /** In the order of `keys`. Never rejects. */
  async readMany (keys: readonly string[]): Promise<(Entry | undefined)[]> {
    return (await this.lookMany(keys)).entries
  }

  /** `toFill`: what is missing will be loaded. Never rejects. */
  async lookMany (keys: readonly string[], toFill = false): Promise<Look> {
    try {
      return await this.#look(keys, toFill) ?? sawNothing(keys)
    } catch (error) {
      this.#backend.logFailure(error, 'read')
      return sawNothing(keys)
    }
  }

  /** Undefined where there is no stamp: nothing can be there either. */
  async #look (keys: readonly string[], toFill = false): Promise<Look | undefined> {
    // What is known before the question: an invalidation that comes before the answer makes it void.
    const isEnough = !this.#fills.needMarks
    const seenUntil = performance.now() + this.#leaseTtl
    const { replays } = this.#invalidations
    const { lastMade, changes } = this.#unfenced
    const asked = [...this.#stampKeys, ...keys]
    const found = this.#backend.checked(asked, await this.#backend.run(() => this.backend.getMany(asked)))
    const stamp = this.#stampOf(found)
    this.#hasStamp = stamp !== undefined
    if (stamp === undefined) {
      if (!toFill || this.isLeasing) return undefined // a claim will make the stamp
      const made = await this.#unfenced.makeStamp(lastMade)
      return { ...sawNothing(keys), lease: () => ({ stamp: made, held: undefined, changes }) }
    }
    const first = this.#stampKeys.length
    const valid = this.#reader.dropInvalidated(keys, keys.map((key, i) => this.#reader.entryOf(key, found[first + i])), stamp, replays)
    const entries = valid instanceof Promise ? await valid : valid
    return { entries, lease: i => isEnough ? { stamp, held: found[first + i], seenUntil, changes } : undefined }
  }

  /** Looks again, and claims what isn't there. In the order of `keys`. Never rejects. */
  async claimMany (keys: readonly string[], options: ClaimOptions): Promise<Claim[]> {
    const { leasing } = this.#backend
    try {
      if (leasing === undefined) return await this.#claimUnfenced(keys, options.takeOver)
      if (options.takeOver !== true && this.#hasStamp && !this.#fills.needMarks) {
        const look = await this.#look(keys)
        if (look !== undefined) return look.entries.map((entry, i) => claimOfLook(entry, look.lease(i)!))
      }
      return await this.#claimByMarks(leasing, keys, options)
    } catch (error) {
      this.#backend.logFailure(error, 'lease')
      return keys.map(() => undefined)
    }
  }

  async #claimByMarks (leasing: LeasingBackend, keys: readonly string[], { ttl, takeOver = false }: ClaimOptions): Promise<Claim[]> {
    const mark = newMark()
    const { replays } = this.#invalidations
    const [stampBytes, ...held] = await this.#backend.run(() => leasing.leaseMany(this.#keyspace.stamp, keys, { mark, stamp: formatStamp(newStamp()), ttl, takeOver }))
    const stamp = this.#reader.stampOf(stampBytes)
    if (stamp === undefined || held.length !== keys.length) throw new TypeError(`${this.name}.leaseMany must answer a stamp and one value for each key`)
    this.#hasStamp = true
    const found = held.map((bytes, i) => isMark(bytes) ? undefined : this.#reader.entryOf(keys[i]!, bytes))
    const entries = await this.#reader.dropInvalidated(keys, found, stamp, replays)
    return entries.map((entry, i) => ({ entry, lease: { stamp, held: held[i]! }, first: Buffer.compare(held[i]!, mark) === 0 }))
  }

  /** With a stamp, but nothing refuses a fill that comes too late. */
  async #claimUnfenced (keys: readonly string[], takeOver = false): Promise<Claim[]> {
    if (takeOver) this.#unfenced.takeOver()
    const { replays } = this.#invalidations
    const { lastMade, changes } = this.#unfenced
    const found = await this.#backend.getMany([...this.#stampKeys, ...keys])
    const stamp = this.#stampOf(found) ?? await this.#unfenced.makeStamp(lastMade)
    const first = this.#stampKeys.length
    const entries = await this.#reader.dropInvalidated(keys, keys.map((key, i) => this.#reader.entryOf(key, found[first + i])), stamp, replays)
    return entries.map((entry, i) => ({ entry, lease: { stamp, held: found[first + i], changes }, first: true }))
  }

  /** The stamp as it is now: a second question after a claim shows whether keys were invalidated meanwhile. Never rejects. */
  async stamp (): Promise<Stamp | undefined> {
    try {
      return this.#stampOf(await this.#backend.getMany(this.#stampKeys))
    } catch (error) {
      this.#backend.logFailure(error, 'read')
      return undefined
    }
  }

  /** Of what was found under `#stampKeys`, and after them. */
  #stampOf (found: readonly (Uint8Array | undefined)[]): Stamp | undefined {
    return this.isLeasing ? this.#reader.stampOf(found[0]) : this.#unfenced.stampOf(found)
  }

  // ─── fills and sets ────────────────────────────────────────────────────────────────────────────

  /** Bytes for `fillMany`; `stamp` is that of the lease. @throws what the serializer throws, unless it is given the value's bytes */
  encode (entry: Entry, stamp: Stamp, value?: Uint8Array): Uint8Array {
    return encodeEntry(entry, this.#serializer, stamp, value)
  }

  /** Puts loaded entries where their leases allow it. In the order of `fills`. Never rejects. */
  fillMany (fills: readonly TierFill[]): Promise<Filled[]> {
    return this.#fills.fillMany(fills)
  }

  /**
   * Replaces what stands there now. In the order of `sets`; false where somebody has invalidated or replaced the key
   * before it was done, 'unknown' where the tier is away: what it holds will be forgotten instead. @throws what the serializer
   * throws, unless it is given the value's bytes
   */
  setMany (sets: readonly TierSet[]): Promise<Filled[]> {
    return this.#sets.setMany(sets)
  }

  /** For what was refused, or not even written: forgets what it was to replace, where that is still there. Never rejects. */
  forgetUnreplaced (unfilled: readonly { key: string, lease: Lease }[]): Promise<void> {
    return this.#sets.forgetUnreplaced(unfilled)
  }

  /**
   * Copies entries from a farther tier, as they are. Never rejects.
   *
   * `read` asks that tier once more, after the claims: farther tiers are invalidated first, so what it still has by then
   * can't have been forgotten here yet; when it is, the claim is revoked.
   */
  async copyMany (keys: readonly string[], read: (keys: readonly string[]) => Promise<(Entry | undefined)[]>): Promise<void> {
    const watch = this.#unfenced.watch(keys)
    try {
      const claims = await this.claimMany(keys, { ttl: 1000 })
      const entries = await read(keys)
      const fills = entries.flatMap((entry, i) => {
        const claim = claims[i]
        if (entry === undefined || entry.softened === true || claim === undefined || claim.entry !== undefined || !watch.isUntouched(keys[i]!)) return []
        return [{ key: keys[i]!, entry, bytes: this.encode(entry, claim.lease.stamp), lease: claim.lease }]
      })
      if (fills.length > 0) await this.fillMany(fills)
    } catch (error) {
      this.#backend.logFailure(error, 'copy')
    } finally {
      watch.end()
    }
  }

  // ─── invalidations ─────────────────────────────────────────────────────────────────────────────

  /**
   * Keys, everything with one of the tags, or the whole region, which may be softened instead. Revokes every right to
   * fill what it forgets. Resolves to false where the backend could not be told yet: it will be. Never rejects.
   */
  forget (what: Invalidation): Promise<boolean> {
    return this.#invalidations.forget(what)
  }
}
