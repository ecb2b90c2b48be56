import { afterTick } from './after-tick.js'
import { Changes } from './changes.js'
import type { Coherence } from './coherence/coherence.js'
import { Copying } from './copying.js'
import { Dogpile } from './dogpile/dogpile.js'
import type { Elected } from './dogpile/elected.js'
import { longestTimer } from './duration.js'
import { freshness, isFresh, type Entry } from './entry.js'
import { ClosedError, ReentrantLoadError } from './errors.js'
import { Fill } from './fill.js'
import { Flight, WaitingLoader } from './flight.js'
import { noTrip, nobody, type Landed, type TierOrigin, type Trip, type Waiter } from './landed.js'
import type { Policy, Source } from './source.js'
import type { Want } from './want.js'
import type { Logger } from './logger.js'
import type { Recorded } from './recorder.js'
import { FlightsUnderWay } from './flights-under-way.js'
import type { Keyspace } from './keys.js'
import type { Line } from './line.js'
import { Loading } from './loading.js'
import { Looking } from './looking.js'
import { currentCall, type Outside } from './load-call.js'
import type { DogpileLock } from './locks/lock.js'
import type { ResolvedRegionOptions } from './region-options.js'
import { StaleValues } from './stale-values.js'
import { isLocal, type Shortcuts } from './tiers/backend.js'
import { LocalTier } from './tiers/local-tier.js'
import { SharedTier, type Claim } from './tiers/shared-tier.js'
import { copyGiven } from './values.js'

/** What a region needs of the application around it. */
export interface RegionContext {
  readonly lock: DogpileLock | undefined
  readonly line: Line | undefined
  readonly coherence: Coherence | undefined
  /** Resolves when this process hears of the others, or won't so soon. Never rejects. */
  readonly joined: Promise<void> | undefined
  readonly logger: Logger
  readonly now: () => number
  readonly outside: Outside
}

/** While this process may have missed invalidations, its flights depart no faster than this. Milliseconds. */
const pauseUntrusted = 10
/** The shortest time that a lease, and the renewal of a lock, may last: a load that takes longer isn't kept. */
const shortestLease = 60_000

/** Of each shared tier, in the order of the flights. 'seen': what they have seen on their way is enough. */
type Claims = readonly (readonly Claim[])[] | 'seen'

/**
 * The journey of a key: flights, tiers, election, loader, fill. Every read takes it; one key is a batch of one.
 */
export class ReadPath {
  readonly options: ResolvedRegionOptions
  readonly tiers: readonly (LocalTier | SharedTier)[]
  /** A fresh value of the first tier, a memory, found without a flight. */
  readonly hit: Recorded
  /** The first tier, where that is a memory: it is asked without a flight. */
  readonly #memory: LocalTier | undefined
  readonly #locals: readonly LocalTier[]
  /** By the tier's place. */
  readonly #origins: readonly TierOrigin[]
  readonly #shared: readonly SharedTier[]
  readonly #fill: Fill
  readonly #changes: Changes
  readonly #keyspace: Keyspace
  readonly #context: RegionContext
  readonly #now: () => number
  readonly #dogpile: Dogpile | undefined
  readonly #loading: Loading
  readonly #looking: Looking
  /** What memory and flights have to know of other processes before they are believed. Undefined: nothing. */
  readonly #trust: { readonly trusted: boolean } | undefined
  readonly #leaseTtl: number
  /** One connection carries the tier's commands and the lock's: they arrive in the order in which they were sent. */
  readonly #isLockInOrder: boolean
  readonly #stale: StaleValues
  readonly #flights = new FlightsUnderWay()
  readonly #underWay = new Set<Promise<unknown>>()
  #batch: Flight[] = []
  /** Some of them may have the same key. */
  #repeats = false
  #departedAt = -Infinity
  /** Until this process hears of the others, or won't so soon: nobody could join what departs before. */
  #joining: Promise<unknown> | undefined
  #closed = false

