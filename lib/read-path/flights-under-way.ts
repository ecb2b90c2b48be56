import type { Flight, Revocation } from './flight.js'
import { TransientMap } from './transient-map.js'

/** The flights of a region in this process, and what an invalidation does to them. */
export class FlightsUnderWay {
  /** By key: those that may be joined, one at most. */
  readonly #joinable = new TransientMap<Flight>()
  /** By key: those that nobody may join, or not everybody. Invalidations must reach them all the same. */
  readonly #unjoinable = new Map<string, Set<Flight>>()

  /** The flight of a key that may be joined. */
  get (key: string): Flight | undefined {
    return this.#joinable.get(key)
  }

  /** All flights of a key. */
  of (key: string): readonly Flight[] {
    const joinable = this.#joinable.get(key)
    const unjoinable = this.#unjoinable.get(key) ?? []
    return joinable === undefined ? [...unjoinable] : [joinable, ...unjoinable]
  }

  /** Whether a flight of the key has been loaded, so that it may be on its way into the tiers. */
  isLoaded (key: string): boolean {
    if (this.#joinable.get(key)?.loaded === true) return true
    for (const flight of this.#unjoinable.get(key) ?? []) if (flight.loaded) return true
    return false
  }

  /** For a key that has no flight that may be joined. */
  addJoinable (flight: Flight): void {
    flight.node = this.#joinable.add(flight.key, flight)
  }

  /** Makes a flight that was not joinable the one of its key that is, in place of any other. */
  makeJoinable (flight: Flight): void {
    const other = this.#joinable.get(flight.key)
    if (other !== undefined) {
      this.#removeJoinable(other)
      this.addUnjoinable(other)
    }
    this.#removeUnjoinable(flight)
    this.addJoinable(flight)
  }

  addUnjoinable (flight: Flight): void {
    const others = this.#unjoinable.get(flight.key)
    if (others === undefined) this.#unjoinable.set(flight.key, new Set([flight]))
    else others.add(flight)
  }

  end (flight: Flight): void {
    if (this.#unjoinable.size > 0) this.#removeUnjoinable(flight)
    this.#removeJoinable(flight)
  }

  #removeUnjoinable (flight: Flight): void {
    const flights = this.#unjoinable.get(flight.key)
    if (flights?.delete(flight) === true && flights.size === 0) this.#unjoinable.delete(flight.key)
  }

  #removeJoinable ({ node }: Flight): void {
    if (node?.value !== undefined) this.#joinable.remove(node)
  }

  /** Ends a flight that goes on: since no invalidation reaches it from now on, nothing of it is kept. */
  abandon (flight: Flight): void {
    flight.abandoned = true
    flight.revoke('invalidation')
    this.end(flight)
  }

  // ─── invalidations ─────────────────────────────────────────────────────────────────────────────

  /** Later readers don't join it. */
  detach (flight: Flight): void {
    flight.detached = true
    this.#removeJoinable(flight)
    this.addUnjoinable(flight)
  }

  /**
   * The region was invalidated, or anything may have been; with `tags` only these. A flight that has not departed, and carries no
   * stale value, is left alone: it will look, and load, after the invalidation.
   */
  detachAll (tags?: readonly string[]): void {
    for (const flight of [...this.#joinable.values()]) if (flight.departed || flight.stale !== undefined) this.detach(flight)
    for (const flight of this.#allUnjoinable()) {
      flight.detached ||= flight.departed || flight.stale !== undefined
      flight.overtaken = true
      flight.swept ||= flight.entry !== undefined && (tags === undefined || flight.entry.tags.some(tag => tags.includes(tag)))
    }
  }

  /** The key was invalidated or replaced: nothing of its flights is kept, and later readers don't join them. */
  revoke (key: string, by: Revocation): void {
    const flight = this.#joinable.get(key)
    if (flight !== undefined) this.detach(flight)
    for (const flight of this.#unjoinable.get(key) ?? []) flight.revoke(by)
  }

  revokeAll (): void {
    this.detachAll()
    for (const flight of this.#allUnjoinable()) flight.revoke('invalidation')
  }

  /**
   * Tells other processes not to wait for loads that were overtaken: they wouldn't find the value in a tier. `keys`: of no
   * others, since thousands of sets may be under way, each of which would go through all of them.
   */
  yieldRevoked (keys?: readonly string[]): void {
    const flights = keys === undefined ? this.#allUnjoinable() : keys.flatMap(key => this.of(key))
    for (const flight of flights) if (flight.revoked) flight.yield?.()
  }

  * #allUnjoinable (): Generator<Flight> {
    for (const flights of this.#unjoinable.values()) yield * flights
  }
}
