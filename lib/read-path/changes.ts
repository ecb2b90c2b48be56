import { LRUCache } from 'lru-cache'
import type { Coherence } from '../coherence/coherence.js'
import type { Invalidation } from '../coherence/messages.js'
import { isFresh, type Entry } from '../entry.js'
import { InvalidationPendingError } from '../errors.js'
import type { Fill, Filling } from './fill.js'
import { Flight } from './flight.js'
import type { FlightsUnderWay } from './flights-under-way.js'
import type { Logger } from '../logger.js'
import { encodeValue, type Serializer } from '../serializer.js'
import type { LocalTier } from '../tiers/local-tier.js'
import type { SharedTier } from '../tiers/shared-tier.js'
import type { TierSet } from '../tiers/tier-sets.js'
import { ReplayQueue } from '../tiers/replay-queue.js'

export interface ChangesOptions {
  region: string
  serializer: Serializer
  locals: readonly LocalTier[]
  shared: readonly SharedTier[]
  flights: FlightsUnderWay
  fill: Fill
  /** Undefined: there is no other process to tell. */
  coherence: Coherence | undefined
  /** An invalidation doesn't wait for other processes. */
  isEventual: boolean
  /** The line is the shared tier's connection: messages arrive in the order in which they were sent. */
  isLineInOrder: boolean
  logger: Logger
  now: () => number
  /** Is told of work that goes on when its caller is done, so that closing waits for it. */
  track: <T>(work: Promise<T>) => Promise<T>
}

/** How long a key that was forgotten is likely to be missing, if nobody has looked for it. Milliseconds. */
const likelyMissing = 1000

/** A value on its way into the shared tiers. */
interface SetUnderWay extends Required<TierSet> { readonly flight: Flight }

/**
 * Whatever changes the values of a region: invalidations, `set`, and what was loaded. This process and its flights are told
 * first, then the shared tiers, then the other processes: what they drop must not be found in a shared tier any more.
 */
export class Changes {
  readonly #options: ChangesOptions
  readonly #locals: readonly LocalTier[]
  readonly #shared: readonly SharedTier[]
  readonly #flights: FlightsUnderWay
  readonly #fill: Fill
  /** Tells other processes, and keeps what they could not be told yet. Undefined: there is nobody to tell. */
  readonly #untold: ReplayQueue | undefined
  /** By key: when this process was told to forget it. */
  readonly #forgottenAt = new LRUCache<string, number>({ max: 1000 })
  /** Sets and invalidations under way, by their number. A later one has a higher number. */
  readonly #underWay = new Map<number, Promise<void>>()
  #begun = 0
  /** By key: the number of the last set that is under way. */
  readonly #lastSets = new Map<string, number>()

