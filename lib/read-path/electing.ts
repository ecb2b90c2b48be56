import type { Dogpile } from '../dogpile/dogpile.js'
import type { Elected } from '../dogpile/elected.js'
import type { Flight } from './flight.js'
import type { Joining } from './joining.js'
import type { Keyspace } from '../keys.js'
import type { Loading } from './loading.js'
import type { Looking } from './looking.js'
import type { Source } from './source.js'
import type { StaleValues } from './stale-values.js'
import type { Generation } from '../backends/backend.js'
import type { LocalTier } from '../tiers/local-tier.js'
import type { Claim } from '../tiers/lease.js'
import { SharedTier } from '../tiers/shared-tier.js'

export interface ElectingOptions {
  keyspace: Keyspace
  tiers: readonly (LocalTier | SharedTier)[]
  /** Undefined: every process loads what it misses. */
  dogpile: Dogpile | undefined
  joining: Joining
  stale: StaleValues
  looking: Looking
  loading: Loading
  /** That of the memory tiers, as it is now. */
  generation: () => Generation | undefined
  /** How long a claim holds. Milliseconds. */
  leaseTtl: number
  /** One connection carries the tier's commands and the lock's: they arrive in the order in which they were sent. */
  isLockInOrder: boolean
  /** Is told of work that may outlive its caller, so that closing waits for it. */
  track: <T>(work: Promise<T>) => Promise<T>
}

/** For each shared tier, what was claimed of each flight. 'seen': what the flights have seen on their way is enough. */
type Claims = readonly (readonly Claim[])[] | 'seen'

/** What is missing is loaded: here, or by another process that was elected. */
export class Electing {
  readonly #options: ElectingOptions
  readonly #shared: readonly SharedTier[]
  /** The indexes of the shared tiers among all. */
  readonly #tierIndexes: readonly number[]

  constructor (options: ElectingOptions) {
    this.#options = options
    this.#shared = options.tiers.filter(tier => tier instanceof SharedTier)
    this.#tierIndexes = this.#shared.map(tier => options.tiers.indexOf(tier))
  }

  /** Resolves when each flight has landed, and what was loaded here is on its way into the tiers. */
  async load (flights: readonly Flight[]): Promise<void> {
    if (flights.length === 0) return
    const { joining, stale } = this.#options
    const disarm = stale.armTimeouts(flights)
    const refreshes = flights.filter(flight => flight.want.isRefresh)
    // No other process can use what is revoked already, and a newer flight of its key may be in the election.
    const revoked = flights.filter(flight => !flight.want.isRefresh && flight.revoked)
    const others = joining.oneForEachKey(flights.filter(flight => !flight.want.isRefresh && !flight.revoked))
    // Where no tier answers, no process could see what another one has loaded.
    const dogpile = this.#shared.every(tier => tier.away) ? undefined : this.#options.dogpile
    await Promise.all([
      this.#lead(refreshes, undefined, { takeOver: true }),
      this.#lead(revoked, undefined),
      ...dogpile === undefined ? [this.#lead(others, undefined, { claims: this.#haveSeenEnough(others) ? 'seen' : undefined })] : this.#contendEach(dogpile, others)
    ])
    disarm()
  }

  /** A lock for each call of a loader: a slow one doesn't hold up the keys of another. */
  #contendEach (dogpile: Dogpile, flights: readonly Flight[]): Promise<void>[] {
    return bySource(flights).map(({ members }) => this.#contend(dogpile, members))
  }

  async #contend (dogpile: Dogpile, flights: readonly Flight[]): Promise<void> {
    const { keyspace, looking, stale } = this.#options
    const names = flights.map(flight => keyspace.lock(flight.key))
    const election = dogpile.elect(names)
    // Where the connection keeps the order, this is a look from behind the lock though it is sent in the same round trip.
    const claims = this.#options.isLockInOrder ? this.#claimAnew(flights) : undefined
    const { elected, others } = await election
    if (elected !== undefined && others.length === 0) return await this.#lead(flights, elected, { claims })
    // The claims are of no use here: with a lock for each key, some were claimed before theirs was held.
    const byName = new Map(names.map((name, i) => [name, flights[i]!]))
    const flightsOf = (names: readonly string[]) => names.map(name => byName.get(name)!)
    const waiting: string[] = []
    for (const name of others) if (!stale.endIfServed(byName.get(name)!)) waiting.push(name)
    await Promise.all([
      elected === undefined ? undefined : this.#lead(flightsOf(elected.names), elected),
      waiting.length === 0
        ? undefined
        : dogpile.follow(waiting, {
          look: async names => (await looking.lookAgain(flightsOf(names))).map(flight => keyspace.lock(flight.key)),
          failed: (name, error) => stale.fail(byName.get(name)!, error),
          lead: one => this.#lead(flightsOf(one.names), one)
        })
    ])
  }