  constructor (keyspace: Keyspace, options: ResolvedRegionOptions, context: RegionContext) {
    const { lock, line, logger, now } = context
    this.options = options
    this.#keyspace = keyspace
    this.#context = context
    this.#now = now
    this.#leaseTtl = Math.min(longestTimer, Math.max(shortestLease, 10 * options.lockTtl, 2 * (options.hardTimeout ?? 0)))
    this.tiers = this.#tiersOf(options)
    this.#origins = this.tiers.map(({ name }) => ({ tier: name }))
    this.hit = { origin: this.#origins[0]!, stale: false, trip: noTrip }
    this.#locals = this.tiers.filter(tier => tier instanceof LocalTier)
    this.#shared = this.tiers.filter(tier => tier instanceof SharedTier)
    this.#memory = this.tiers[0] instanceof LocalTier ? this.tiers[0] : undefined
    this.#stale = new StaleValues({ region: keyspace.region, options, flights: this.#flights, logger, now })
    this.#fill = new Fill({ locals: this.#locals, shared: this.#shared, region: keyspace.region, leaseTtl: this.#leaseTtl, jitter: options.jitter, logger, now })
    // Without a shared tier nobody could see what somebody else has loaded.
    this.#dogpile = lock === undefined || this.#shared.length === 0
      ? undefined
      : new Dogpile({ lock, line, channel: keyspace.wakeUps, ttl: options.lockTtl, wait: options.lockWait, budget: options.tierTimeout, renewFor: this.#leaseTtl, logger })
    const [only, ...more] = this.#shared
    const connection = more.length === 0 ? only?.connection : undefined
    this.#isLockInOrder = connection !== undefined && lock?.connection === connection
    const isLineInOrder = connection !== undefined && line === only?.line
    const { coherence } = context
    this.#changes = new Changes({
      region: keyspace.region,
      serializer: options.serializer,
      locals: this.#locals,
      shared: this.#shared,
      flights: this.#flights,
      fill: this.#fill,
      coherence,
      isEventual: options.coherence === 'eventual',
      isLineInOrder,
      logger,
      now,
      track: work => this.#track(work)
    })
    this.#looking = new Looking({
      tiers: this.tiers,
      origins: this.#origins,
      flights: this.#flights,
      copying: new Copying(this.tiers, work => this.#track(work)),
      isTrusted: () => this.#isTrusted(),
      now
    })
    this.#loading = new Loading({
      keyspace,
      flights: this.#flights,
      stale: this.#stale,
      fill: this.#fill,
      changes: this.#changes,
      coherence,
      outside: context.outside,
      leaseTtl: this.#leaseTtl,
      isFenced: this.#shared.length > 0 && this.#shared.every(tier => tier.isLeasing),
      isInOrder: this.#isLockInOrder && isLineInOrder,
      isBatchWaiting: () => this.#batch.length > 0,
      track: work => this.#track(work)
    })
    if (this.#shared.length === 0 || coherence === undefined) return
    if (options.coherence !== 'eventual') this.#trust = coherence
    this.#joining = context.joined?.then(() => { this.#joining = undefined })
  }

  /** The farthest first: a nearer one asks those behind it what they have not been told yet. */
  #tiersOf ({ tiers, serializer, tierTimeout }: ResolvedRegionOptions): (LocalTier | SharedTier)[] {
    const { logger, now } = this.#context
    const farther: SharedTier[] = []
    return tiers.toReversed().map(backend => {
      if (isLocal(backend)) return new LocalTier(backend)
      const nearest: SharedTier = new SharedTier({
        backend,
        keyspace: this.#keyspace,
        serializer,
        timeout: tierTimeout,
        leaseTtl: this.#leaseTtl,
        logger,
        now,
        farther: [...farther],
        replayed: what => this.#changes.tellAgain(what, nearest)
      })
      farther.push(nearest)
      return nearest
    }).toReversed()
  }

  // ─── the request's side ────────────────────────────────────────────────────────────────────────

  /** What the memory tier has of a key, fresh or not, at once, where it can be believed. */
  remembered (key: string): Entry | undefined {
    const entry = this.#memory?.get(key)
    return entry !== undefined && this.#isTrusted() ? entry : undefined
  }

  /** The same, and from now on `recalled` finds it by what readers call it. */
  rememberedAs (shortcuts: Shortcuts, alias: unknown, key: string): Entry | undefined {
    const entry = this.#memory?.remember(key, shortcuts, alias)
    return entry !== undefined && this.#isTrusted() ? entry : undefined
  }

  /** What the memory tier has, without its key, where it is fresh. */
  recalled (shortcuts: Shortcuts, alias: unknown, maxAge: number | undefined): Entry | undefined {
    const entry = this.#memory?.recall(shortcuts, alias)
    return entry !== undefined && isFresh(entry, this.#now(), maxAge) && this.#isTrusted() ? entry : undefined
  }

  isFresh (entry: Entry, maxAge: number | undefined): boolean {
    return isFresh(entry, this.#now(), maxAge)
  }

  /** Whether this process would know of every invalidation that is over, wherever it was made. */
  #isTrusted (): boolean {
    return this.#trust === undefined || this.#trust.trusted
  }

  /**
   * A key that memory has nothing fresh of: from a flight that is under way, or one that takes off with the others of this
   * tick. `remembered` is what it has.
   */
  fetch (want: Want, waiter: Waiter, remembered: Entry | undefined): void {
    if (this.#closed) return waiter.fail(new ClosedError(`Region ${this.#keyspace.region}`))
    const caller = currentCall()
    if (want.load !== undefined && caller?.isWaitedForBy(want.key) === true) return waiter.fail(new ReentrantLoadError(want.key))

    const stale = want.load === undefined || want.anew || !this.#isStale(remembered, want) ? undefined : remembered
    const flight = this.#flights.get(want.key)
    const joinable = flight !== undefined && this.#isJoinable(flight, want) && this.#isCurrent(flight)
    if (stale !== undefined && (this.options.refresh === 'background' || joinable || this.#stale.isPaused(want.key))) {
      if (!joinable && !this.#stale.isPaused(want.key)) this.#takeOff(want, flight, stale, nobody) // if it fails, it is logged
      return waiter.land({ shared: stale, origin: this.#origins[0]!, stale: true, trip: noTrip })
    }
    const waiting = caller === undefined ? waiter : new WaitingLoader(waiter, caller)
    const awaited = joinable ? flight : this.#takeOff(want, flight, stale, waiting)
    if (waiting instanceof WaitingLoader) waiting.await(awaited)
    if (!joinable) return
    flight.alsoFor(want.maxAge)
    flight.join(waiting)
  }

  /**
   * Somebody who knows of it already waits for what is under way for a key: a loader mustn't come to wait for itself by that.
   * @throws ReentrantLoadError
   */
  registerWait (key: string): void {
    const caller = currentCall()
    if (caller === undefined) return
    if (caller.isWaitedForBy(key)) throw new ReentrantLoadError(key)
    for (const flight of this.#flights.of(key)) flight.addLoader(new WaitingLoader(nobody, caller)) // until the flight is no more
  }

  #isStale (entry: Entry | undefined, { maxAge }: Want): boolean {
    return entry !== undefined && freshness(entry, this.#now(), maxAge) === 'stale'
  }

  /**
   * One that only looks brings nothing to one that loads, nor does that to it, until its value is there and on its way into the
   * tiers; and another `maxAge` may not be content with what is found.
   */
  #isJoinable (flight: Flight, want: Want): boolean {
    if (flight.gaveUp && !this.#stale.has(flight)) return false // somebody else may have filled a tier: it is looked for first
    if (want.anew) return false
    if (want.load === undefined) return flight.loaded && this.#suits(flight, want)
    return (flight.loading || flight.want.maxAge === want.maxAge) && this.#suits(flight, want)
  }

  /** What is there already has an age: it may be too old for somebody who asks for one, or its time may be over. */
  #suits ({ loaded, entry, stale, want: { maxAge } }: Flight, want: Want): boolean {
    if (loaded) return want.maxAge === undefined && entry !== undefined && this.isFresh(entry, undefined)
    return stale === undefined || (maxAge === want.maxAge && this.#stale.isServable(stale.entry, want))
  }

  /** Nothing can have been invalidated, unheard, since it took off, or since what it has brought from memory was believed. */
  #isCurrent (flight: Flight): boolean {
    return (!flight.departed && flight.stale === undefined) || this.#isTrusted()
  }

  #takeOff (want: Want, underWay: Flight | undefined, stale: Entry | undefined, first: Waiter): Flight {
    if (this.#loading.hasUnwritten && (want.anew || this.#flights.isLoaded(want.key))) this.#loading.writeBack()
    const flight = new Flight(want, this.#locals[0]?.generation, first)
    if (stale !== undefined) flight.stale = { entry: stale, origin: this.#origins[0]! }
    if (want.anew) this.#flights.revoke(want.key, 'refresh') // what it loads is newer than what they will
    if (want.load === undefined || underWay !== undefined) this.#repeats = true
    // Nobody joins a refresh: it may fail, or take its time, while the old value is still there.
    if (want.anew || want.load === undefined || (underWay !== undefined && this.#isCurrent(underWay))) this.#flights.stray(flight)
    else {
      if (underWay !== undefined) this.#flights.detach(underWay)
      this.#flights.add(flight)
    }
    if (this.#batch.push(flight) === 1) this.#schedule()
    return flight
  }

  #schedule (): void {
    if (this.#joining !== undefined) {
      void this.#joining.then(() => afterTick(this.#depart))
      return
    }
    // Each reader who may not join what is under way would load anew: those of a moment do it together.
    const pause = this.#isTrusted() ? 0 : this.#departedAt + pauseUntrusted - performance.now()
    if (pause > 0) setTimeout(this.#depart, pause)
    else afterTick(this.#depart)
  }

  readonly #depart = (): void => {
    const flights = this.#batch
    const repeats = this.#repeats
    this.#batch = []
    this.#repeats = false
    for (const flight of flights) {
      flight.departed = true
      if (!flight.detached) flight.generation = this.#locals[0]?.generation // what it brings is as new as that
    }
    if (this.#trust !== undefined) this.#departedAt = performance.now()
    // Not in the async context of the first who wants something: what others do when they have it is none of that.
    this.#context.outside.run(() => { void this.#track(this.#fly(flights, repeats)) })
  }

  // ─── the tiers ─────────────────────────────────────────────────────────────────────────────────

  async #fly (flights: readonly Flight[], repeats: boolean): Promise<void> {
    try {
      let missing: readonly Flight[] = flights.filter(flight => !flight.want.anew)
      const trip: Trip = { waits: [] }
      // What was just forgotten is likely to be missing: whoever claims it looks as well, and that is soon enough.
      const areForgotten = missing.every(({ key, want }) => want.load !== undefined && this.#changes.isForgotten(key)) && !this.#shared.some(tier => tier.away)
      const first = areForgotten ? this.tiers.length : this.#memory === undefined ? 0 : 1
      let landFound = (): void => {}
      for (let place = first; place < this.tiers.length && missing.length > 0; place++) {
        landFound()
        ;({ missing, landFound } = await this.#looking.lookIn(place, missing, trip, repeats))
      }
      const toLoad = flights.filter(flight => flight.want.anew)
      for (const flight of missing) {
        flight.trip = trip
        if (flight.want.load === undefined) {
          this.#looking.arrive(flight, nowhere)
          continue
        }
        this.#stale.serve(flight)
        toLoad.push(flight)
      }
      const loading = toLoad.length === 0 ? undefined : this.#load(toLoad.filter(flight => flight.want.anew || this.#leads(flight)))
      try {
        landFound() // now: who has found something may have much to do, while the lock and the loader are asked
      } finally {
        await loading
      }
    } catch (error) {
      // Nothing above throws unless it is broken; even then nobody waits for ever.
      for (const flight of flights) this.#stale.fail(flight, error)
    }
  }

  /** Whether the flight is the one that loads its key; otherwise it waits for the one that does. */
  #leads (flight: Flight): boolean {
    if (flight.landed && this.#stale.isPaused(flight.key)) {
      this.#flights.end(flight)
      return false
    }
    const other = flight.joinable ? flight : this.#flights.get(flight.key)
    if (other !== undefined && other !== flight) {
      if (other.loading && !flight.revoked && (!other.loaded || this.#suits(other, flight.want)) && !flight.isWaitedForBy(flight.key)) {
        this.#leaveTo(other, flight)
        return false
      }
    }
    flight.loading = true
    // Whoever waits for the other one may have begun after an invalidation that only others have heard of yet.
    if (other !== flight && !flight.detached && this.#isCurrent(flight)) this.#flights.lead(flight)
    return true
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

  /** Of several with one key, where an invalidation has come in between: what is loaded now is new enough for all of them. */
  #oneForEachKey (flights: readonly Flight[]): readonly Flight[] {
    if (flights.every(flight => flight.joinable)) return flights
    // The newest of them: a stale value of another one may be older than an invalidation.
    const leading = new Map(flights.map(flight => [flight.key, flight]))
    if (leading.size === flights.length) return flights
    for (const flight of flights) {
      const other = leading.get(flight.key)!
      if (other !== flight) this.#leaveTo(other, flight)
    }
    return [...leading.values()]
  }

  // ─── election ──────────────────────────────────────────────────────────────────────────────────

  async #load (flights: readonly Flight[]): Promise<void> {
    if (flights.length === 0) return
    const disarm = this.#stale.armTimeouts(flights)
    const anew = flights.filter(flight => flight.want.anew)
    const revoked = flights.filter(flight => !flight.want.anew && flight.revoked)
    const others = this.#oneForEachKey(flights.filter(flight => !flight.want.anew && !flight.revoked))
    // Nobody else can use what is revoked already, and a newer flight of its key may be in the election; and where no
    // tier answers, nobody could see what somebody else has loaded.
    const dogpile = this.#shared.every(tier => tier.away) ? undefined : this.#dogpile
    await Promise.all([
      this.#lead(anew, undefined, { takeOver: true }),
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
    const names = flights.map(flight => this.#keyspace.lock(flight.key))
    const election = dogpile.elect(names)
    // In the same round trip, where one connection carries both in their order: so it is a look from behind the lock.
    const claims = this.#isLockInOrder ? this.#claimAnew(flights) : undefined
    const { elected, others } = await election
    if (elected !== undefined && others.length === 0) return await this.#lead(flights, elected, { claims })
    // With a lock for each key, some were claimed before theirs was held: these claims are of no use.
    const byName = new Map(names.map((name, i) => [name, flights[i]!]))
    const of = (names: readonly string[]) => names.map(name => byName.get(name)!)
    const waiting = others.filter(name => !this.#stale.leave(byName.get(name)!))
    await Promise.all([
      elected === undefined ? undefined : this.#lead(of(elected.names), elected),
      waiting.length === 0
        ? undefined
        : dogpile.follow(waiting, {
          look: async names => (await this.#looking.lookForOthers(of(names))).map(flight => this.#keyspace.lock(flight.key)),
          failed: (name, error) => this.#stale.fail(byName.get(name)!, error),
          lead: one => this.#lead(of(one.names), one)
        })
    ])
  }

  /** Loads what is still missing when the right to fill it has been taken. */
  async #lead (flights: readonly Flight[], elected: Elected | undefined, { takeOver = false, claims }: { takeOver?: boolean, claims?: Claims | Promise<Claims> | undefined } = {}): Promise<void> {
    if (flights.length === 0) return
    const claimed = claims === undefined || flights.some(flight => flight.revoked) ? this.#claimAnew(flights, takeOver) : claims
    if (elected !== undefined) for (const flight of flights) flight.yield = () => { void this.#track(elected.yield(this.#keyspace.lock(flight.key))) }
    // Look again: another process may have filled while we asked for the lock.
    const own = claimed instanceof Promise ? await claimed : claimed
    const missing = own === 'seen' ? flights : flights.filter((flight, i) => !this.#isFilled(flight, own.map(claims => claims[i]), takeOver))
    if (!takeOver) for (const flight of missing) if (!flight.landed) this.#stale.serve(flight)
    try {
      await Promise.all(bySource(missing).map(({ source, members }) => this.#loading.call(source, members, elected)))
    } finally {
      await elected?.release()
    }
  }

  /** Whether somebody has; otherwise the flight has the right to. */
  #isFilled (flight: Flight, claims: readonly Claim[], takeOver: boolean): boolean {
    if (!takeOver && this.#shared.some((tier, s) => this.#looking.accept(flight, claims[s]?.entry, this.tiers.indexOf(tier), flight.trip))) return true
    flight.leases = claims.map(claim => claim?.lease)
    return false
  }

  /** What these flights load from now on is as new as what anybody loads. Never rejects. */
  async #claimAnew (flights: readonly Flight[], takeOver = false): Promise<Claims> {
    const keys = flights.map(flight => flight.key)
    for (const flight of flights) flight.renew(this.#locals[0]?.generation)
    return await Promise.all(this.#shared.map(tier => this.#claim(tier, keys, takeOver)))
  }

  /** Whether they may be filled by what they have seen on their way. */
  #haveSeenEnough (flights: readonly Flight[]): boolean {
    return flights.every(({ leases }) => this.#shared.every((tier, s) => leases?.[s] !== undefined || tier.away))
  }

  /** A tier that has just failed to answer isn't waited for a second time in the same read. */
  async #claim (tier: SharedTier, keys: readonly string[], takeOver: boolean): Promise<Claim[]> {
    if (tier.away && !takeOver) return keys.map(() => undefined)
    return await tier.claimMany(keys, { ttl: this.#leaseTtl, takeOver })
  }

  // ─── changes ───────────────────────────────────────────────────────────────────────────────────

  /** Replaces whatever is there; loads that are under way will not. Rejects with what the serializer throws; then nothing has changed. */
  async set (sets: readonly { key: string, entry: Entry }[]): Promise<void> {
    await this.#nextChanges().set(sets)
  }

  /** @throws InvalidationPendingError */
  async forget (keys: readonly string[]): Promise<void> {
    await this.#nextChanges().forget(keys)
  }

  /** @throws InvalidationPendingError */
  async revise (kind: 'hard' | 'soft'): Promise<void> {
    await this.#nextChanges().revise(kind)
  }

  /** @throws InvalidationPendingError */
  async forgetTags (tags: readonly string[]): Promise<void> {
    await this.#nextChanges().forgetTags(tags)
  }

  /** An entry of a caller's own value, as `set` wants it. @throws InvalidArgumentError for what can't be cached */
  entryOf (value: unknown, policy: Policy, tags: readonly string[]): Entry {
    return this.#fill.entryOf(copyGiven(value), policy, tags)
  }

  /** Resolves when nothing is under way any more. */
  async idle (): Promise<void> {
    while (this.#underWay.size > 0 || this.#batch.length > 0) {
      if (this.#batch.length > 0) await (this.#joining ?? new Promise(setImmediate))
      await Promise.allSettled(this.#underWay)
    }
  }

  close (): void {
    this.#closed = true
    this.#changes.close()
    for (const tier of this.#shared) tier.close()
  }

  /** What this process changes now finds all that it has loaded before done. @throws ClosedError */
  #nextChanges (): Changes {
    if (this.#closed) throw new ClosedError(`Region ${this.#keyspace.region}`)
    this.#loading.writeBack()
    return this.#changes
  }

  #track<T> (work: Promise<T>): Promise<T> {
    this.#underWay.add(work)
    const done = () => { this.#underWay.delete(work) }
    work.then(done, done)
    return work
  }
}

const nowhere: Landed = { shared: { value: undefined, loose: undefined }, origin: 'nowhere', stale: false, trip: noTrip }

/** The calls that a loader is asked in: each its own source, no larger than that wants. */
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
