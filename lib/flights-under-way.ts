import type { Flight, Revocation } from './flight.js'
import { TransientMap } from './transient-map.js'

/** The flights of a region in this process, and what an invalidation does to them. */
export class FlightsUnderWay {
  /** By key: those that may be joined. */
  readonly #joinable = new TransientMap<Flight>()
  /** By key: those that may not be joined, or not by everybody, but must hear of invalidations all the same. */
  readonly #strays = new Map<string, Set<Flight>>()

  /** The one that may be joined. */
  get (key: string): Flight | undefined {
    return this.#joinable.get(key)
  }

  /** All of a key. */
  of (key: string): readonly Flight[] {
    const [joinable, strays] = [this.#joinable.get(key), this.#strays.get(key)]
    return [...joinable === undefined ? [] : [joinable], ...strays ?? []]
  }

  /** Whether one of them has been loaded: it may be on its way into the tiers. */
  isLoaded (key: string): boolean {
    if (this.#joinable.get(key)?.loaded === true) return true
    for (const stray of this.#strays.get(key) ?? []) if (stray.loaded) return true
    return false
  }

  /** Of a key that has none that may be joined. */
  add (flight: Flight): void {
    flight.place = this.#joinable.add(flight.key, flight)
  }

  /** From now on it is the one that may be joined; another one that was, is a stray. */
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

  /** It may be joined no more. */
  #ground ({ place }: Flight): void {
    if (place?.value !== undefined) this.#joinable.remove(place)
  }

  /** No invalidation reaches it from now on, so nothing of it is kept. */
  abandon (flight: Flight): void {
    flight.abandoned = true
    flight.revoke('invalidation')
    this.end(flight)
  }

  /** No later reader joins it. */
  detach (flight: Flight): void {
    flight.detached = true
    this.#ground(flight)
    this.stray(flight)
  }

  /** With `tags`: since these, and no others, were invalidated. What hasn't departed yet, and carries nothing, will look, and load, after that. */
  detachAll (tags?: readonly string[]): void {
    for (const flight of [...this.#joinable.values()]) if (flight.departed || flight.stale !== undefined) this.detach(flight)
    for (const stray of this.#allStrays()) {
      stray.detached ||= stray.departed || stray.stale !== undefined
      stray.overtaken = true
      stray.swept ||= stray.entry?.tags.some(tag => tags === undefined || tags.includes(tag)) === true
    }
  }

  /** Nor is anything of it kept: the key was invalidated or replaced. */
  revoke (key: string, by: Revocation): void {
    const flight = this.#joinable.get(key)
    if (flight !== undefined) this.detach(flight)
    for (const stray of this.#strays.get(key) ?? []) stray.revoke(by)
  }

  revokeAll (): void {
    this.detachAll()
    for (const stray of this.#allStrays()) stray.revoke('invalidation')
  }

  /** Nobody needs to wait any more for a load that was overtaken: its value won't be found in a tier. */
  yieldRevoked (): void {
    for (const stray of this.#allStrays()) if (stray.revoked) stray.yield?.()
  }

  * #allStrays (): Generator<Flight> {
    for (const strays of this.#strays.values()) yield * strays
  }
}