  /** Loads what is still missing when the right to fill it has been taken. `takeOver`: whatever the tiers hold. */
  async #lead (flights: readonly Flight[], elected: Elected | undefined, { takeOver = false, claims }: { takeOver?: boolean, claims?: Claims | Promise<Claims> | undefined } = {}): Promise<void> {
    if (flights.length === 0) return
    const { keyspace, stale, loading, track } = this.#options
    const claimed = claims === undefined || flights.some(flight => flight.revoked) ? this.#claimAnew(flights, takeOver) : claims
    if (elected !== undefined) for (const flight of flights) flight.yield = () => { void track(elected.yield(keyspace.lock(flight.key))) }
    // Look again: another process may have filled while we asked for the lock.
    const own = claimed instanceof Promise ? await claimed : claimed
    const missing = own === 'seen' ? flights : this.#landFilled(flights, own, takeOver)
    if (!takeOver) for (const flight of missing) if (!flight.landed) stale.serve(flight)
    try {
      await Promise.all(bySource(missing).map(({ source, members }) => loading.call(source, members, elected)))
    } finally {
      await elected?.release()
    }
  }

  /** Lands the flights whose keys a tier was filled with meanwhile. The others get the right to fill the tiers, and are returned. */
  #landFilled (flights: readonly Flight[], claims: readonly (readonly Claim[])[], takeOver: boolean): readonly Flight[] {
    const missing: Flight[] = []
    for (let i = 0; i < flights.length; i++) {
      const flight = flights[i]!
      const own = claims.map(ofTier => ofTier[i])
      if (!takeOver && this.#landIfFilled(flight, own)) continue
      flight.leases = own.map(claim => claim?.lease)
      missing.push(flight)
    }
    return missing
  }

  /** `claims`: of the flight's key, one for each shared tier. */
  #landIfFilled (flight: Flight, claims: readonly Claim[]): boolean {
    for (let s = 0; s < claims.length; s++) {
      if (this.#options.looking.landIfFresh(flight, claims[s]?.entry, this.#tierIndexes[s]!, flight.trip)) return true
    }
    return false
  }

  /** What these flights load from now on is as new as any load that begins now. Never rejects. */
  async #claimAnew (flights: readonly Flight[], takeOver = false): Promise<Claims> {
    const keys = flights.map(flight => flight.key)
    const generation = this.#options.generation()
    for (const flight of flights) flight.renew(generation)
    return await Promise.all(this.#shared.map(tier => this.#claim(tier, keys, takeOver)))
  }

  /** A tier that has just failed to answer isn't waited for a second time in the same read. */
  async #claim (tier: SharedTier, keys: readonly string[], takeOver: boolean): Promise<Claim[]> {
    if (tier.away && !takeOver) return keys.map(() => undefined)
    return await tier.claimMany(keys, { ttl: this.#options.leaseTtl, takeOver })
  }

  /** Whether the look in the tiers has already given each flight the right to fill them. */
  #haveSeenEnough (flights: readonly Flight[]): boolean {
    return flights.every(({ leases }) => this.#shared.every((tier, s) => leases?.[s] !== undefined || tier.away))
  }
}

/** The calls to make: each of one source, with no more members than that takes. */
function bySource (flights: readonly Flight[]): { source: Source, members: Flight[] }[] {
  const calls: { source: Source, members: Flight[] }[] = []
  const open = new Map<Source, Flight[]>()
  for (const flight of flights) {
    const { source } = flight.want.load!
    let members = open.get(source)
    if (members === undefined || members.length >= source.maxBatch) {
      members = []
      open.set(source, members)
      calls.push({ source, members })
    }
    members.push(flight)
  }
  return calls
}
