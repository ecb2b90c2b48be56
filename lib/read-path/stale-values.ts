import { LRUCache } from 'lru-cache'
import { freshness, type Entry } from '../entry.js'
import { LoadTimeoutError } from '../errors.js'
import type { Flight } from './flight.js'
import type { FlightsUnderWay } from './flights-under-way.js'
import { Landed, type Waiter } from './landed.js'
import type { Logger } from '../logger.js'
import type { ResolvedRegionOptions } from '../region-options.js'
import { nameOf, type Want } from './want.js'

export interface StaleValuesOptions {
  region: string
  options: Pick<ResolvedRegionOptions, 'refresh' | 'softTimeout' | 'hardTimeout'>
  flights: FlightsUnderWay
  logger: Pick<Logger, 'warn'>
  now: () => number
}

/** After a reload that failed, the stale value is served this long before the next try. Milliseconds. */
const pauseAfterFailure = 1000
/** While another process reloads, the stale value is served this long without asking again. Milliseconds. */
const pauseAfterDefeat = 100

/**
 * Values in their grace, which are served while they are reloaded, and when that fails or takes too long
 * (`stale-while-revalidate` and `stale-if-error` of RFC 5861).
 */
export class StaleValues {
  readonly #options: StaleValuesOptions['options']
  readonly #region: string
  readonly #flights: FlightsUnderWay
  readonly #logger: StaleValuesOptions['logger']
  readonly #now: () => number
  readonly #pausedUntil = new LRUCache<string, number>({ max: 10_000 })

  constructor ({ region, options, flights, logger, now }: StaleValuesOptions) {
    this.#region = region
    this.#options = options
    this.#flights = flights
    this.#logger = logger
    this.#now = now
  }

  /** Whether the entry may still be served, fresh or stale. */
  isServable (entry: Entry, { maxAge }: Want): boolean {
    return freshness(entry, this.#now(), maxAge) !== 'gone'
  }

  /** Whether the flight has a value that may be served instead of what it loads. */
  has ({ stale, want }: Flight): boolean {
    return stale !== undefined && this.isServable(stale.entry, want)
  }

  /** Serves the stale value of a flight that is about to load: to all its waiters, or to all but the first. */
  serve (flight: Flight): void {
    if (!this.has(flight)) return
    if (this.#options.refresh === 'background' || this.isPaused(flight.key)) this.land(flight)
    else flight.landOthers(landedWith(flight))
  }

  land (flight: Flight): void {
    flight.land(landedWith(flight))
  }

  /** Ends a flight whose key another process reloads, if its stale value serves all its waiters. False: they must wait. */
  endIfServed (flight: Flight): boolean {
    if (!this.has(flight)) return false
    this.#pause(flight.key, pauseAfterDefeat)
    if (!flight.landed) this.land(flight)
    if (flight.hasPatientWaiters) return false
    this.#flights.end(flight)
    return true
  }

  /** Ends a flight that has failed. Its waiters get the stale value, if that will do for them. */
  fail (flight: Flight, error: unknown): void {
    this.#flights.end(flight)
    if (this.has(flight)) {
      this.#logger.warn({ region: this.#region, key: flight.key, err: error }, 'a reload failed: the stale value is served')
      this.#pause(flight.key, pauseAfterFailure)
      if (!flight.landed) this.land(flight)
    }
    flight.fail(error)
  }

  /** Whether the key is not to be reloaded just now. */
  isPaused (key: string): boolean {
    const until = this.#pausedUntil.size === 0 ? undefined : this.#pausedUntil.get(key)
    return until !== undefined && this.#now() < until
  }

  /** Serves stale values after `softTimeout`, and fails the waiters after `hardTimeout`. Call what it returns when all is loaded. */
  armTimeouts (flights: readonly Flight[]): () => void {
    const { softTimeout, hardTimeout } = this.#options
    if (softTimeout === undefined && hardTimeout === undefined) return () => {}
    const serve = (flight: Flight): void => { if (!flight.landed && this.has(flight)) this.land(flight) }
    const soft = softTimeout === undefined ? undefined : setTimeout(() => flights.forEach(serve), softTimeout)
    const hard = hardTimeout === undefined
      ? undefined
      : setTimeout(() => {
        for (const flight of flights) {
          if (flight.loaded || flight.over) continue
          serve(flight)
          flight.giveUp(new LoadTimeoutError(nameOf(flight.want), hardTimeout)) // for waiters that got nothing stale
        }
      }, hardTimeout)
    return () => {
      clearTimeout(soft)
      clearTimeout(hard)
    }
  }

  /**
   * `other` has given up on its waiters after `hardTimeout`, and still loads. `flight`, which took off since, waits for that load
   * as long as they did, and fails then.
   */
  waitBehind (other: Flight, flight: Flight): void {
    const hardTimeout = this.#options.hardTimeout!
    const timer = setTimeout(() => {
      other.leave(waiting)
      flight.fail(new LoadTimeoutError(nameOf(flight.want), hardTimeout))
    }, hardTimeout)
    const waiting: Waiter = {
      land: landed => { clearTimeout(timer); flight.land(landed) },
      fail: error => { clearTimeout(timer); flight.fail(error) }
    }
    other.join(waiting, false)
  }

  #pause (key: string, milliseconds: number): void {
    this.#pausedUntil.set(key, this.#now() + milliseconds)
  }
}

const landedWith = ({ stale, trip }: Flight): Landed => new Landed({ shared: stale!.entry, origin: stale!.origin, stale: true, trip })
