import type { Entry } from '../entry.js'
import { identityLength } from '../entry-format.js'
import type { Stamp } from '../stamp.js'
import { holdsValue, type Claim, type ClaimOptions, type Lease } from './lease.js'
import type { TierBackend } from './tier-backend.js'
import type { Filled, TierFill, TierFills } from './tier-fills.js'
import type { TierInvalidations } from './tier-invalidations.js'

/** A key and its new value. */
export interface TierSet {
  readonly key: string
  readonly entry: Entry
  /** The value's bytes, where it was serialised already. */
  readonly value?: Uint8Array
  /** Whether the key was invalidated since: perhaps before the claim, which was then not revoked. */
  readonly isOvertaken?: () => boolean
  /** Whether this process has set the key again since. */
  readonly isSuperseded?: () => boolean
}

export interface TierSetsOptions {
  backend: TierBackend
  fills: TierFills
  invalidations: TierInvalidations
  /** Never rejects. */
  claimMany: (keys: readonly string[], options: ClaimOptions) => Promise<Claim[]>
  encode: (entry: Entry, stamp: Stamp, value?: Uint8Array) => Uint8Array
}

/** How often a `set` takes over, where others do so as well. */
const mostAttempts = 5

/** How long a `set` may take between its two round trips. Milliseconds. */
const setLease = 10_000

/** Replaces whatever a backend holds under a key: takes the right to fill it from everybody else, then fills it. */
export class TierSets {
  readonly #backend: TierBackend
  readonly #fills: TierFills
  readonly #invalidations: TierInvalidations
  readonly #claimMany: TierSetsOptions['claimMany']
  readonly #encode: TierSetsOptions['encode']

  constructor ({ backend, fills, invalidations, claimMany, encode }: TierSetsOptions) {
    this.#backend = backend
    this.#fills = fills
    this.#invalidations = invalidations
    this.#claimMany = claimMany
    this.#encode = encode
  }

  /** See `SharedTier.setMany`. */
  async setMany (sets: readonly TierSet[], attempts = mostAttempts): Promise<Filled[]> {
    const keys = sets.map(set => set.key)
    // 1. Take over, which revokes the right of older loads and sets to fill these keys.
    const claims = await this.#claimMany(keys, { ttl: setLease, takeOver: true })
    const fills = sets.flatMap((set, at) => {
      const lease = claims[at]?.lease
      // 2. Leave out what was invalidated or set again meanwhile: where that came before the claim, it hasn't revoked it.
      if (lease === undefined || !isLast(set)) return []
      return [{ ...set, at, bytes: this.#encode(set.entry, lease.stamp, set.value), lease }]
    })
    // 3. Fill. What is refused was invalidated, or taken over by others in turn.
    try {
      if (claims.every(claim => claim !== undefined)) {
        const written = fills.length === 0 ? [] : await this.#setAgain(fills, await this.#fills.tryMany(fills), attempts - 1)
        const filled = sets.map((): Filled => false)
        for (const [i, { at }] of fills.entries()) filled[at] = written[i]!
        // What was to be forgotten before a set isn't there any more; what came after it has to forget the set.
        this.#invalidations.discard(keys.filter((_, i) => filled[i] === true && isLast(sets[i]!)))
        return filled
      }
    } catch (error) {
      this.#backend.logFailure(error, 'set')
    }
    const unset = sets.filter(set => set.isSuperseded?.() !== true)
    if (unset.length > 0) await this.#invalidations.forget({ keys: unset.map(set => set.key) })
    return sets.map(() => 'unknown')
  }

  /**
   * Another process may have taken over and then put nothing there: a refresh that fails leaves the old value. Where that
   * is still there, it was not invalidated meanwhile, and is replaced once more.
   */
  async #setAgain (fills: readonly (TierFill & TierSet)[], filled: Filled[], attempts: number): Promise<Filled[]> {
    const unreplaced = (await this.#unreplaced(fills.filter((_, i) => filled[i] === false))).filter(set => set.isSuperseded?.() !== true)
    if (unreplaced.length === 0) return filled
    if (attempts === 0) {
      await this.#invalidations.forget({ keys: unreplaced.map(({ key }) => key) })
      return filled
    }
    const again = await this.setMany(unreplaced, attempts)
    const places = new Map(unreplaced.map((fill, i) => [fill, i]))
    return filled.map((one, i) => again[places.get(fills[i]!) ?? -1] ?? one)
  }

  /** See `SharedTier.forgetUnreplaced`. */
  async forgetUnreplaced (unfilled: readonly { key: string, lease: Lease }[]): Promise<void> {
    let unreplaced = unfilled
    try {
      unreplaced = await this.#unreplaced(unfilled)
    } catch (error) {
      this.#backend.logFailure(error, 'refresh')
    }
    if (unreplaced.length > 0) await this.#invalidations.forget({ keys: unreplaced.map(({ key }) => key) })
  }

  /** Those in whose place the value that they were to replace still stands. */
  async #unreplaced<T extends { key: string, lease: Lease }> (unfilled: readonly T[]): Promise<T[]> {
    const replacing = unfilled.filter(({ lease }) => holdsValue(lease))
    if (replacing.length === 0) return []
    const standing = await this.#backend.getMany(replacing.map(({ key }) => key))
    return replacing.filter(({ lease }, i) => isSameValue(standing[i], lease.held!))
  }
}

/** To take over changes an entry's identity, and nothing else. */
const isSameValue = (one: Uint8Array | undefined, other: Uint8Array): boolean =>
  one !== undefined && Buffer.compare(one.subarray(identityLength), other.subarray(identityLength)) === 0

/** Whether nothing has happened to the key in this process since it was set. */
const isLast = (set: TierSet): boolean => set.isOvertaken?.() !== true && set.isSuperseded?.() !== true
