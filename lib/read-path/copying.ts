import type { Entry } from '../entry.js'
import type { Flight } from './flight.js'
import { LocalTier } from '../tiers/local-tier.js'
import type { SharedTier } from '../tiers/shared-tier.js'

/** Copies what was found in one tier into the nearer ones: into a shared one together with whatever the same answer has brought. */
export class Copying {
  readonly #tiers: readonly (LocalTier | SharedTier)[]
  readonly #track: (work: Promise<void>) => Promise<void>
  /** Keys to be copied at the end of this tick's jobs. */
  readonly #waiting: { readonly from: number, readonly to: SharedTier, readonly keys: Set<string> }[] = []

  /** `track` is told of copies: they go on when the reader has its value. */
  constructor (tiers: readonly (LocalTier | SharedTier)[], track: (work: Promise<void>) => Promise<void>) {
    this.#tiers = tiers
    this.#track = track
  }

  /** `entry`: what the flight has found in the tier at `tierIndex`. */
  copyNearer (flight: Flight, entry: Entry, tierIndex: number): void {
    if (flight.revoked) return
    for (let nearer = 0; nearer < tierIndex; nearer++) {
      const tier = this.#tiers[nearer]!
      if (tier instanceof LocalTier) tier.set(flight.key, entry, flight.generation)
      else this.#later(flight.key, tierIndex, tier)
    }
  }

  #later (key: string, from: number, to: SharedTier): void {
    if (this.#waiting.length === 0) queueMicrotask(this.#start)
    let waiting = this.#waiting.find(one => one.from === from && one.to === to)
    if (waiting === undefined) this.#waiting.push(waiting = { from, to, keys: new Set() })
    waiting.keys.add(key)
  }

  readonly #start = (): void => {
    for (const { from, to, keys } of this.#waiting.splice(0)) void this.#track(to.copyMany([...keys], async keys => await this.#read(from, keys)))
  }

  async #read (tierIndex: number, keys: readonly string[]): Promise<(Entry | undefined)[]> {
    const tier = this.#tiers[tierIndex]!
    return tier instanceof LocalTier ? keys.map(key => tier.get(key)) : await tier.readMany(keys)
  }
}
