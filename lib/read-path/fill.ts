import { isPromise } from '../checks.js'
import { KeptEntry, noTags, type Entry } from '../entry.js'
import { InvalidArgumentError, show } from '../errors.js'
import type { Flight } from './flight.js'
import type { Logger } from '../logger.js'
import type { Policy, Primed } from './source.js'
import { unstamped, type Stamp } from '../stamp.js'
import type { Lease } from '../tiers/lease.js'
import type { LocalTier } from '../tiers/local-tier.js'
import type { SharedTier } from '../tiers/shared-tier.js'
import type { TierFill } from '../tiers/tier-fills.js'
import { copyIn, type Shared } from '../values.js'

export interface FillOptions {
  locals: readonly LocalTier[]
  shared: readonly SharedTier[]
  region: string
  leaseTtl: number
  jitter: number
  logger: Logger
  now: () => number
}

/** A flight whose value is to be kept. */
export type Filling = Flight & { readonly entry: Entry }

/** A value of another key, that a flight's load has brought. */
export interface Priming { readonly flight: Flight, readonly prime: Primed }

/** The same, as the tiers keep it. */
export interface Primable { readonly flight: Flight, readonly key: string, readonly entry: Entry }

/** A flight's value, as one shared tier gets it. */
interface FlightFill extends TierFill { readonly flight: Flight }

/** Puts what was loaded into the tiers, unless it was invalidated meanwhile. */
export class Fill {
  readonly #options: FillOptions
  readonly #keepsNothing: boolean
  #warned = false

  constructor (options: FillOptions) {
    this.#options = options
    this.#keepsNothing = options.locals.length + options.shared.length === 0
  }

  /**
   * Returns what the flight's waiters get. If it is to be kept, it is the flight's entry from now on, and in memory. An error is
   * `shouldCache`'s.
   */
  admit (flight: Flight, loaded: { value: unknown, tags: readonly string[] }): Shared | { error: unknown } {
    const { policy } = flight.want.load!
    let shared: Shared
    try {
      shared = copyIn(loaded.value)
    } catch (error) {
      this.#warn(flight.key, error)
      return { value: loaded.value, loose: 'uncopied' }
    }
    if (this.#keepsNothing || loaded.value === undefined || (loaded.value === null && policy.negativeTtl === 0)) return shared
    try {
      if (policy.shouldCache !== undefined && !isToBeCached(policy.shouldCache(loaded.value))) return shared
    } catch (error) {
      return { error }
    }
    const entry = flight.entry = this.entryOf(shared, policy, loaded.tags)
    if (!flight.revoked) for (const tier of this.#options.locals) tier.set(flight.key, entry, flight.generation)
    return entry
  }

  /** An entry that is as old as this call. */
  entryOf (shared: Shared, policy: Policy, tags: readonly string[] = noTags): Entry {
    const { jitter, now } = this.#options
    const isMissing = shared.value === null && policy.negativeTtl !== undefined
    const { grace } = policy
    const ttl = isMissing ? policy.negativeTtl! : policy.ttl
    const spread = jitter === 0 ? ttl : ttl * (1 + jitter * (2 * Math.random() - 1))
    const loadedAt = now()
    return new KeptEntry({ value: shared.value, loose: shared.loose, loadedAt, freshUntil: loadedAt + spread, staleUntil: loadedAt + spread + grace, tags, stamp: unstamped })
  }

  /**
   * Into the shared tiers, the farthest first: where a nearer one loses what it held, a copy of what is behind it takes its
   * place, which must not be what a refresh was to replace. Never rejects.
   */
  async write (fillings: readonly Filling[]): Promise<void> {
    const { shared } = this.#options
    const found = new Set<Flight>()
    for (let s = shared.length - 1; s >= 0; s--) await this.#writeTo(shared[s]!, s, fillings.filter(isValid), found)
    // Other processes would look for it in vain. Where no tier was there when the load began, none of them waits.
    for (const flight of fillings) if (isValid(flight) && !found.has(flight) && flight.leases?.some(lease => lease !== undefined) === true) flight.unshared = true
  }

  /** `found` gets the flights whose keys hold a value now. */
  async #writeTo (tier: SharedTier, s: number, fillings: readonly Filling[], found: Set<Flight>): Promise<void> {
    const { fills, unfilled } = this.#fillsFor(tier, s, fillings)
    const [filled] = await Promise.all([
      fills.length > 0 ? tier.fillMany(fills) : [],
      // A refresh that can't be written forgets what it was to replace. A tier that is away is told later.
      unfilled.length > 0 ? tier.forget({ keys: unfilled }) : undefined
    ])
    for (const [i, { flight, key, entry }] of fills.entries()) {
      if (typeof filled[i] === 'boolean') found.add(flight)
      if (filled[i] === false || filled[i] === 'unkept') this.drop(key, entry) // 'unknown' doesn't contradict the value
    }
    const isNearer = s < this.#options.shared.length - 1
    const unwritten = fills.filter(({ flight }, i) => flight.want.isRefresh && (isNearer ? filled[i] !== true : filled[i] === false))
    if (unwritten.length === 0) return
    // What a nearer tier holds instead may be a copy of what the farther one held until now. Of the farthest, another refresh has
    // taken over the right: if that fails, what this one was to replace would be left.
    if (isNearer) await tier.forget({ keys: unwritten.map(({ key }) => key) })
    else await tier.forgetUnreplaced(unwritten)
  }

  /** What the tier is given, and the keys of refreshes that it can't be given. */
  #fillsFor (tier: SharedTier, s: number, fillings: readonly Filling[]): { fills: FlightFill[], unfilled: string[] } {
    const now = this.#options.now()
    const unfilled: string[] = []
    const fills: FlightFill[] = []
    for (const flight of fillings) {
      const { key, entry, leases } = flight
      const lease = leases?.[s]
      const bytes = lease === undefined || entry.staleUntil <= now ? undefined : this.#encode(tier, key, entry, lease.stamp)
      if (bytes !== undefined) {
        fills.push({ flight, key, entry, bytes, lease: lease! })
        continue
      }
      if (lease !== undefined) flight.unshared = true // expired already, or not to be encoded. Without a lease the tier was away
      if (flight.want.isRefresh) unfilled.push(key)
    }
    return { fills, unfilled }
  }

