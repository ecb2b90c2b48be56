import type { Flight, Revocation } from './flight.js'
import { TransientMap } from './transient-map.js'

/** The flights of a region in this process, and what an invalidation does to them. */
export class FlightsUnderWay {
  /** By key: those that may be joined, one at most. */
  readonly #joinable = new TransientMap<Flight>()
  /** By key: those that nobody may join, or not everybody. Invalidations must reach them all the same. */
  readonly #strays = new Map<string, Set<Flight>>()

  /** The flight of a key that may be joined. */
  get (key: string): Flight | undefined {
    return this.#joinable.get(key)
  }

  /** All flights of a key. */
  of (key: string): readonly Flight[] {
    const [joinable, strays] = [this.#joinable.get(key), this.#strays.get(key)]
    return [...joinable === undefined ? [] : [joinable], ...strays ?? []]
  }

  /** Whether a flight of the key has been loaded, so that it may be on its way into the tiers. */
  isLoaded (key: string): boolean {
    if (this.#joinable.get(key)?.loaded === true) return true
    for (const stray of this.#strays.get(key) ?? []) if (stray.loaded) return true
    return false
  }

  /** For a key that has no flight that may be joined. */
  add (flight: Flight): void {
    flight.place = this.#joinable.add(flight.key, flight)
  }

  /** Makes a stray the flight that may be joined. Another one that was, becomes a stray. */
  lead (flight: Flight): void {
    const other = this.#joinable.get(flight.key)
    if (other !== undefined) {
      this.#ground(other)
      this.stray(other)
    }
    this.#unstray(flight)
    this.add(flight)
  }

  stray (flight: Flight): void {
    const others = this.#strays.get(flight.key)
    if (others === undefined) this.#strays.set(flight.key, new Set([flight]))
    else others.add(flight)
  }

  end (flight: Flight): void {
    if (this.#strays.size > 0) this.#unstray(flight)
    this.#ground(flight)
  }

  #unstray (flight: Flight): void {
    const strays = this.#strays.get(flight.key)
    if (strays?.delete(flight) === true && strays.size === 0) this.#strays.delete(flight.key)
  }

  #ground ({ place }: Flight): void {
    if (place?.value !== undefined) this.#joinable.remove(place)
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
    this.#ground(flight)
    this.stray(flight)
  }

  /**
   * The region was invalidated, or with `tags` only these. A flight that has not departed, and carries no stale value, is left
   * alone: it will look, and load, after the invalidation.
   */
  detachAll (tags?: readonly string[]): void {
    for (const flight of [...this.#joinable.values()]) if (flight.departed || flight.stale !== undefined) this.detach(flight)
    for (const stray of this.#allStrays()) {
      stray.detached ||= stray.departed || stray.stale !== undefined
      stray.overtaken = true
      stray.swept ||= stray.entry?.tags.some(tag => tags === undefined || tags.includes(tag)) === true
    }
  }

  /** The key was invalidated or replaced: nothing of its flights is kept, and later readers don't join them. */
  revoke (key: string, by: Revocation): void {
    const flight = this.#joinable.get(key)
    if (flight !== undefined) this.detach(flight)
    for (const stray of this.#strays.get(key) ?? []) stray.revoke(by)
  }

  revokeAll (): void {
    this.detachAll()
    for (const stray of this.#allStrays()) stray.revoke('invalidation')
  }

  /** Tells other processes not to wait for loads that were overtaken: they wouldn't find the value in a tier. */
  yieldRevoked (): void {
    for (const stray of this.#allStrays()) if (stray.revoked) stray.yield?.()
  }

  * #allStrays (): Generator<Flight> {
    for (const strays of this.#strays.values()) yield * strays
  }
}
