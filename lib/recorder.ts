import type { Landed, Trip } from './flights.js'
import type { LoadCall } from './loads.js'
import type { ReadPath } from './read-path.js'

/** Where a request's values came from. */
export interface RequestStats {
  /** Reads answered by the request's own memory. */
  local: number
  /** Tier name → keys found there. */
  tiers: Readonly<Record<string, number>>
  /** Keys served stale within grace. */
  stale: number
  /** Keys loaded, and calls of a loader. */
  loaded: number
  loads: number
  /** Keys for which another caller's load was awaited. */
  waited: number
}

interface TierCount { readonly name: string, found: number, milliseconds: number }

/** Counts one request's reads. */
export class Recorder {
  local = 0
  #stale = 0
  #loaded = 0
  #loads = 0
  #waited = 0
  #loadMilliseconds = 0
  #tiers: TierCount[] | undefined
  /** Fresh values of a memory tier, not yet among the others. */
  #hits = 0
  #hitPath: ReadPath | undefined
  /** Of the last read. */
  #lastPath: ReadPath | undefined
  #lastPlace = 0
  #lastTier: TierCount | undefined
  #lastTrip: Trip | undefined
  /** Batches and calls that have been counted: their time is one, however many keys they were for. */
  #counted: Set<Trip | LoadCall> | undefined

  /** A fresh value of the memory tier. */
  hit (path: ReadPath): void {
    if (path !== this.#hitPath) {
      this.#countHits()
      this.#hitPath = path
    }
    this.#hits++
  }

  #countHits (): void {
    if (this.#hits > 0) this.#tier(this.#hitPath!, 0).found += this.#hits
    this.#hits = 0
  }

  landed (path: ReadPath, { origin, stale, trip, call }: Landed): void {
    if (this.#hits > 0) this.#countHits()
    if (stale) this.#stale++
    if (typeof origin === 'object') this.#tier(path, origin.tier).found++
    else if (origin === 'loaded') this.#loaded++
    else if (origin === 'waited') this.#waited++

    if (trip !== this.#lastTrip && this.#isNew(trip)) trip.milliseconds.forEach((milliseconds, place) => { this.#tier(path, place).milliseconds += milliseconds })
    this.#lastTrip = trip
    if (call !== undefined && origin === 'loaded' && this.#isNew(call)) {
      this.#loads++
      this.#loadMilliseconds += call.milliseconds
    }
  }

  get stats (): RequestStats {
    this.#countHits()
    return {
      local: this.local,
      tiers: Object.fromEntries((this.#tiers ?? []).map(({ name, found }) => [name, found])),
      stale: this.#stale,
      loaded: this.#loaded,
      loads: this.#loads,
      waited: this.#waited
    }
  }

  /** As the `Server-Timing` header has it: durations in milliseconds, counts as descriptions. */
  get serverTiming (): string {
    this.#countHits()
    const metrics = [`cache-local;desc="${this.local}"`]
    for (const { name, found, milliseconds } of this.#tiers ?? []) metrics.push(`cache-${name};desc="${found}";dur=${milliseconds.toFixed(2)}`)
    if (this.#loaded > 0) metrics.push(`cache-load;desc="${this.#loaded} in ${this.#loads}";dur=${this.#loadMilliseconds.toFixed(2)}`)
    if (this.#waited > 0) metrics.push(`cache-waited;desc="${this.#waited}"`)
    if (this.#stale > 0) metrics.push(`cache-stale;desc="${this.#stale}"`)
    return metrics.join(', ')
  }

  #tier (path: ReadPath, place: number): TierCount {
    if (path === this.#lastPath && place === this.#lastPlace) return this.#lastTier!
    this.#lastPath = path
    this.#lastPlace = place
    return (this.#lastTier = this.#find(path.tiers[place]!.name))
  }

  #find (name: string): TierCount {
    const tiers = this.#tiers ??= []
    let tier = tiers.find(tier => tier.name === name)
    if (tier === undefined) tiers.push(tier = { name, found: 0, milliseconds: 0 })
    return tier
  }

  #isNew (counted: Trip | LoadCall): boolean {
    const known = this.#counted ??= new Set()
    if (known.has(counted)) return false
    known.add(counted)
    return true
  }
}
