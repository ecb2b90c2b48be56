import { decodeEntry, encodeEntry, formatStamp, identityLength, isLease, newLease, newStamp, parseStamp, type Entry, type Stamp } from '../entry.js'
import type { Logger } from '../logger.js'
import type { Serializer } from '../serializer.js'
import type { Invalidations } from '../coherence/messages.js'
import type { Keyspace } from '../keys.js'
import type { Line } from '../line.js'
import { UnstorableError, isLeasing, isSpread, type Backend, type BackendEntry, type LeasedEntry, type LeasingBackend, type Revision } from './backend.js'
import { Breaker } from '../breaker.js'
import { Undelivered } from '../undelivered.js'

export interface SharedTierOptions {
  backend: Backend
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
  /** Called when the backend has been told of what it could not be told of at once. */
  replayed?: (what: Invalidations) => void
}

/**
 * The right to fill a key of a tier: what stood there when the load began. Either a mark of somebody's who loads it, or
 * what was seen: then the stamp tells whether it holds still.
 */
export interface Lease { readonly stamp: Stamp, readonly held: Uint8Array | undefined, /** Until when, by performance.now(), what was seen is good enough. */ readonly seenUntil?: number }

/** False: somebody has invalidated or filled the key meanwhile. 'unkept': the tier will never keep such a value. 'unknown': it didn't say. */
export type Filled = boolean | 'unkept' | 'unknown'

/** A second look before a load: what was filled meanwhile, and the right to replace it. Undefined: the tier is away. */
export type Claim = { readonly entry: Entry | undefined, readonly lease: Lease, /** Nobody had claimed it before. */ readonly first: boolean } | undefined

/** An entry, its bytes, and the right to put them there. */
interface Filling { readonly key: string, readonly entry: Entry, readonly bytes: Uint8Array, readonly lease: Lease }

export interface Setting {
  readonly key: string
  readonly entry: Entry
  /** The value's bytes, where it was serialised already. */
  readonly value?: Uint8Array
  /** Whether an invalidation was heard of since, which the claim may have come after. */
  readonly isOvertaken?: () => boolean
  /** Whether somebody in this process has set it anew since. */
  readonly isSuperseded?: () => boolean
}

/** What a read has found. In the order of its keys. */
export interface Look {
  readonly entries: (Entry | undefined)[]
  /** The right to fill the `i`th key with what is loaded from now on, where having looked is enough for it. */
  lease (i: number): Lease | undefined
}

export interface ClaimOptions {
  /** Milliseconds after which the right ends. */
  ttl: number
  /** Takes the right from whoever has it. */
  takeOver?: boolean
}

/**
 * A shared backend in its place in a region. It never fails a read: what the backend can't answer within the budget is
 * missing. It stamps entries, so that a region or a tag is forgotten without touching them; and it keeps what it could
 * not deliver until it has.
 */
export class SharedTier {
  readonly backend: Backend
  readonly #leasing: LeasingBackend | undefined
  readonly #keyspace: Keyspace
  readonly #serializer: Serializer
  readonly #logger: Logger
  readonly #now: () => number
  readonly #breaker: Breaker
  readonly #leaseTtl: number
  readonly #farther: readonly SharedTier[]
  readonly #undelivered: Undelivered
  /** Until then, by performance.now(), fills need a mark. */
  #calmAt = -Infinity
  /** As it was read last: most answers bring the same. */
  #lastStamp: { readonly text: string, readonly stamp: Stamp | undefined } = { text: '', stamp: undefined }
  /** Whether the region had a stamp when it was last asked for. */
  #hasStamp = true
  /** Of a backend of three methods: the last one that was made here. */
  #made: Promise<Stamp> | undefined
  #warnedOfForeign = false
  #warnedOfUnkept = false

