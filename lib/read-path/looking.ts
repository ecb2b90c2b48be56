import type { Copying } from './copying.js'
import { freshness, isFresh, type Entry } from '../entry.js'
import type { Flight } from './flight.js'
import type { FlightsUnderWay } from './flights-under-way.js'
import { Landed, type Origin, type TierOrigin, type Trip } from './landed.js'
import type { Look } from '../tiers/lease.js'
import { LocalTier } from '../tiers/local-tier.js'
import type { SharedTier } from '../tiers/shared-tier.js'

export interface LookingOptions {
  tiers: readonly (LocalTier | SharedTier)[]
  /** One for each tier. */
  origins: readonly TierOrigin[]
  flights: FlightsUnderWay
  copying: Copying
  /** Whether memory tiers may be believed. */
  isTrusted: () => boolean
  now: () => number
}

/** What came of a look in one tier. */
export interface Looked {
  /** Flights whose keys it doesn't have. */
  readonly missing: readonly Flight[]
  /** Lands the others. To be called once. */
  readonly landFound: () => void
}

/** Looks for the keys of flights in the tiers. What is found goes to the waiters, and into the nearer tiers. */
export class Looking {
  readonly #tiers: readonly (LocalTier | SharedTier)[]
  readonly #origins: readonly TierOrigin[]
  readonly #flights: FlightsUnderWay
  readonly #copying: Copying
  readonly #isTrusted: () => boolean
  readonly #now: () => number
  /** For each tier: whether nobody else has what one flight finds there: neither the tier itself, nor a memory that it is copied into. */
  readonly #isSole: readonly boolean[]

  constructor ({ tiers, origins, flights, copying, isTrusted, now }: LookingOptions) {
    this.#tiers = tiers
    this.#origins = origins
    this.#flights = flights
    this.#copying = copying
    this.#isTrusted = isTrusted
    this.#now = now
    const firstLocal = tiers.findIndex(tier => tier instanceof LocalTier)
    this.#isSole = tiers.map((tier, tierIndex) => !(tier instanceof LocalTier) && tier.decodesAnew && (firstLocal === -1 || tierIndex < firstLocal))
  }

  /** `repeats`: two flights may have the same key. */
  async lookIn (tierIndex: number, flights: readonly Flight[], trip: Trip, repeats: boolean): Promise<Looked> {
    const tier = this.#tiers[tierIndex]!
    if (tier instanceof LocalTier) return this.#sort(flights, flights.map(({ key }) => this.#isTrusted() ? tier.get(key) : undefined), tierIndex, trip, repeats)
    const started = performance.now()
    const keys = flights.map(flight => flight.key)
    const asked = repeats ? [...new Set(keys)] : keys
    const look = inOrderOf(keys, asked, await tier.lookMany(asked, flights.some(flight => flight.want.load !== undefined)))
    addWait(trip, tier.name, performance.now() - started)
    return this.#sort(flights, look.entries, tierIndex, trip, repeats, look)
  }

  /** Looks, in the shared tiers, for what another process was to load. Resolves to the flights that have not found it. */
  async lookAgain (flights: readonly Flight[]): Promise<readonly Flight[]> {
    let missing = flights
    for (const [tierIndex, tier] of this.#tiers.entries()) {
      if (tier instanceof LocalTier || missing.length === 0) continue
      const entries = await tier.readMany(missing.map(flight => flight.key))
      const left: Flight[] = []
      for (const [i, flight] of missing.entries()) if (!this.landIfFresh(flight, entries[i], tierIndex, flight.trip, 'waited')) left.push(flight)
      missing = left
    }
    return missing
  }

  /** Lands the flight if the entry, found in the tier at `tierIndex`, is fresh enough for it. A stale one is kept for its grace. */
  landIfFresh (flight: Flight, entry: Entry | undefined, tierIndex: number, trip: Trip, origin?: Origin): boolean {
    if (entry === undefined) return false
    const now = this.#now()
    const isFreshEnough = this.#isFreshEnough(entry, flight, now)
    if (isFreshEnough) this.#land(flight, entry, tierIndex, trip, origin)
    else this.#keepForGrace(entry, flight, tierIndex, now)
    return isFreshEnough
  }

  arrive (flight: Flight, landed: Landed): void {
    this.#flights.end(flight)
    flight.land(landed)
  }

  #sort (flights: readonly Flight[], entries: readonly (Entry | undefined)[], tierIndex: number, trip: Trip, repeats: boolean, look?: Look): Looked {
    const now = this.#now()
    const missing: Flight[] = []
    for (let i = 0; i < flights.length; i++) {
      const flight = flights[i]!
      const entry = entries[i]
      if (entry !== undefined) {
        if (this.#isFreshEnough(entry, flight, now)) continue
        this.#keepForGrace(entry, flight, tierIndex, now)
      }
      if (look !== undefined) (flight.leases ??= []).push(look.lease(i))
      missing.push(flight)
    }
    return { missing, landFound: () => this.#landFound(missing, flights, entries, tierIndex, trip, repeats) }
  }

  /** Those of `flights` that are not `missing`, in the same order. */
  #landFound (missing: readonly Flight[], flights: readonly Flight[], entries: readonly (Entry | undefined)[], tierIndex: number, trip: Trip, repeats: boolean): void {
    const isSole = this.#isSole[tierIndex]! && !repeats
    let left = 0
    for (let i = 0; i < flights.length; i++) {
      const flight = flights[i]!
      if (flight === missing[left]) left++
      else this.#land(flight, entries[i]!, tierIndex, trip, undefined, isSole && flight.hasOneWaiter)
    }
  }

  /** Whether the entry is fresh enough for all who wait for the flight. */
  #isFreshEnough (entry: Entry, { want, otherAges }: Flight, now: number): boolean {
    return isFresh(entry, now, want.maxAge) && otherAges?.some(maxAge => !isFresh(entry, now, maxAge)) !== true
  }

  /** Keeps an entry that is not fresh enough, to be served meanwhile, if it is still in its grace for all who wait for the flight. */
  #keepForGrace (entry: Entry, flight: Flight, tierIndex: number, now: number): void {
    if (freshness(entry, now, flight.want.maxAge) !== 'stale') return
    if (flight.otherAges?.some(maxAge => freshness(entry, now, maxAge) === 'gone') === true) return
    if (flight.stale === undefined || flight.stale.entry.loadedAt < entry.loadedAt) flight.stale = { entry, origin: this.#origins[tierIndex]! }
  }

  #land (flight: Flight, entry: Entry, tierIndex: number, trip: Trip, origin: Origin = this.#origins[tierIndex]!, isSole = false): void {
    this.#copying.copyNearer(flight, entry, tierIndex)
    this.arrive(flight, new Landed({ shared: entry, origin, stale: false, trip, isSole }))
  }
}

function addWait ({ waits }: Trip, tier: string, milliseconds: number): void {
  const wait = waits.find(wait => wait.tier === tier)
  if (wait === undefined) waits.push({ tier, milliseconds })
  else wait.milliseconds = Math.max(wait.milliseconds, milliseconds)
}

/** The answers to `asked`, for each of `keys`, which may repeat some. */
function inOrderOf (keys: readonly string[], asked: readonly string[], look: Look): Look {
  if (asked.length === keys.length) return look
  const positions = new Map(asked.map((key, i) => [key, i]))
  const positionOf = (key: string) => positions.get(key)!
  return { entries: keys.map(key => look.entries[positionOf(key)]), lease: i => look.lease(positionOf(keys[i]!)) }
}
