import { LRUCache } from 'lru-cache'
import type { Coherence } from './coherence/coherence.js'
import type { Invalidations } from './coherence/messages.js'
import { isFresh, type Entry } from './entry.js'
import { InvalidationPendingError } from './errors.js'
import type { Fill, Filling } from './fill.js'
import { Flight } from './flight.js'
import { nobody } from './landed.js'
import type { FlightsUnderWay } from './flights-under-way.js'
import type { Logger } from './logger.js'
import { encodeValue, type Serializer } from './serializer.js'
import type { LocalTier } from './tiers/local-tier.js'
import type { SharedTier } from './tiers/shared-tier.js'
import { Undelivered } from './undelivered.js'

export interface ChangesOptions {
  region: string
  serializer: Serializer
  locals: readonly LocalTier[]
  shared: readonly SharedTier[]
  flights: FlightsUnderWay
  fill: Fill
  coherence: Coherence | undefined
  /** An invalidation doesn't wait for other processes. */
  isEventual: boolean
  /** The line is the shared tier's connection: messages arrive in the order in which they were sent. */
  isLineInOrder: boolean
  logger: Logger
  now: () => number
  /** Has what goes on after its caller has what he wants waited for, when the region is closed. */
  track: <T>(work: Promise<T>) => Promise<T>
}

/** What was forgotten is likely to be missing for this long, until it was looked for. Milliseconds. */
const likelyMissing = 1000

/**
 * What makes the values of a region others: invalidations, `set`, and loads, once they have one. This process knows first, with
 * its flights; then the shared tiers; then the other processes, who must not find there any more what they drop.
 */
export class Changes {
  readonly #options: ChangesOptions
  readonly #locals: readonly LocalTier[]
  readonly #shared: readonly SharedTier[]
  readonly #flights: FlightsUnderWay
  readonly #fill: Fill
  /** Invalidations that other processes have not been told of yet. Undefined: there is no need to tell them. */
  readonly #untold: Undelivered | undefined
  /** By key: when this process was told to forget it. */
  readonly #forgottenAt = new LRUCache<string, number>({ max: 1000 })
  /** Sets and invalidations. */
  readonly #underWay = new Set<Promise<void>>()