  constructor (options: ChangesOptions) {
    this.#options = options
    const { region, locals, shared, flights, fill, coherence, isEventual, logger } = options
    this.#locals = locals
    this.#shared = shared
    this.#flights = flights
    this.#fill = fill
    if (coherence === undefined) return
    this.#untold = new ReplayQueue({
      send: async what => await coherence.push(region, what, isEventual),
      onEmpty: () => logger.info({ region }, 'other processes were told of earlier invalidations')
    })
    coherence.attach(region, { invalidated: what => this.#dropTold(what), startEmpty: isFirst => this.#startEmpty(isFirst) })
  }

  /** Whether a key was forgotten so lately that nobody is likely to have loaded it since. Who asks is about to look for it: the record is gone. */
  takeForgotten (key: string): boolean {
    const at = this.#forgottenAt.size === 0 ? undefined : this.#forgottenAt.get(key)
    if (at === undefined) return false
    this.#forgottenAt.delete(key)
    return performance.now() - at < likelyMissing
  }

  close (): void {
    if (this.#untold?.close() !== true) return
    this.#options.logger.warn({ region: this.#options.region }, 'closed before other processes could be told of invalidations: their memory may keep what is to be forgotten until its time is over')
  }

  // ─── values ────────────────────────────────────────────────────────────────────────────────────

  /** Replaces whatever the tiers hold. Rejects with what the serializer throws: then nothing has changed. */
  async set (given: readonly { key: string, entry: Entry }[]): Promise<void> {
    if (given.length === 0) return
    const sets = [...new Map(given.map(set => [set.key, set])).values()] // of one key, the last
    const values = this.#shared.length === 0 ? [] : sets.map(({ entry }) => encodeValue(this.#options.serializer, entry.value))
    for (const { key } of sets) this.#flights.revoke(key, 'set')
    const underWay = sets.map(({ key, entry }, i) => this.#beginSet(key, entry, values[i]!))
    const keys = sets.map(({ key }) => key)
    await this.#change(async number => {
      for (const key of keys) this.#lastSets.set(key, number)
      try {
        await this.#writeSets(underWay)
        // A later set that has taken this one's place must be there when this one resolves, or what was there before would still be read.
        await this.#endOfLaterSets(underWay.filter(one => one.isSuperseded()), number)
      } finally {
        for (const { key, flight } of underWay) {
          this.#flights.end(flight) // even where something is broken, such as a clock that throws
          if (this.#lastSets.get(key) === number) this.#lastSets.delete(key)
        }
      }
      this.#flights.yieldRevoked(keys)
      await this.#tellOthers({ keys, replaced: true }) // their memory holds the old values
    })
  }

  /** Sets a value in memory. */
  #beginSet (key: string, entry: Entry, value: Uint8Array): SetUnderWay {
    for (const tier of this.#locals) {
      tier.forget({ keys: [key] }) // what loads under way bring along for this key is refused, too
      tier.set(key, entry)
    }
    const flight = Flight.ofSet(key, entry)
    this.#flights.addUnjoinable(flight)
    const isSuperseded = () => flight.revokedBy === 'set'
    const isOvertaken = () => !isSuperseded() && (flight.revokedBy === 'invalidation' || flight.revokedBy === 'refresh' || flight.swept)
    return { key, entry, value, flight, isOvertaken, isSuperseded }
  }

  /** A set waits for later ones only, so that no two wait for each other. */
  async #endOfLaterSets (superseded: readonly SetUnderWay[], number: number): Promise<void> {
    const later = new Set(superseded.map(({ key }) => this.#lastSets.get(key)!).filter(last => last > number))
    await Promise.allSettled(Array.from(later, last => this.#underWay.get(last)!))
  }

  async #writeSets (sets: readonly SetUnderWay[]): Promise<void> {
    // Farthest first: where a nearer one loses what it held, a copy of what is behind it takes its place.
    for (const tier of this.#shared.toReversed()) {
      const filled = await tier.setMany(sets)
      // A tier refuses what was overtaken by a newer value, or an invalidation: memory doesn't keep it either.
      sets.forEach(({ key, entry }, i) => { if (filled[i] === false || filled[i] === 'unkept') this.#fill.drop(key, entry) })
    }
    const overtaken = sets.filter(one => one.isOvertaken()).map(one => one.key)
    if (overtaken.length > 0) await this.#forgetOvertaken(overtaken)
    this.#settle(sets.map(one => one.flight).filter(isKept))
  }

  /** Puts what was loaded into the shared tiers. Resolves when nobody finds any more what a refresh was to replace. */
  async write (loaded: readonly Flight[]): Promise<void> {
    const refreshed = loaded.filter(flight => flight.want.isRefresh)
    const gone = refreshed.filter(flight => !isKept(flight) && flight.revokedBy !== 'set').map(keyOf)
    if (gone.length > 0) {
      this.#drop({ keys: gone })
      await this.#tellTiers({ keys: gone })
    }
    await this.#fill.write(loaded.filter(isKept))
    await this.#forgetReloaded(loaded)
    if (refreshed.length > 0) await this.#endRefresh(refreshed, gone)
  }

  /** Forgets stale values that were served until a reload has found that there is nothing to keep any more. */
  async #forgetReloaded (loaded: readonly Flight[]): Promise<void> {
    const now = this.#options.now()
    // A value that only the caller's maxAge calls stale is still good for others.
    const flights = loaded.filter(flight => flight.stale !== undefined && !isFresh(flight.stale.entry, now, undefined) && !isKept(flight) && !flight.revoked)
    if (flights.length === 0) return
    for (const { key, stale } of flights) this.#fill.drop(key, stale!.entry)
    await Promise.all(this.#shared.map(async (tier, s) => {
      const leased = flights.filter(({ leases }) => leases?.[s] !== undefined) // without a lease the tier is away
      await tier.forgetUnreplaced(leased.map(({ key, leases }) => ({ key, lease: leases![s]! })))
    }))
  }

  /** `gone`: keys of which nothing is kept any more. */
  async #endRefresh (refreshed: readonly Flight[], gone: readonly string[]): Promise<void> {
    const kept = refreshed.filter(isKept)
    // What has overtaken a refresh may fail itself, or may not have reached a tier yet: the refresh leaves nothing old there.
    const overtaken = kept.filter(flight => !flight.replaces && flight.revokedBy !== 'set').map(keyOf)
    if (overtaken.length > 0) await this.#forgetOvertaken(overtaken)
    if (refreshed.some(flight => flight.revoked)) await Promise.allSettled(this.#underWay.values())
    this.#settle(kept)
    const replaced = kept.map(keyOf)
    await Promise.all([
      gone.length > 0 ? this.#tellOthers({ keys: gone }) : undefined,
      replaced.length > 0 ? this.#tellOthers({ keys: replaced, replaced: true }) : undefined
    ])
  }

  /**
   * Called when values that replace others are in the tiers: a look that was answered before then may have put the old value
   * into memory meanwhile, and one that still waits for its answer would.
   */
  #settle (written: readonly Filling[]): void {
    for (const { key, replaces, entry } of written) {
      if (!replaces) continue // overtaken by something newer
      this.#flights.revoke(key, 'set')
      for (const tier of this.#locals) tier.replaced(key, entry)
    }
  }

  /** Forgets what was written just when it was invalidated, and what a refresh was to replace when it was overtaken by another one. */
  async #forgetOvertaken (keys: readonly string[]): Promise<void> {
    const what = { keys, replaced: true } // a newer set or refresh that is under way goes on
    this.#drop(what)
    await this.#tellTiers(what)
  }

  // ─── invalidations ─────────────────────────────────────────────────────────────────────────────

  /** Resolves when no reader can start to read the old values. @throws InvalidationPendingError */
  async invalidate (what: Invalidation): Promise<void> {
    if (isOfNothing(what)) return
    this.#drop(what)
    await this.#change(async () => {
      const telling = this.#tellTiers(what)
      // Others are told after the shared tiers, where they must not find the old value. One connection keeps that order by itself.
      if (!this.#options.isLineInOrder) await telling
      const [told, heard] = await Promise.all([telling, this.#tellOthers(what)])
      const away = this.#shared.filter((_, i) => !told[i]).map(tier => tier.name)
      if (away.length > 0) throw new InvalidationPendingError(`Tier ${away.join(', ')}`, nameOf(what))
      if (!heard && !this.#options.isEventual) throw new InvalidationPendingError('The line to other processes', nameOf(what))
    })
  }

  /**
   * Called when a shared tier was told late. Nearer tiers and other processes have been told before; but until now they could
   * find the old value in this one. On three methods that is also what an older write has left there that came too late.
   */
  tellAgain (what: Invalidation, farthest: SharedTier): void {
    this.#drop(what)
    void this.#options.track((async () => {
      for (const tier of this.#shared.slice(0, this.#shared.indexOf(farthest)).toReversed()) await tier.forget(what)
      this.#dropTold(what)
      await this.#tellOthers(what)
    })())
  }

  /** Resolves to whether each shared tier could be told. */
  async #tellTiers (what: Invalidation): Promise<boolean[]> {
    // Farthest first: otherwise what is found in a tier that wasn't told yet could be copied into one that was.
    const told: boolean[] = []
    for (const tier of this.#shared.toReversed()) told.unshift(await tier.forget(what))
    // Again: a read that took off meanwhile may have found the old value in a tier that had not been told yet.
    if (this.#shared.length > 0) this.#dropTold(what)
    return told
  }

  /** Resolves when other processes don't believe the old values any more. False: they could not be told yet. */
  async #tellOthers (what: Invalidation): Promise<boolean> {
    return this.#untold === undefined || await this.#untold.deliver(what)
  }

  /** Called when the shared tiers have been told. */
  #dropTold (what: Invalidation): void {
    this.#drop(what)
    this.#flights.yieldRevoked(isOfKeysOnly(what) ? what.keys : undefined)
  }

  /** Forgets in this process, at once. */
  #drop (what: Invalidation): void {
    const { keys = [], tags = [], hard = false, soft = false, replaced = false } = what
    for (const key of keys) {
      this.#flights.revoke(key, replaced ? 'replacement' : 'invalidation')
      if (this.#shared.length > 0) this.#forgottenAt.set(key, performance.now())
    }
    if (hard) this.#flights.revokeAll()
    if (tags.length > 0 || soft) this.#flights.detachAll(tags) // nobody knows yet which tags a load will bring
    for (const tier of this.#locals) tier.forget(what)
  }

  /**
   * After the line was lost, nobody knows what was invalidated meanwhile: a set under way is forgotten as if it had been. Not when
   * the line is heard for the first time, or what a process sets when it starts would often be gone.
   */
  #startEmpty (isFirst: boolean): void {
    this.#flights.detachAll(isFirst ? [] : undefined)
    for (const tier of this.#locals) tier.forget({ hard: true })
  }

  /** `change` is given its number. */
  async #change (change: (number: number) => Promise<void>): Promise<void> {
    const number = ++this.#begun
    const changed = this.#options.track(change(number))
    this.#underWay.set(number, changed)
    try {
      await changed
    } finally {
      this.#underWay.delete(number)
    }
  }
}

const isOfKeysOnly = ({ tags = [], hard = false, soft = false }: Invalidation): boolean => tags.length === 0 && !hard && !soft
const isOfNothing = (what: Invalidation): boolean => what.keys?.length === 0 && isOfKeysOnly(what)

/** What is invalidated, in the words of an error. */
function nameOf ({ keys, tags }: Invalidation): string {
  if (keys !== undefined) return keys.length === 1 ? 'a key' : `${keys.length} keys`
  return tags === undefined ? 'the region' : `the tags ${tags.join(', ')}`
}

const keyOf = (flight: Flight): string => flight.key
const isKept = (flight: Flight): flight is Filling => flight.entry !== undefined
