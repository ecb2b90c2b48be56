import { isFresh } from '../entry.js'
import type { Flight } from './flight.js'
import type { FlightsUnderWay } from './flights-under-way.js'
import type { StaleValues } from './stale-values.js'
import type { Want } from './want.js'

export interface JoiningOptions {
  flights: FlightsUnderWay
  stale: StaleValues
  /** Whether this process would know of every invalidation that is over. */
  isTrusted: () => boolean
  now: () => number
}

/** Which flight of a key a reader may join, and which of several flights loads. */
export class Joining {
  readonly #flights: FlightsUnderWay
  readonly #stale: StaleValues
  readonly #isTrusted: () => boolean
  readonly #now: () => number

  constructor ({ flights, stale, isTrusted, now }: JoiningOptions) {
    this.#flights = flights
    this.#stale = stale
    this.#isTrusted = isTrusted
    this.#now = now
  }

  /** Whether a reader gets what it wants from this flight. */
  isJoinable (flight: Flight, want: Want): boolean {
    return this.#suffices(flight, want) && this.isCurrent(flight)
  }

  #suffices (flight: Flight, want: Want): boolean {
    if (flight.gaveUp && !this.#stale.has(flight)) return false // another process may have filled a tier: look there first
    if (want.isRefresh) return false
    // A flight that only looks is of no use to a reader that loads; the reverse holds until the value is there.
    if (want.load === undefined) return flight.loaded && this.#suits(flight, want)
    // While it looks, another `maxAge` may not be content with what it finds.
    return (flight.loading || flight.want.maxAge === want.maxAge) && this.#suits(flight, want)
  }

  /** Whether the value that the flight has, if any, is young enough. */
  #suits ({ loaded, entry, stale, want: { maxAge } }: Flight, want: Want): boolean {
    if (loaded) return want.maxAge === undefined && entry !== undefined && isFresh(entry, this.#now(), undefined)
    return stale === undefined || (maxAge === want.maxAge && this.#stale.isServable(stale.entry, want))
  }

  /** Nothing can have been invalidated, unheard, since it took off, or since what it brings from memory was believed. */
  isCurrent (flight: Flight): boolean {
    return (!flight.departed && flight.stale === undefined) || this.#isTrusted()
  }

  /** Makes the flight the one that loads its key. False: it is left to the one that does, or has ended. */
  takeLead (flight: Flight): boolean {
    if (flight.landed && this.#stale.isPaused(flight.key)) {
      this.#flights.end(flight)
      return false
    }
    const other = flight.joinable ? flight : this.#flights.get(flight.key)
    if (other !== undefined && other !== flight && this.#loadsFor(other, flight)) {
      this.#leaveTo(other, flight)
      return false
    }
    flight.loading = true
    // Not if it was detached: later readers may have begun after an invalidation that it doesn't know of.
    if (other !== flight && !flight.detached && this.isCurrent(flight)) this.#flights.makeJoinable(flight)
    return true
  }

  /** Whether what `other` loads is new enough for `flight`, and no loader would come to wait for itself. */
  #loadsFor (other: Flight, flight: Flight): boolean {
    return other.loading && !flight.revoked && (!other.loaded || this.#suits(other, flight.want)) && !flight.isWaitedForBy(flight.key)
  }

  /**
   * One flight for each key. Several are under way where an invalidation has come in between; what is loaded now is new
   * enough for all of them.
   */
  oneForEachKey (flights: readonly Flight[]): readonly Flight[] {
    if (flights.every(flight => flight.joinable)) return flights
    // The newest: the stale value of an older one may be from before the invalidation.
    const leading = new Map(flights.map(flight => [flight.key, flight]))
    if (leading.size === flights.length) return flights
    for (const flight of flights) {
      const other = leading.get(flight.key)!
      if (other !== flight) this.#leaveTo(other, flight)
    }
    return [...leading.values()]
  }

  #leaveTo (other: Flight, flight: Flight): void {
    this.#flights.end(flight)
    if (flight.landed) return
    if (this.#stale.has(flight)) return this.#stale.land(flight)
    other.alsoFor(flight.want.maxAge)
    for (const loader of flight.loaders) loader.await(other)
    if (other.gaveUp && !other.over) this.#stale.waitBehind(other, flight)
    else other.join(flight, this.#suits(other, flight.want))
  }
}
