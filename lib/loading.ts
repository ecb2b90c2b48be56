import type { Changes } from './changes.js'
import type { Coherence } from './coherence/coherence.js'
import type { Elected } from './dogpile/elected.js'
import type { Outcome } from './dogpile/news.js'
import type { Fill } from './fill.js'
import type { Flight } from './flight.js'
import { Landed } from './landed.js'
import type { Loaded, Primed, Source } from './source.js'
import type { FlightsUnderWay } from './flights-under-way.js'
import type { Keyspace } from './keys.js'
import { LoadCall, type Outside } from './load-call.js'
import type { StaleValues } from './stale-values.js'

export interface LoadingOptions {
  keyspace: Keyspace
  flights: FlightsUnderWay
  stale: StaleValues
  fill: Fill
  changes: Changes
  coherence: Coherence | undefined
  outside: Outside
  /** The longest that a load may take and be kept. Milliseconds. */
  leaseTtl: number
  /** There are shared tiers, and each of them refuses a fill that comes too late. */
  isFenced: boolean
  /** One connection carries what is written back, the news of it, and the release of the lock, in their order. */
  isInOrder: boolean
  /** Whether somebody wants something that has not departed yet. */
  isBatchWaiting: () => boolean
  /** Has what goes on after its caller has what he wants waited for, when the region is closed. */
  track: <T>(work: Promise<T>) => Promise<T>
}

/** Calls loaders: what they give goes to those who wait for it, then into the tiers, and then others hear that it is there. */
export class Loading {
  readonly #options: LoadingOptions
  /** What callers have already, and the tiers are about to get. */
  readonly #unwritten = new Set<() => void>()

  constructor (options: LoadingOptions) {
    this.#options = options
  }

  get hasUnwritten (): boolean {
    return this.#unwritten.size > 0
  }

  /** What this process does next, others have to find done after what it has loaded. */
  writeBack (): void {
    for (const start of this.#unwritten) start()
  }

  /** Resolves when what was loaded is in the tiers, or on its way to them before all that is sent next. */
  async call (source: Source, flights: readonly Flight[], elected: Elected | undefined): Promise<void> {
    const { changes, fill, flights: underWay, isInOrder, leaseTtl, outside, track } = this.#options
    const call = new LoadCall(flights)
    // If it never ends, its lease and its lock do: then somebody else may try, and nothing of it is kept any more.
    const lasting = setTimeout(() => { for (const flight of flights) underWay.abandon(flight) }, leaseTtl).unref()
    let loaded: readonly Loaded[]
    try {
      loaded = await outside.runCall(call, () => source.load(flights.map(flight => flight.want.arg)))
    } catch (error) {
      loaded = flights.map(() => ({ error }))
    }
    clearTimeout(lasting)

    const refreshed: (() => void)[] = []
    const outcomes = flights.map((flight, i) => this.#bring(flight, loaded[i]!, call, refreshed))
    const primed = fill.primeLocals(flights.flatMap((flight, i) => primedBy(loaded[i]!).map(prime => ({ flight, prime }))))
    await this.#afterCallers(elected, async () => {
      const written = track(changes.write(flights.filter((_, i) => outcomes[i]!.kind !== 'failed')))
      // A refresh replaces: whoever asked for it knows that nobody finds the old value any more.
      if (refreshed.length > 0) void written.then(() => { for (const land of refreshed) land() })
      if (primed.length > 0) void track(fill.prime(primed))
      void track(written.finally(() => flights.forEach(flight => underWay.end(flight))))
      if (elected === undefined || !isInOrder) await written
      if (elected === undefined) return
      const announced = track(this.#announce(elected, flights, outcomes.map((outcome, i) => newsOf(flights[i]!, outcome))))
      if (!isInOrder) await announced // the lock is released next
    })
  }

  /** Gives a flight what its loader gave. `refreshed`: what is left to be done when it has been written. */
  #bring (flight: Flight, loaded: Loaded, call: LoadCall, refreshed: (() => void)[]): Outcome {
    const { fill, flights, stale } = this.#options
    const admitted = 'error' in loaded ? loaded : fill.admit(flight, loaded)
    if ('error' in admitted) {
      stale.fail(flight, admitted.error)
      return { kind: 'failed', error: admitted.error }
    }
    flight.loaded = true
    const landed = new Landed({ shared: admitted, origin: 'loaded', stale: false, call, trip: flight.trip, primed: 'primed' in loaded ? loaded.primed : undefined })
    if (flight.want.anew) refreshed.push(() => flight.land(landed))
    else {
      if (flight.entry === undefined) flights.detach(flight) // what it gives is for who waits already
      flight.land(landed)
    }
    return flight.entry === undefined ? unshared : done
  }

  /**
   * Callers first: to serialise what is written back, and to send it, would take them longer than the rest of their way. What
   * they want next departs first as well: it joins what was loaded, or else has it written before. But nobody in another process
   * waits for the callers of this one, and a tier that refuses nothing must not get it later than it has to.
   */
  async #afterCallers (elected: Elected | undefined, work: () => Promise<void>): Promise<void> {
    const { coherence, isBatchWaiting, isFenced } = this.#options
    const mayBeAwaited = elected !== undefined && coherence?.alone !== true
    if (mayBeAwaited || !isFenced) return await work()
    await new Promise<void>(resolve => {
      const start = () => { if (this.#unwritten.delete(start)) resolve(work()) }
      this.#unwritten.add(start)
      process.nextTick(() => {
        if (isBatchWaiting()) process.nextTick(start)
        else start()
      })
    })
  }

  /** One message for each way that it ended. */
  async #announce (elected: Elected, flights: readonly Flight[], outcomes: readonly Outcome[]): Promise<void> {
    const groups = new Map<unknown, { outcome: Outcome, names: string[] }>()
    for (const [i, outcome] of outcomes.entries()) {
      const group = outcome.kind === 'failed' ? outcome.error : outcome.kind
      const { names } = groups.get(group) ?? groups.set(group, { outcome, names: [] }).get(group)!
      names.push(this.#options.keyspace.lock(flights[i]!.key))
    }
    await Promise.all([...groups.values()].map(({ outcome, names }) => elected.announce(names, outcome)))
  }
}

const done: Outcome = { kind: 'done' }
const unshared: Outcome = { kind: 'unshared' }

/** What others are told of a load's outcome. */
function newsOf (flight: Flight, outcome: Outcome): Outcome {
  if (flight.revoked) return done // who waits now came after the invalidation: nothing of this is theirs
  // Who came after an invalidation of a tag, or a soft one, waits with those who came before: the value may do for him, the failure doesn't.
  if (flight.overtaken && outcome.kind === 'failed') return done
  return flight.unshared ? unshared : outcome
}

const primedBy = (loaded: Loaded): readonly Primed[] => ('error' in loaded ? undefined : loaded.primed) ?? noPrimed
const noPrimed: readonly Primed[] = []