  #encode (tier: SharedTier, key: string, entry: Entry, stamp: Stamp): Uint8Array | undefined {
    try {
      return tier.encode(entry, stamp)
    } catch (error) {
      this.#warn(key, error)
      this.drop(key, entry)
      return undefined
    }
  }

  /** A tier has refused this value, or can't keep it: memory doesn't keep it either. */
  drop (key: string, entry: Entry): void {
    for (const tier of this.#options.locals) tier.drop(key, entry)
  }

  /** Puts values of other keys into memory, on the conditions of `prime`. Returns what is left to do for the shared tiers. */
  primeLocals (primings: readonly Priming[]): readonly Primable[] {
    const { locals } = this.#options
    const entries = primings.flatMap(({ flight, prime: { key, value, tags, policy } }) => {
      try {
        return [{ flight, key, entry: this.entryOf(copyIn(value), policy, tags) }]
      } catch (error) {
        this.#warn(key, error)
        return []
      }
    })
    for (const { flight, key, entry } of entries) {
      for (const tier of locals) {
        if (flight.generation?.deleted === tier.generation.deleted && tier.get(key) === undefined) tier.set(key, entry, flight.generation)
      }
    }
    return entries
  }

  /**
   * Puts values of other keys into the shared tiers. Nobody held a lease of these keys when the load began. So they are kept
   * only where there is nothing yet, and if no key of the region was invalidated since: any of these could have been theirs.
   * Never rejects.
   */
  async prime (entries: readonly Primable[]): Promise<void> {
    await Promise.all(this.#options.shared.map((tier, s) => this.#primeIn(tier, entries.map(({ flight, key, entry }) => ({ key, entry, before: flight.leases?.[s] })))))
  }

  async #primeIn (tier: SharedTier, entries: readonly { key: string, entry: Entry, before: Lease | undefined }[]): Promise<void> {
    const claims = await tier.claimMany(entries.map(({ key }) => key), { ttl: this.#options.leaseTtl })
    // A claim that left no mark has brought the stamp, which the fill compares once more. With a mark the stamp is asked for
    // after it: an invalidation that this stamp doesn't tell of comes later, and deletes the mark.
    const isWithoutMarks = claims[0]?.lease.seenUntil !== undefined
    const stamp = isWithoutMarks ? claims[0]!.lease.stamp : await tier.stamp()
    const fills = entries.flatMap(({ key, entry, before }, i) => {
      const claim = claims[i]
      if (claim === undefined || stamp === undefined || before === undefined) return [] // the tier is away, and contradicts nothing
      const isChanged = !tier.isUnchangedSince(before) || before.stamp.epoch !== stamp.epoch || before.stamp.deleted !== stamp.deleted
      // An earlier claim is about to be filled with a value that may be newer.
      if (claim.entry !== undefined || !claim.first || isChanged) {
        this.drop(key, entry)
        return []
      }
      const bytes = this.#encode(tier, key, entry, before.stamp)
      return bytes === undefined ? [] : [{ key, entry, bytes, lease: claim.lease }]
    })
    if (fills.length > 0) await tier.fillMany(fills)
  }

  #warn (key: string, error: unknown): void {
    if (this.#warned) return
    this.#warned = true
    this.#options.logger.warn({ region: this.#options.region, key, err: error }, 'a value can not be cached; further ones of the region will not be logged')
  }
}

/** Whether the tiers are to have it: nothing has overtaken it, or it replaces what is there all the same. */
const isValid = (flight: Filling): boolean => !flight.revoked || flight.replaces

/** @throws InvalidArgumentError for a promise, which would say yes whatever it resolves to */
function isToBeCached (answer: unknown): boolean {
  if (isPromise(answer)) throw new InvalidArgumentError('What shouldCache returns', 'true or false', show(answer))
  return answer !== false
}