  constructor (options: ChangesOptions) {
    this.#options = options
    const { region, locals, shared, flights, fill, coherence, isEventual, logger } = options
    this.#locals = locals
    this.#shared = shared
    this.#flights = flights
    this.#fill = fill
    if (coherence === undefined || shared.length === 0) return
    this.#untold = new Undelivered({
      deliver: async what => await coherence.push(region, what, isEventual),
      delivered: () => logger.info({ region }, 'other processes were told of earlier invalidations')
    })
    coherence.attach(region, { invalidated: what => this.#dropTold(what), startEmpty: () => this.#startEmpty() })
  }

  /** Whether a key was forgotten so lately that nobody is likely to have loaded it since. True once for each time that it was. */
  isForgotten (key: string): boolean {
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

  /** Replaces whatever is there. Rejects with what the serializer throws: then nothing has changed. */
  async set (given: readonly { key: string, entry: Entry }[]): Promise<void> {
    const sets = [...new Map(given.map(set => [set.key, set])).values()] // of one key, the last
    const values = this.#shared.length === 0 ? [] : sets.map(({ entry }) => encodeValue(this.#options.serializer, entry.value))
    for (const { key } of sets) this.#flights.revoke(key, 'set')
    const flown = sets.map(({ key, entry }, i) => {
      for (const tier of this.#locals) {
        tier.forget([key]) // in what is being loaded, too: a row of it may be for this key
        tier.set(key, entry)
      }
      // What overtakes it revokes it, as it would a load.
      const flight = new Flight({ key, maxAge: undefined, load: undefined, anew: true }, undefined, nobody)
      flight.entry = entry
      this.#flights.stray(flight)
      const isSuperseded = () => flight.revokedBy === 'set'
      const isOvertaken = () => !isSuperseded() && (flight.revokedBy === 'invalidation' || flight.revokedBy === 'refresh' || flight.swept)
      return { key, entry, value: values[i]!, flight, isOvertaken, isSuperseded }
    })
    await this.#change(async () => {
      try {
        const written = await Promise.all(this.#shared.map(tier => tier.setMany(flown)))
        // Somebody was faster with a newer value, or an invalidation: memory doesn't keep this one either.
        for (const filled of written) flown.forEach(({ key, entry }, i) => { if (filled[i] !== true) this.#fill.drop(key, entry) })
        await this.#fill.forgetRefused(written.map(filled => sets.filter((_, i) => filled[i] === false).map(set => set.key)))
        const overtaken = flown.filter(one => one.isOvertaken()).map(one => one.key)
        if (overtaken.length > 0) await this.#forgetOvertaken(overtaken)
        this.#settle(flown.map(one => one.flight).filter(isKept))
      } finally {
        for (const { flight } of flown) this.#flights.end(flight) // even where something is broken, such as a logger that throws
      }
      this.#flights.yieldRevoked()
      await this.#tellOthers({ keys: sets.map(({ key }) => key), replaced: true }) // the memory of others holds what was there before
    })
  }

  /** What was loaded goes into the shared tiers. Resolves when nobody finds any more what a refresh was to replace. */
  async write (loaded: readonly Flight[]): Promise<void> {
    const kept = loaded.filter(isKept)
    const refreshed = loaded.filter(flight => flight.want.anew)
    const gone = refreshed.filter(flight => !isKept(flight) && flight.revokedBy !== 'set').map(keyOf)
    if (gone.length > 0) {
      this.#drop({ keys: gone })
      await this.#tellTiers({ keys: gone })
    }
    await this.#fill.write(kept)
    const now = this.#options.now()
    // What was too old for a caller's maxAge alone is still for others.
    await this.#forgetReloaded(loaded.filter(flight => flight.stale !== undefined && !isFresh(flight.stale.entry, now, undefined) && !isKept(flight) && !flight.revoked))
    if (refreshed.length === 0) return
    const anew = refreshed.filter(isKept)
    // What has overtaken one may fail, or could not tell a tier yet: this one resolves before, and leaves nothing old there.
    const overtaken = refreshed.filter(flight => isKept(flight) && !flight.replaces && flight.revokedBy !== 'set').map(keyOf)
    if (overtaken.length > 0) await this.#forgetOvertaken(overtaken)
    if (refreshed.some(flight => flight.revoked)) await Promise.allSettled(this.#underWay)
    this.#settle(anew)
    const replaced = anew.map(keyOf)
    await Promise.all([
      gone.length > 0 ? this.#tellOthers({ keys: gone }) : undefined,
      replaced.length > 0 ? this.#tellOthers({ keys: replaced, replaced: true }) : undefined
    ])
  }

  /** What was served as stale until its reload has found that there is nothing to keep any more. */
  async #forgetReloaded (flights: readonly Flight[]): Promise<void> {
    if (flights.length === 0) return
    for (const { key, stale } of flights) this.#fill.drop(key, stale!.entry)
    await Promise.all(this.#shared.map(async (tier, s) => {
      const leased = flights.filter(({ leases }) => leases?.[s] !== undefined) // else it is away
      await tier.forgetStanding(leased.map(({ key, leases }) => ({ key, lease: leases![s]! })))
    }))
  }

  /**
   * What was set, or loaded anew, is in the tiers. A look that was answered before then may have put the old value into memory
   * meanwhile, and one that still waits for its answer would.
   */
  #settle (written: readonly Filling[]): void {
    for (const { key, replaces, entry } of written) {
      if (!replaces) continue // there is something newer
      this.#flights.revoke(key, 'set')
      for (const tier of this.#locals) {
        tier.replaced()
        if (!isSame(tier.get(key), entry)) tier.backend.deleteEntry(key)
      }
    }
  }

  /** What was written just when it was invalidated; or was not, for a refresh that may fail. */
  async #forgetOvertaken (keys: readonly string[]): Promise<void> {
    const what = { keys, replaced: true } // whoever is replacing it may go on
    this.#drop(what)
    await this.#tellTiers(what)
  }

  // ─── invalidations ─────────────────────────────────────────────────────────────────────────────

  /** @throws InvalidationPendingError */
  async forget (keys: readonly string[]): Promise<void> {
    await this.#invalidate({ keys }, keys.length === 1 ? 'a key' : `${keys.length} keys`)
  }

  /** @throws InvalidationPendingError */
  async revise (kind: 'hard' | 'soft'): Promise<void> {
    await this.#invalidate({ [kind]: true }, 'the region')
  }

  /** @throws InvalidationPendingError */
  async forgetTags (tags: readonly string[]): Promise<void> {
    await this.#invalidate({ tags }, `the tags ${tags.join(', ')}`)
  }

  /** A shared tier has been told late. Nearer ones, and others, knew already; but until now they could find the old value in it. */
  tellAgain (what: Invalidations, farthest: SharedTier): void {
    this.#drop(what)
    void this.#options.track((async () => {
      for (const tier of this.#shared.slice(0, this.#shared.indexOf(farthest)).toReversed()) await tier.forget(what)
      this.#dropTold(what)
      await this.#tellOthers(what)
    })())
  }

  async #invalidate (what: Invalidations, name: string): Promise<void> {
    this.#drop(what)
    await this.#change(async () => {
      const telling = this.#tellTiers(what)
      // After the shared tiers: whoever hears of it doesn't find the old value there. One connection sees to that by itself.
      if (!this.#options.isLineInOrder) await telling
      const [told, heard] = await Promise.all([telling, this.#tellOthers(what)])
      const away = this.#shared.filter((_, i) => !told[i]).map(tier => tier.name)
      if (away.length > 0) throw new InvalidationPendingError(`Tier ${away.join(', ')}`, name)
      if (!heard && !this.#options.isEventual) throw new InvalidationPendingError('The line to other processes', name)
    })
  }

  /** Resolves to whether each of them knows now. */
  async #tellTiers (what: Invalidations): Promise<boolean[]> {
    // Farthest first: what is still found in a tier isn't copied into a nearer one that was told already.
    const told: boolean[] = []
    for (const tier of this.#shared.toReversed()) told.unshift(await tier.forget(what))
    // Again: a read that took off meanwhile may have found the old value in a tier that had not been told yet.
    if (this.#shared.length > 0) this.#dropTold(what)
    return told
  }

  /** Resolves when they don't believe it any more. False: they could not be told yet. */
  async #tellOthers (what: Invalidations): Promise<boolean> {
    return this.#untold === undefined || await this.#untold.deliver(what)
  }

  /** When the shared tiers have been told. */
  #dropTold (what: Invalidations): void {
    this.#drop(what)
    this.#flights.yieldRevoked()
  }

  /** In this process, at once. */
  #drop ({ keys = [], tags = [], hard = false, soft = false, replaced = false }: Invalidations): void {
    for (const key of keys) {
      this.#flights.revoke(key, replaced ? 'elsewhere' : 'invalidation')
      if (this.#shared.length > 0) this.#forgottenAt.set(key, performance.now())
    }
    if (hard) this.#flights.revokeAll()
    if (tags.length > 0 || soft) this.#flights.detachAll(tags) // nobody knows yet which tags a load will bring
    for (const tier of this.#locals) {
      if (keys.length > 0) tier.forget(keys)
      if (tags.length > 0) tier.forgetTags(tags)
      if (hard) tier.revise('hard')
      if (soft) tier.revise('soft')
    }
  }

  /** As after a line that was lost: nobody knows what was invalidated meanwhile. */
  #startEmpty (): void {
    this.#flights.detachAll()
    for (const tier of this.#locals) tier.revise('hard')
  }

  async #change (change: () => Promise<void>): Promise<void> {
    const changed = this.#options.track(change())
    this.#underWay.add(changed)
    try {
      await changed
    } finally {
      this.#underWay.delete(changed)
    }
  }
}

const keyOf = (flight: Flight): string => flight.key
/** In memory it is a copy; two values that are equal may differ in their tags. */
const isSame = (one: Entry | undefined, other: Entry): boolean => one !== undefined && Object.is(one.value, other.value) && one.loadedAt === other.loadedAt && one.tags === other.tags
const isKept = (flight: Flight): flight is Filling => flight.entry !== undefined