  constructor ({ backend, keyspace, serializer, timeout, leaseTtl = 60_000, logger, now, farther = [], replayed }: SharedTierOptions) {
    this.#leaseTtl = leaseTtl
    this.backend = backend
    this.#leasing = isLeasing(backend) ? backend : undefined
    this.#keyspace = keyspace
    this.#serializer = serializer
    this.#logger = logger
    this.#now = now
    this.#farther = farther
    this.#breaker = new Breaker({ name: `${backend.name} of region ${keyspace.region}`, timeout, logger })
    if (isSpread(backend)) backend.allow?.(timeout, logger)
    this.#undelivered = new Undelivered({
      deliver: async (work) => { await this.#breaker.run(() => this.#deliver(work)) },
      ...replayed !== undefined && { replayed },
      delivered: () => logger.info({ tier: backend.name, region: keyspace.region }, 'invalidations were replayed')
    })
  }

  get name (): string {
    return this.backend.name
  }

  /** Whether it refuses a fill that comes too late. */
  get isLeasing (): boolean {
    return this.#leasing !== undefined
  }

  /** Whether it didn't answer when it was last asked. */
  get away (): boolean {
    return this.#breaker.failing
  }

  /** In the order of `keys`. Never rejects. */
  async readMany (keys: readonly string[]): Promise<(Entry | undefined)[]> {
    return (await this.lookMany(keys)).entries
  }

  /** `toFill`: what is missing will be loaded. Never rejects. */
  async lookMany (keys: readonly string[], toFill = false): Promise<Look> {
    try {
      return await this.#look(keys, toFill) ?? sawNothing(keys)
    } catch (error) {
      this.#failed(error, 'read')
      return sawNothing(keys)
    }
  }

  /** Undefined where there is no stamp: nothing can be there either. */
  async #look (keys: readonly string[], toFill = false): Promise<Look | undefined> {
    const isEnough = this.#leasing === undefined || this.#isCalm()
    const seenUntil = performance.now() + this.#leaseTtl
    const replays = this.#replays()
    const asked = [this.#keyspace.stamp, ...keys]
    const known = this.#made
    const found = this.#assertAnswered(asked, await this.#run(() => this.backend.getMany(asked)))
    const stamp = this.#readStamp(found[0])
    this.#hasStamp = stamp !== undefined
    if (stamp === undefined) {
      if (!toFill || this.#leasing !== undefined) return undefined
      const made = await this.#makeStamp(known)
      return { ...sawNothing(keys), lease: () => ({ stamp: made, held: undefined }) }
    }
    const believed = this.#believe(keys, keys.map((key, i) => this.#decode(key, found[i + 1])), stamp, replays)
    const entries = believed instanceof Promise ? await believed : believed
    return { entries, lease: i => isEnough ? { stamp, held: found[i + 1], seenUntil } : undefined }
  }

  /**
   * Whether a fill needs no mark, which would cost a round trip: the stamp tells whether any key of the region was
   * invalidated since. Where that happens, marks keep one key's invalidation from costing others their fill.
   */
  #isCalm (): boolean {
    return this.#leasing?.fillUnchanged !== undefined && performance.now() >= this.#calmAt
  }

  /** Looks again, and claims what isn't there. In the order of `keys`. Never rejects. */
  async claimMany (keys: readonly string[], options: ClaimOptions): Promise<Claim[]> {
    try {
      if (this.#leasing === undefined) return await this.#claimUnfenced(keys)
      if (options.takeOver !== true && this.#hasStamp && this.#isCalm()) {
        const look = await this.#look(keys)
        if (look !== undefined) return look.entries.map((entry, i) => seenClaim(entry, look.lease(i)!))
      }
      return await this.#claimFenced(this.#leasing, keys, options)
    } catch (error) {
      this.#failed(error, 'lease')
      return keys.map(() => undefined)
    }
  }

  async #claimFenced (leasing: LeasingBackend, keys: readonly string[], { ttl, takeOver = false }: ClaimOptions): Promise<Claim[]> {
    const mark = newLease()
    const replays = this.#replays()
    const [stampBytes, ...held] = await this.#run(() => leasing.leaseMany(this.#keyspace.stamp, keys, { mark, stamp: formatStamp(newStamp()), ttl, takeOver }))
    const stamp = this.#readStamp(stampBytes)
    if (stamp === undefined || held.length !== keys.length) throw new TypeError(`${this.name}.leaseMany must answer a stamp and one value for each key`)
    this.#hasStamp = true
    const entries = await this.#believe(keys, held.map((bytes, i) => isLease(bytes) ? undefined : this.#decode(keys[i]!, bytes)), stamp, replays)
    return entries.map((entry, i) => ({ entry, lease: { stamp, held: held[i]! }, first: Buffer.compare(held[i]!, mark) === 0 }))
  }

  /** A backend of three methods: the stamp is kept, but nothing refuses a fill that comes too late. */
  async #claimUnfenced (keys: readonly string[]): Promise<Claim[]> {
    const replays = this.#replays()
    const known = this.#made
    const [stampBytes, ...found] = await this.#getMany([this.#keyspace.stamp, ...keys])
    const stamp = this.#readStamp(stampBytes) ?? await this.#makeStamp(known)
    const lease = { stamp, held: undefined }
    const entries = await this.#believe(keys, found.map((bytes, i) => this.#decode(keys[i]!, bytes)), stamp, replays)
    return entries.map(entry => ({ entry, lease, first: true }))
  }

  /** Puts loaded entries where their leases allow it. In the order of `fills`. Never rejects. */
  async fillMany (fills: readonly Filling[]): Promise<Filled[]> {
    try {
      return await this.#fill(fills)
    } catch (error) {
      this.#failed(error, 'fill')
      // What they were to replace would be found there for as long as it is fresh: a refresh has given the new value already.
      const replaced = fills.filter(({ lease: { held } }) => held !== undefined && !isLease(held)).map(fill => fill.key)
      if (replaced.length > 0) await this.forgetMany(replaced)
      return fills.map(() => 'unknown')
    }
  }

  async #fill (fills: readonly Filling[]): Promise<Filled[]> {
    const now = this.#now()
    const leasing = this.#leasing
    const entries = fills.map(({ key, entry, bytes, lease }) => ({ key, value: bytes, ttl: lifetime(entry, now), lease: lease.held! }))
    if (leasing === undefined) {
      const unkept = await this.#run(() => this.#put(entries.map(({ key, value, ttl }) => ({ key, value, ttl }))))
      await this.#forgetOutdated(unkept)
      return fills.map(({ key }) => unkept.includes(key) ? 'unkept' : true)
    }
    const tags = this.#tagsOf(fills.map(fill => fill.entry), now)
    const [filled] = await this.#run(() => Promise.all([
      this.#fillLeased(leasing, fills, entries),
      tags.length > 0 ? leasing.holdTags(this.#keyspace.stamp, tags) : undefined
    ]))
    // A refused `cas` leaves there what it was to replace. A mark may stay: it is no value.
    await this.#forgetOutdated(fills.filter(({ lease }, i) => filled[i] instanceof Error && !isLease(lease.held!)).map(fill => fill.key))
    return filled.map((one, i) => one instanceof Error ? this.#unkept(fills[i]!.key, one) : one)
  }

  async #fillLeased (leasing: LeasingBackend, fills: readonly Filling[], entries: readonly LeasedEntry[]): Promise<(boolean | Error)[]> {
    const { stamp, seenUntil } = fills[0]!.lease // one look, or one claim, was for all of them
    if (seenUntil === undefined) return await leasing.fillMany(entries)
    if (performance.now() > seenUntil) return fills.map(() => false)
    const filled = await leasing.fillUnchanged!(this.#keyspace.stamp, stamp, entries.map(({ key, value, ttl, lease }) => ({ key, value, ttl, held: lease })))
    if (filled !== undefined) return filled
    this.#calmAt = performance.now() + pauseAfterRefusal
    return fills.map(() => false)
  }

  /** What a value that can't be kept was to replace would be found in its place. */
  async #forgetOutdated (keys: readonly string[]): Promise<void> {
    if (keys.length > 0) await this.#run(() => this.#deliver({ keys }))
  }

  /** The stamp as it is now: a second question after a claim shows whether keys were invalidated meanwhile. */
  async stamp (): Promise<Stamp | undefined> {
    try {
      return this.#readStamp((await this.#getMany([this.#keyspace.stamp]))[0])
    } catch (error) {
      this.#failed(error, 'read')
      return undefined
    }
  }

  /**
   * Replaces what stands there now; in the order of `sets`, false where somebody has invalidated or replaced the key
   * before it was done. Where the tier is away, what it holds is to be forgotten instead. @throws what the serializer throws, where it is needed
   */
  async setMany (sets: readonly Setting[], attempts = mostAttempts): Promise<Filled[]> {
    const keys = sets.map(set => set.key)
    const claims = await this.claimMany(keys, { ttl: setLease, takeOver: true })
    const fills = sets.flatMap((set, at) => {
      const lease = claims[at]?.lease
      // Its claim may have been made after the invalidation that has overtaken it.
      return lease === undefined || set.isOvertaken?.() === true ? [] : [{ ...set, at, bytes: this.encode(set.entry, lease.stamp, set.value), lease }]
    })
    try {
      if (claims.every(claim => claim !== undefined)) {
        const written = fills.length === 0 ? [] : await this.#setAgain(fills, await this.#fill(fills), attempts - 1)
        const filled = sets.map((): Filled => false)
        for (const [i, { at }] of fills.entries()) filled[at] = written[i]!
        this.#undelivered.replaced(keys.filter((_, i) => filled[i] === true))
        return filled
      }
    } catch (error) {
      this.#failed(error, 'set')
    }
    await this.forgetMany(keys)
    return sets.map(() => true)
  }

  /**
   * Whoever has taken over may put nothing there: of a refresh that fails, the old value is left. Where that still stands,
   * it was not deleted meanwhile, and is replaced once more.
   */
  async #setAgain (fills: readonly (Filling & Setting)[], filled: Filled[], attempts: number): Promise<Filled[]> {
    const older = (await this.#standing(fills.filter((_, i) => filled[i] === false))).filter(set => set.isSuperseded?.() !== true)
    if (older.length === 0) return filled
    if (attempts === 0) {
      await this.forgetMany(older.map(({ key }) => key))
      return filled
    }
    const again = await this.setMany(older, attempts)
    return filled.map((one, i) => again[older.indexOf(fills[i]!)] ?? one)
  }

  /** Those that were refused, and whose place still has the value that they were to replace. */
  async #standing<T extends { key: string, lease: Lease }> (refused: readonly T[]): Promise<T[]> {
    const replacing = refused.filter(({ lease: { held } }) => held !== undefined && !isLease(held))
    if (replacing.length === 0) return []
    const standing = await this.#getMany(replacing.map(({ key }) => key))
    return replacing.filter(({ lease }, i) => isSameValue(standing[i], lease.held!))
  }

  /** Forgets what refused fills were to replace, where it is still there. Never rejects. */
  async forgetStanding (refused: readonly { key: string, lease: Lease }[]): Promise<void> {
    let older = refused
    try {
      older = await this.#standing(refused)
    } catch (error) {
      this.#failed(error, 'refresh')
    }
    if (older.length > 0) await this.forgetMany(older.map(({ key }) => key))
  }

  /** Resolves to the keys whose values the backend will never keep. */
  async #put (entries: readonly BackendEntry[]): Promise<readonly string[]> {
    try {
      await this.backend.setMany(entries)
      return []
    } catch (error) {
      if (!(error instanceof UnstorableError)) throw error
      this.#unkept(error.keys[0]!, error)
      return error.keys
    }
  }

  #unkept (key: string, error: Error): 'unkept' {
    if (!this.#warnedOfUnkept) this.#logger.warn({ tier: this.name, region: this.#keyspace.region, key, err: error }, 'a tier can not keep a value; further ones will not be logged')
    this.#warnedOfUnkept = true
    return 'unkept'
  }

  /** Bytes for `fillMany`; `stamp` is that of the lease. @throws what the serializer throws, unless it is given the value's bytes */
  encode (entry: Entry, stamp: Stamp, value?: Uint8Array): Uint8Array {
    return encodeEntry(entry, this.#serializer, stamp, value)
  }

  /**
   * Copies entries from a farther tier, as they are. `read` asks it once more: farther tiers are invalidated first, so
   * what it still has when the leases here have been taken can't have been forgotten here yet. Never rejects.
   */
  async copyMany (keys: readonly string[], read: (keys: readonly string[]) => Promise<(Entry | undefined)[]>): Promise<void> {
    const claims = await this.claimMany(keys, { ttl: 1000 })
    const entries = await read(keys)
    try {
      const fills = entries.flatMap((entry, i) => {
        const claim = claims[i]
        if (entry === undefined || entry.softened === true || claim === undefined || claim.entry !== undefined) return []
        return [{ key: keys[i]!, entry, bytes: this.encode(entry, claim.lease.stamp), lease: claim.lease }]
      })
      if (fills.length > 0) await this.fillMany(fills)
    } catch (error) {
      this.#failed(error, 'copy')
    }
  }

  /**
   * Keys, everything with one of the tags, or the whole region, which may be softened instead. Revokes every right to fill what
   * it forgets. False: not yet; it will be replayed.
   */
  async forget (what: Invalidations): Promise<boolean> {
    return await this.#undelivered.deliver(what)
  }

  /** The same for keys. */
  async forgetMany (keys: readonly string[]): Promise<boolean> {
    return await this.forget({ keys })
  }

  /** Whether there is, here or behind it, what was invalidated and could not be told yet. */
  #concerns (key: string, tags: readonly string[]): boolean {
    if (this.#undelivered.concerns(key, tags)) return true
    for (const tier of this.#farther) if (tier.#concerns(key, tags)) return true // no function: this is asked for every key
    return false
  }

  /** Of what was kept back, here and behind it. */
  #replays (): number {
    return this.#farther.reduce((sum, tier) => sum + tier.#replays(), this.#undelivered.replays)
  }

  /** Where one connection carries everything in its order: that one. */
  get connection (): unknown {
    return this.#leasing?.connection
  }

  get line (): Line | undefined {
    return this.#leasing?.line
  }

  close (): void {
    if (!this.#undelivered.close()) return
    this.#logger.warn({ tier: this.name, region: this.#keyspace.region }, 'closed before a tier was back that is still to forget something: others may find it there until its time is over')
  }

  async #deliver ({ keys, tags, hard, soft }: Invalidations): Promise<void> {
    const stamp = formatStamp(newStamp())
    const stampKey = this.#keyspace.stamp
    const leasing = this.#leasing
    const revise = (revision: Revision) => leasing === undefined ? this.#reviseUnfenced(revision) : leasing.revise(stampKey, revision)
    if (hard === true) await revise({ kind: 'hard', stamp })
    else if (soft === true) await revise({ kind: 'soft', stamp })
    if (tags !== undefined && tags.length > 0) await revise({ kind: 'tags', stamp, tagKeys: tags.map(tag => this.#keyspace.tag(tag)) })
    if (keys !== undefined && keys.length > 0) {
      if (leasing !== undefined) await leasing.forgetMany(stampKey, stamp, keys)
      else await this.#forgetUnfenced(keys)
    }
  }

  async #forgetUnfenced (keys: readonly string[]): Promise<void> {
    const stamp = this.#readStamp((await this.backend.getMany([this.#keyspace.stamp]))[0])
    if (stamp !== undefined) await this.#putStamp({ ...stamp, deleted: stamp.deleted + 1 })
    await this.backend.deleteMany(keys)
  }

  async #reviseUnfenced (revision: Revision): Promise<void> {
    const stamp = this.#readStamp((await this.backend.getMany([this.#keyspace.stamp]))[0]) ?? newStamp()
    switch (revision.kind) {
      case 'hard': return await this.#putStamp({ ...stamp, epoch: newStamp().epoch })
      case 'soft': return await this.#putStamp({ ...stamp, softened: stamp.softened + 1 })
      // Nothing keeps a version for each tag in step here: what has tags is forgotten with any of them.
      case 'tags': return await this.#putStamp({ ...stamp, tagged: stamp.tagged + 1 })
    }
  }

  /** For a backend of three methods that has none. `known`: the one that was made last, when the backend was asked. */
  #makeStamp (known: Promise<Stamp> | undefined): Promise<Stamp> {
    if (this.#made !== known) return this.#made! // by somebody who had asked as well
    const stamp = newStamp()
    return (this.#made = this.#run(() => this.#putStamp(stamp)).then(() => stamp))
  }

  async #putStamp (stamp: Stamp): Promise<void> {
    await this.backend.setMany([{ key: this.#keyspace.stamp, value: Buffer.from(formatStamp(stamp), 'latin1'), ttl: stampLifetime }])
  }

  /**
   * What the stamp and undelivered invalidations leave of entries: nothing, where some were delivered since the tier was
   * asked. A node of a cluster may have answered before it was told, and another one after.
   */
  #believe (keys: readonly string[], entries: (Entry | undefined)[], stamp: Stamp, replays: number): (Entry | undefined)[] | Promise<(Entry | undefined)[]> {
    if (this.#replays() !== replays) return entries.map(() => undefined)
    let tagged = false
    for (let i = 0; i < entries.length; i++) {
      const entry = entries[i]
      if (entry === undefined) continue
      if (entry.stamp.epoch !== stamp.epoch || this.#concerns(keys[i]!, entry.tags)) entries[i] = undefined
      else if (entry.stamp.softened !== stamp.softened) entries[i] = { ...entry, softened: true }
      if (entry.tags.length > 0 && entry.stamp.tagged !== stamp.tagged) tagged = true
    }
    return tagged ? this.#believeTags(entries, stamp) : entries
  }

  /** Only when some tag of the region was invalidated since the load began is each one looked at. */
  async #believeTags (entries: (Entry | undefined)[], stamp: Stamp): Promise<(Entry | undefined)[]> {
    const doubtful = (entry: Entry | undefined): entry is Entry => entry !== undefined && entry.tags.length > 0 && entry.stamp.tagged !== stamp.tagged
    if (this.#leasing === undefined) return entries.map(entry => doubtful(entry) ? undefined : entry)
    const tags = [...new Set(entries.filter(doubtful).flatMap(entry => entry.tags))]
    const versions = await this.#getMany([...tags.map(tag => this.#keyspace.tag(tag)), this.#keyspace.stamp])
    // The stamp last, and once more: the versions of a backend that was flushed since it was read say nothing of these entries.
    if (this.#readStamp(versions.at(-1))?.epoch !== stamp.epoch) return entries.map(() => undefined)
    const changedAt = new Map(tags.map((tag, i) => [tag, tagVersion(versions[i], stamp.epoch)]))
    return entries.map(entry => doubtful(entry) && entry.tags.some(tag => changedAt.get(tag)! > entry.stamp.tagged) ? undefined : entry)
  }

  #tagsOf (entries: readonly Entry[], now: number): { key: string, ttl: number }[] {
    const ttls = new Map<string, number>()
    for (const entry of entries) for (const tag of entry.tags) ttls.set(tag, Math.max(ttls.get(tag) ?? 0, lifetime(entry, now)))
    return [...ttls].map(([tag, ttl]) => ({ key: this.#keyspace.tag(tag), ttl: ttl + 1000 }))
  }

  #decode (key: string, bytes: Uint8Array | undefined): Entry | undefined {
    if (bytes === undefined) return undefined
    try {
      return decodeEntry(bytes, this.#serializer)
    } catch (error) {
      if (!this.#warnedOfForeign) this.#logger.warn({ tier: this.name, region: this.#keyspace.region, key, err: error }, 'an entry was not understood and counts as missing; further ones will not be logged')
      this.#warnedOfForeign = true
      return undefined
    }
  }

  #readStamp (bytes: Uint8Array | undefined): Stamp | undefined {
    if (bytes === undefined) return undefined
    const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('latin1')
    if (text !== this.#lastStamp.text) this.#lastStamp = { text, stamp: parseStamp(text) }
    return this.#lastStamp.stamp
  }

  async #getMany (keys: readonly string[]): Promise<readonly (Uint8Array | undefined)[]> {
    return this.#assertAnswered(keys, await this.#run(() => this.backend.getMany(keys)))
  }

  #assertAnswered <T> (keys: readonly string[], found: readonly T[]): readonly T[] {
    if (!Array.isArray(found) || found.length !== keys.length) throw new TypeError(`${this.name}.getMany must answer each of ${keys.length} keys`)
    return found
  }

  #run<T> (operation: () => Promise<T>): Promise<T> {
    return this.#breaker.run(operation)
  }

  #failed (error: unknown, operation: string): void {
    this.#logger.debug({ tier: this.name, region: this.#keyspace.region, operation, err: error }, 'a tier did not answer and counts as missing')
  }
}

/** Of what is under a key without a mark, nobody else knows. */
export const seenClaim = (entry: Entry | undefined, lease: Lease): Claim => ({ entry, lease, first: lease.held === undefined })

const sawNothing = (keys: readonly string[]): Look => ({ entries: keys.map(() => undefined), lease: () => undefined })

/** Milliseconds for which marks are put, after a fill that was refused for another key's sake. */
const pauseAfterRefusal = 1000

/** Whoever takes over changes an entry's identity, and nothing else. */
const isSameValue = (one: Uint8Array | undefined, other: Uint8Array): boolean =>
  one !== undefined && Buffer.compare(one.subarray(identityLength), other.subarray(identityLength)) === 0

/** Any entry's time to live in the backend: as long as it may be served. */
const lifetime = (entry: Entry, now: number) => Math.max(1, Math.ceil(entry.staleUntil - now))

/** Of a `set`, where others take over again and again. */
const mostAttempts = 5

/** How long a `set` may take between its two round trips. Milliseconds. */
const setLease = 10_000

/** A year: a stamp outlives the entries that it stands for. */
const stampLifetime = 365 * 24 * 60 * 60 * 1000

/** When a tag was last invalidated: a number of its epoch. A version that was lost, or is none, could be any. */
function tagVersion (bytes: Uint8Array | undefined, epoch: number): number {
  const [, tagEpoch, tagged] = (bytes === undefined ? undefined : /^(\d+)\|(\d+)/.exec(Buffer.from(bytes).toString('latin1'))) ?? []
  if (tagEpoch === undefined) return Infinity
  return Number(tagEpoch) === epoch ? Number(tagged) : 0 // of an epoch whose entries are gone anyway
}
