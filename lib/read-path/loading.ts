import type { Changes } from './changes.js'
import type { Coherence } from '../coherence/coherence.js'
import type { Elected } from '../dogpile/elected.js'
import type { Outcome } from '../dogpile/news.js'
import type { Fill, Primable } from './fill.js'
import type { Flight } from './flight.js'
import type { FlightsUnderWay } from './flights-under-way.js'
import type { Keyspace } from '../keys.js'
import { Landed } from './landed.js'
import { LoadCall, type Outside } from './load-call.js'
import type { Loaded, Primed, Source } from './source.js'
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
  /** One connection carries the write-back, the news of it, and the release of the lock, in the order in which they are sent. */
  isInOrder: boolean
  /** Whether flights of this tick have not departed yet. */
  isBatchWaiting: () => boolean
  /** Is told of work that goes on when its caller has its value, so that closing waits for it. */
  track: <T>(work: Promise<T>) => Promise<T>
}

/** What a call of a loader leaves to be done when its waiters have their values. */
interface WriteBack {
  readonly flights: readonly Flight[]
  /** How each of them has ended. */
  readonly outcomes: readonly Outcome[]
  /** Lands the flights that are refreshes. */
  readonly refreshed: readonly (() => void)[]
  readonly primed: readonly Primable[]
  readonly elected: Elected | undefined
}

/** Calls loaders. What they give goes to the waiters, then into the tiers, and then other processes hear that it is there. */
export class Loading {
  readonly #options: LoadingOptions
  /** Starts the write-back of what waiters have got already. */
  readonly #unwritten = new Set<() => void>()

  constructor (options: LoadingOptions) {
    this.#options = options
  }

  get hasUnwritten (): boolean {
    return this.#unwritten.size > 0
  }

  /** Starts what is still to be written back, so that what this process does next is done after it. */
  writeBack (): void {
    for (const start of this.#unwritten) start()
  }

  /** Resolves when what was loaded is in the tiers, or on its way to them before whatever is sent next. */
  async call (source: Source, flights: readonly Flight[], elected: Elected | undefined): Promise<void> {
    const { fill, flights: underWay, leaseTtl, outside } = this.#options
    const call = new LoadCall(flights)
    // A call that never ends outlives its leases and its lock: others may load again, and nothing of it is kept any more.
    const lasting = setTimeout(() => { for (const flight of flights) underWay.abandon(flight) }, leaseTtl).unref()
    let loaded: readonly Loaded[]
    try {
      loaded = await outside.runCall(call, () => source.load(flights.map(flight => flight.want.arg)))
    } catch (error) {
      loaded = flights.map(() => ({ error }))
    }
    clearTimeout(lasting)

    const refreshed: (() => void)[] = []
    const outcomes = flights.map((flight, i) => this.#takeLoaded(flight, loaded[i]!, call, refreshed))
    const primed = fill.primeLocals(flights.flatMap((flight, i) => primedBy(loaded[i]!).map(prime => ({ flight, prime }))))
    await this.#afterCallers(elected, () => this.#writeBack({ flights, outcomes, refreshed, primed, elected }))
  }

  /** Gives a flight what its loader gave. `refreshed`: gets what is left to be done when that has been written. */
  #takeLoaded (flight: Flight, loaded: Loaded, call: LoadCall, refreshed: (() => void)[]): Outcome {
    const { fill, flights, stale } = this.#options
    const admitted = 'error' in loaded ? loaded : fill.admit(flight, loaded)
    if ('error' in admitted) {
      stale.fail(flight, admitted.error)
      return { kind: 'failed', error: admitted.error }
    }
    flight.loaded = true
    const landed = new Landed({ shared: admitted, origin: 'loaded', stale: false, call, trip: flight.trip, primed: 'primed' in loaded ? loaded.primed : undefined })
    if (flight.want.isRefresh) refreshed.push(() => flight.land(landed))
    else {
      if (flight.entry === undefined) flights.detach(flight) // a value that isn't kept is for those who wait already
      flight.land(landed)
    }
    return flight.entry === undefined ? unshared : done
  }

  /**
   * Callers first: to serialise the values and to send them would take longer than the rest of the callers' way. What they
   * want next departs first as well: it joins what was loaded, or else has it written before. The write-back comes first only
   * where another process may wait for the news, or where a tier doesn't refuse what comes too late.
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

  /** Into the tiers, then the news, and then the caller releases the lock: who hears the news has to find the value. */
  async #writeBack ({ flights, outcomes, refreshed, primed, elected }: WriteBack): Promise<void> {
    const { changes, fill, flights: underWay, isInOrder, track } = this.#options
    const written = track(changes.write(flights.filter((_, i) => outcomes[i]!.kind !== 'failed')))
    // A refresh replaces: it lands when nobody finds the old value any more.
    if (refreshed.length > 0) void written.then(() => { for (const land of refreshed) land() })
    if (primed.length > 0) void track(fill.prime(primed))
    void track(written.finally(() => flights.forEach(flight => underWay.end(flight))))
    if (elected === undefined || !isInOrder) await written
    if (elected === undefined) return
    const announced = track(this.#announce(elected, flights, outcomes.map((outcome, i) => toldOf(flights[i]!, outcome))))
    if (!isInOrder) await announced
  }

  /** One message for each way in which loads have ended. */
  async #announce (elected: Elected, flights: readonly Flight[], outcomes: readonly Outcome[]): Promise<void> {
    const groups = new Map<unknown, { outcome: Outcome, names: string[] }>()
    for (const [i, outcome] of outcomes.entries()) {
      const group = outcome.kind === 'failed' ? outcome.error : outcome
      const { names } = groups.get(group) ?? groups.set(group, { outcome, names: [] }).get(group)!
      names.push(this.#options.keyspace.lock(flights[i]!.key))
    }
    await Promise.all([...groups.values()].map(({ outcome, names }) => elected.announce(names, outcome)))
  }
}

const done: Outcome = { kind: 'done' }
const unshared: Outcome = { kind: 'unshared' }

/** The outcome that followers in other processes are told. `done`: they look, and where they find nothing, one of them loads. */
function toldOf (flight: Flight, outcome: Outcome): Outcome {
  if (flight.revoked) return done // its followers came after the invalidation: one of them must load anew
  // Some followers may have come after an invalidation of a tag, or a soft one: they may use its value, but not its failure.
  if (flight.overtaken && outcome.kind === 'failed') return done
  return flight.unshared ? unshared : outcome
}

const primedBy = (loaded: Loaded): readonly Primed[] => ('error' in loaded ? undefined : loaded.primed) ?? noPrimed
const noPrimed: readonly Primed[] = []
