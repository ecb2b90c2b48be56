import type { Landed, Trip } from '../read-path/landed.js'
import type { LoadCall } from '../read-path/load-call.js'

/** Where a request's values came from. */
export interface RequestStats {
  /** Reads answered by the request's own memory. */
  local: number
  /** Tier name → keys found there. A tier where nothing was found is absent; the second Redis tier of a region is 'redis-2'. */
  tiers: Readonly<Record<string, number>>
  /** Keys served stale within grace. They are counted in `tiers` as well. */
  stale: number
  /** Keys that this request's reads made a loader load. */
  loaded: number
  /** Calls of a loader for them: one call may load a thousand keys, for several requests. */
  loads: number
  /** Keys for which another caller's load was awaited. */
  waited: number
}

interface TierCount { readonly name: string, found: number }
interface TimedTier extends TierCount { milliseconds: number }

/** What is recorded of a read. */
export type Recorded = Pick<Landed, 'origin' | 'stale' | 'trip' | 'call'>

/** Counts one request's reads. */
export class Recorder {
  local = 0
  /** Fresh values like the last one, from one tier by one trip, not yet among the others: of most requests there is nothing else. */
  #hits = 0
  #lastHit: Recorded | undefined
  #others: Tally | undefined

  /** Counts a fresh value that was found without a flight. `one` is the `hit` of its region's path, which is always the same object. */
  hit (one: Recorded): void {
    if (this.#lastHit !== undefined && one !== this.#lastHit) return this.landed(one)
    this.#lastHit = one
    this.#hits++
  }

  landed (one: Recorded): void {
    if (typeof one.origin !== 'object' || one.stale) return this.#tally().count(one, 1)
    if (one.origin !== this.#lastHit?.origin || one.trip !== this.#lastHit.trip) {
      if (this.#hits > 0) this.#tally()
      this.#lastHit = one
    }
    this.#hits++
  }

  get stats (): RequestStats {
    const { tiers, stale, loaded, loads, waited } = this.#tally()
    return { local: this.local, tiers: Object.fromEntries(tiers.map(({ name, found }) => [name, found])), stale, loaded, loads, waited }
  }

  /** The metrics of a `Server-Timing` header: durations in milliseconds, counts as descriptions. */
  get serverTiming (): string {
    const { timedTiers, stale, loaded, loads, waited, loadMilliseconds } = this.#tally()
    const metrics = [`cache-local;desc="${this.local}"`]
    for (const { name, found, milliseconds } of timedTiers) metrics.push(`cache-${name};desc="${found}";dur=${milliseconds.toFixed(2)}`)
    if (loaded > 0) metrics.push(`cache-load;desc="${loaded} in ${loads}";dur=${loadMilliseconds.toFixed(2)}`)
    if (waited > 0) metrics.push(`cache-waited;desc="${waited}"`)
    if (stale > 0) metrics.push(`cache-stale;desc="${stale}"`)
    return metrics.join(', ')
  }

  /** All reads so far, the hits among them. */
  #tally (): Tally {
    const others = this.#others ??= new Tally()
    if (this.#hits > 0) others.count(this.#lastHit!, this.#hits)
    this.#hits = 0
    return others
  }
}

class Tally {
  stale = 0
  loaded = 0
  loads = 0
  waited = 0
  loadMilliseconds = 0
  /** Where something was found. */
  readonly tiers: TierCount[] = []
  /** Each of them once. They may go on when a first part of them has landed. */
  readonly #trips: Trip[] = []
  /** The trip and the call of the last read. */
  #lastTrip: Trip | undefined
  #lastCall: LoadCall | undefined
  /** Batches and calls that have been counted, where there were several: their time is one, however many keys they were for. */
  #counted: Set<Trip | LoadCall> | undefined

  /** So many reads that have ended alike. */
  count ({ origin, stale, trip, call }: Recorded, times: number): void {
    if (stale) this.stale += times
    if (typeof origin === 'object') this.#tier(origin.tier).found += times
    else if (origin === 'loaded') this.loaded += times
    else if (origin === 'waited') this.waited += times

    if (trip !== this.#lastTrip) {
      if (this.#isNew(trip, this.#lastTrip)) this.#trips.push(trip)
      this.#lastTrip = trip
    }
    if (origin !== 'loaded' || call === undefined || call === this.#lastCall) return
    if (this.#isNew(call, this.#lastCall)) {
      this.loads++
      this.loadMilliseconds += call.milliseconds
    }
    this.#lastCall = call
  }

  /** Those and others that were asked, since that took time: how long its batches have waited for each until now. */
  get timedTiers (): readonly TimedTier[] {
    const timed = this.tiers.map((tier): TimedTier => ({ ...tier, milliseconds: 0 }))
    for (const { tier: name, milliseconds } of this.#trips.flatMap(({ waits }) => waits)) {
      let tier = timed.find(tier => tier.name === name)
      if (tier === undefined) timed.push(tier = { name, found: 0, milliseconds: 0 })
      tier.milliseconds += milliseconds
    }
    return timed
  }

  #tier (name: string): TierCount {
    let tier = this.tiers.find(tier => tier.name === name)
    if (tier === undefined) this.tiers.push(tier = { name, found: 0 })
    return tier
  }

  /** `last` was counted as well: most requests have no other. */
  #isNew <T extends Trip | LoadCall>(one: T, last: T | undefined): boolean {
    if (last === undefined) return true
    const counted = this.#counted ??= new Set()
    counted.add(last)
    return !counted.has(one)
  }
}
