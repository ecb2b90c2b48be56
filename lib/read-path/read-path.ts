import { afterTick } from './after-tick.js'
import { Changes } from './changes.js'
import { chunksOf } from '../chunks.js'
import type { Coherence } from '../coherence/coherence.js'
import type { Invalidation } from '../coherence/messages.js'
import { Copying } from './copying.js'
import { Dogpile } from '../dogpile/dogpile.js'
import { longestTimer } from '../duration.js'
import { Electing } from './electing.js'
import { freshness, isFresh, type Entry } from '../entry.js'
import { ClosedError, ReentrantLoadError } from '../errors.js'
import { Fill } from './fill.js'
import { Flight, WaitingLoader } from './flight.js'
import { FlightsUnderWay } from './flights-under-way.js'
import { Joining } from './joining.js'
import type { Keyspace } from '../keys.js'
import { Landed, noTrip, nobody, type TierOrigin, type Trip, type Waiter } from './landed.js'
import type { Line } from '../line.js'
import { currentCall, type Outside } from './load-call.js'
import { Loading } from './loading.js'
import type { DogpileLock } from '../locks/lock.js'
import type { Logger } from '../logger.js'
import { Looking } from './looking.js'
import type { Recorded } from '../request/recorder.js'
import type { ResolvedRegionOptions } from '../region-options.js'
import type { Policy } from './source.js'
import { StaleValues } from './stale-values.js'
import { isLocal, type Generation, type Shortcuts } from '../backends/backend.js'
import { LocalTier } from '../tiers/local-tier.js'
import { SharedTier } from '../tiers/shared-tier.js'
import { tierNames } from '../tiers/tier-names.js'
import { copyGiven } from '../values.js'
import type { Want } from './want.js'

/** What a region needs of the application around it. */
export interface RegionContext {
  readonly lock: DogpileLock | undefined
  readonly line: Line | undefined
  readonly coherence: Coherence | undefined
  /** Resolves when this process hears of the others' invalidations, or has waited long enough for that. Never rejects. */
  readonly joined: Promise<void> | undefined
  readonly logger: Logger
  readonly now: () => number
  /** The same for many reads, where that is good enough. */
  readonly recently: () => number
  readonly outside: Outside
}

/** While this process may have missed invalidations, the least time between two departures. Milliseconds. */
const pauseUntrusted = 10
/** The least time that a lease lasts and a lock is renewed. What takes longer to load isn't kept. Milliseconds. */
const shortestLease = 60_000

/**
 * The journey of a key: flights, tiers, election, loader, fill. Every read takes it; one key is a batch of one.
 */
export class ReadPath {
  readonly options: ResolvedRegionOptions
  readonly tiers: readonly (LocalTier | SharedTier)[]
  /** What is recorded of a fresh value that the first tier, a memory, has given without a flight. */
  readonly hit: Recorded
  /** The first tier, if that is a memory: it is asked without a flight. */
  readonly #memory: LocalTier | undefined
  readonly #locals: readonly LocalTier[]
  readonly #shared: readonly SharedTier[]
  /** One for each tier. */
  readonly #origins: readonly TierOrigin[]
  /** How many keys one look is for. */
  readonly #mostKeys: number
  readonly #keyspace: Keyspace
  readonly #context: RegionContext
  readonly #now: () => number
  readonly #recently: () => number
  readonly #leaseTtl: number
  /** Tells whether memory and flights may be believed. Undefined: always, no other process could invalidate anything. */
  readonly #trust: { readonly isTrusted: boolean } | undefined
  readonly #stale: StaleValues
  readonly #fill: Fill
  readonly #changes: Changes
  readonly #joining: Joining
  readonly #looking: Looking
  readonly #electing: Electing
  readonly #loading: Loading
  readonly #flights = new FlightsUnderWay()
  readonly #underWay = new Set<Promise<unknown>>()
  /** What takes off in this tick. */
  #batch: Flight[] = []
  /** Whether two flights of the batch may have the same key. */
  #repeats = false
  #departedAt = -Infinity
  /** The context's `joined`, until it has resolved: nothing departs before, since later readers could not join it. */
  #lineJoined: Promise<unknown> | undefined
  #closed = false

  constructor (keyspace: Keyspace, options: ResolvedRegionOptions, context: RegionContext) {
    const { joined, logger, now, recently, outside } = context
    this.options = options
    this.#keyspace = keyspace
    this.#context = context
    this.#now = now
    this.#recently = recently
    const leaseTtl = this.#leaseTtl = Math.min(longestTimer, Math.max(shortestLease, 10 * options.lockTtl, 2 * (options.hardTimeout ?? 0)))
    const tiers = this.tiers = this.#makeTiers()
    const origins = this.#origins = tiers.map(({ name }) => ({ tier: name }))
    this.hit = { origin: origins[0]!, stale: false, trip: noTrip }
    const locals = this.#locals = tiers.filter(tier => tier instanceof LocalTier)
    const shared = this.#shared = tiers.filter(tier => tier instanceof SharedTier)
    this.#mostKeys = Math.min(...shared.map(tier => tier.mostKeys))
    this.#memory = tiers[0] instanceof LocalTier ? tiers[0] : undefined

    const { coherence } = context
    if (options.coherence !== 'eventual') this.#trust = coherence
    if (coherence !== undefined) this.#lineJoined = joined?.then(() => { this.#lineJoined = undefined })
    const { isLockInOrder, isLineInOrder } = orderOf(shared, context)

    // The parts of the journey, each after those that it needs. `common` is what most of them take.
    const track = <T>(work: Promise<T>) => this.#track(work)
    const common = { region: keyspace.region, keyspace, tiers, origins, locals, shared, flights: this.#flights, leaseTtl, isTrusted: () => this.#isTrusted(), logger, now, track }
    const stale = this.#stale = new StaleValues({ ...common, options })
    const fill = this.#fill = new Fill({ ...common, jitter: options.jitter })
    const changes = this.#changes = new Changes({ ...common, serializer: options.serializer, fill, coherence, isEventual: options.coherence === 'eventual', isLineInOrder })
    const joining = this.#joining = new Joining({ ...common, stale })
    const looking = this.#looking = new Looking({ ...common, copying: new Copying(tiers, track) })
    const loading = this.#loading = new Loading({
      ...common,
      stale,
      fill,
      changes,
      coherence,
      outside,
      isFenced: shared.length > 0 && shared.every(tier => tier.isLeasing),
      isInOrder: isLockInOrder && isLineInOrder,
      isBatchWaiting: () => this.#batch.length > 0
    })
    this.#electing = new Electing({ ...common, dogpile: this.#makeDogpile(), joining, stale, looking, loading, generation: () => this.#generation, isLockInOrder })
  }

  /** From the farthest to the nearest, since each asks those behind it for invalidations that they have not been told of yet. */
  #makeTiers (): (LocalTier | SharedTier)[] {
    const { tiers, serializer, tierTimeout } = this.options
    const { logger, now } = this.#context
    const names = tierNames(tiers)
    const farther: SharedTier[] = []
    return tiers.toReversed().map(backend => {
      const name = names.pop()!
      if (isLocal(backend)) return new LocalTier(backend, name)
      const nearest: SharedTier = new SharedTier({
        backend,
        name,
        keyspace: this.#keyspace,
        serializer,
        timeout: tierTimeout,
        leaseTtl: this.#leaseTtl,
        logger,
        now,
        farther: [...farther],
        onReplayed: what => this.#changes.tellAgain(what, nearest)
      })
      farther.push(nearest)
      return nearest
    }).toReversed()
  }

  #makeDogpile (): Dogpile | undefined {
    const { lock, line, logger } = this.#context
    const { lockTtl, lockWait, tierTimeout } = this.options
    // Without a shared tier no process could see what another one has loaded.
    if (lock === undefined || this.#shared.length === 0) return undefined
    return new Dogpile({ lock, line, channel: this.#keyspace.wakeUps, ttl: lockTtl, wait: lockWait, timeout: tierTimeout, renewFor: this.#leaseTtl, logger })
  }

  // ─── the request's side ────────────────────────────────────────────────────────────────────────

  /** What the memory tier has of a key, fresh or not, at once; if it can be believed. */
  remembered (key: string): Entry | undefined {
    const entry = this.#memory?.get(key)
    return entry !== undefined && this.#isTrusted() ? entry : undefined
  }

  /** The same, and from now on `recalled` finds it by its alias, which needs no key. */
  rememberedAs (shortcuts: Shortcuts, alias: unknown, key: string): Entry | undefined {
    const entry = this.#memory?.remember(key, shortcuts, alias)
    return entry !== undefined && this.#isTrusted() ? entry : undefined
  }

  /** What the memory tier has by an alias, if it is fresh. */
  recalled (shortcuts: Shortcuts, alias: unknown, maxAge: number | undefined): Entry | undefined {
    const entry = this.#memory?.recall(shortcuts, alias)
    return entry !== undefined && this.isFresh(entry, maxAge) && this.#isTrusted() ? entry : undefined
  }

  isFresh (entry: Entry, maxAge: number | undefined): boolean {
    return isFresh(entry, maxAge === undefined ? this.#recently() : this.#now(), maxAge)
  }

  /** Whether this process would know of every invalidation that is over, whichever process made it. */
  #isTrusted (): boolean {
    return this.#trust === undefined || this.#trust.isTrusted
  }

  /**
   * Gets a key that memory has nothing fresh of: from a flight that is under way, or from one that takes off with the others
   * of this tick. `remembered`: what memory has.
   */
  fetch (want: Want, waiter: Waiter, remembered: Entry | undefined): void {
    if (this.#closed) return waiter.fail(new ClosedError(`Region ${this.#keyspace.region}`))
    const caller = currentCall()
    if (want.load !== undefined && caller?.isWaitedForBy(want.key) === true) return waiter.fail(new ReentrantLoadError(want.key))

    const stale = want.load === undefined || want.isRefresh || !this.#isStale(remembered, want) ? undefined : remembered
    const flight = this.#flights.get(want.key)
    const joinable = flight !== undefined && this.#joining.isJoinable(flight, want)
    if (stale !== undefined && (this.options.refresh === 'background' || joinable || this.#stale.isPaused(want.key))) {
      if (!joinable && !this.#stale.isPaused(want.key)) this.#takeOff(want, flight, stale, nobody) // if it fails, it is logged
      return waiter.land(new Landed({ shared: stale, origin: this.#origins[0]!, stale: true, trip: noTrip }))
    }
    const waiting = caller === undefined ? waiter : new WaitingLoader(waiter, caller)
    const awaited = joinable ? flight : this.#takeOff(want, flight, stale, waiting)
    if (waiting instanceof WaitingLoader) waiting.await(awaited)
    if (!joinable) return
    flight.alsoFor(want.maxAge)
    flight.join(waiting)
  }

  /**
   * Called before the running code waits for a promise that others have got for this key already: if it is a loader's, that
   * loader mustn't come to wait for itself.
   * @throws ReentrantLoadError
   */
  registerWait (key: string): void {
    const caller = currentCall()
    if (caller === undefined) return
    if (caller.isWaitedForBy(key)) throw new ReentrantLoadError(key)
    for (const flight of this.#flights.of(key)) flight.addLoader(new WaitingLoader(nobody, caller)) // for the flight's whole life
  }

  /** The first memory's stands for all of them: they hear of the same invalidations, and so count the same. Undefined: there is none. */
  get #generation (): Generation | undefined {
    return this.#locals[0]?.generation
  }

  #isStale (entry: Entry | undefined, { maxAge }: Want): boolean {
    return entry !== undefined && freshness(entry, this.#now(), maxAge) === 'stale'
  }

  /** `underWay`: the flight of this key that others may join, and this reader may not. */
  #takeOff (want: Want, underWay: Flight | undefined, stale: Entry | undefined, first: Waiter): Flight {
    // A reader that may not join what was just loaded has to find it in the tiers, or to replace it there.
    if (this.#loading.hasUnwritten && (want.isRefresh || this.#flights.isLoaded(want.key))) this.#loading.writeBack()
    const flight = new Flight(want, this.#generation, first)
    if (stale !== undefined) flight.stale = { entry: stale, origin: this.#origins[0]! }
    if (want.isRefresh) this.#flights.revoke(want.key, 'refresh') // what it loads is newer than what they will
    if (want.load === undefined || underWay !== undefined) this.#repeats = true
    // Nobody joins a refresh, which may fail or take its time, while the old value is still there.
    if (want.isRefresh || want.load === undefined || (underWay !== undefined && this.#joining.isCurrent(underWay))) this.#flights.addUnjoinable(flight)
    else {
      if (underWay !== undefined) this.#flights.detach(underWay)
      this.#flights.addJoinable(flight)
    }
    if (this.#batch.push(flight) === 1) this.#schedule()
    return flight
  }

  #schedule (): void {
    if (this.#lineJoined !== undefined) {
      void this.#lineJoined.then(() => afterTick(this.#depart))
      return
    }
    // Without trust nobody may join what has departed: a pause lets the readers of a moment share one load all the same.
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
      if (!flight.detached) flight.generation = this.#generation // what it finds is as new as that
    }
    if (this.#trust !== undefined) this.#departedAt = performance.now()
    // Outside the async context of the first reader, which is none of the others' business.
    this.#context.outside.run(() => { void this.#track(this.#fly(flights, repeats)) })
  }

  // ─── the journey ───────────────────────────────────────────────────────────────────────────────

  /**
   * Many keys look in parts, of which the first have their values while a tier is at work on the next. What has landed is let go:
   * nothing here, nor in a function that waits, holds all the flights.
   */
  #fly (flights: readonly Flight[], repeats: boolean): Promise<void> {
    const trip: Trip = { waits: [] }
    if (flights.length <= this.#mostKeys) return this.#load([this.#look(flights, trip, repeats)])
    return this.#load(chunksOf(flights, this.#mostKeys).map(async part => {
      const { leading, landFound } = await this.#look(part, trip, repeats)
      landFound()
      return { leading, landFound: nothing }
    }))
  }

  /** Looks in the tiers. Resolves to the flights that load: those that refresh, and those that are missing everywhere. Never rejects. */
  async #look (flights: readonly Flight[], trip: Trip, repeats: boolean): Promise<Looks> {
    try {
      let missing: readonly Flight[] = flights.filter(flight => !flight.want.isRefresh)
      let landFound = nothing
      for (let tierIndex = this.#firstTierIndex(missing); tierIndex < this.tiers.length && missing.length > 0; tierIndex++) {
        landFound()
        ;({ missing, landFound } = await this.#looking.lookIn(tierIndex, missing, trip, repeats))
      }
      this.#answerWithoutLoad(missing, trip)
      const leading = flights.filter(flight => flight.want.isRefresh)
      for (const flight of missing) if (flight.want.load !== undefined && this.#joining.takeLead(flight)) leading.push(flight)
      return { leading, landFound: () => { this.#landOrFail(flights, landFound) } }
    } catch (error) {
      this.#fail(flights, error)
      return { leading: [], landFound: nothing }
    }
  }

  /** Never rejects. */
  async #load (looks: readonly Promise<Looks>[]): Promise<void> {
    const looked = await Promise.all(looks)
    const leading = looked.flatMap(({ leading }) => leading)
    try {
      const loading = leading.length === 0 ? undefined : this.#electing.load(leading)
      for (const { landFound } of looked) landFound() // not before: readers may do a lot with their values, while the lock and the loader are at work
      await loading
    } catch (error) {
      this.#fail(leading, error)
    }
  }

  #landOrFail (flights: readonly Flight[], land: () => void): void {
    try {
      land()
    } catch (error) {
      this.#fail(flights, error)
    }
  }

  /** What calls this is broken; even then no reader waits for ever. */
  #fail (flights: readonly Flight[], error: unknown): void {
    for (const flight of flights) this.#stale.fail(flight, error)
  }

  /**
   * The index of the first tier to look in. None, if all keys were just forgotten: they are likely to be missing, and the
   * claims that come before a load look as well.
   */
  #firstTierIndex (flights: readonly Flight[]): number {
    const first = this.#memory === undefined ? 0 : 1
    if (this.#shared.some(tier => tier.away)) return first // no claim looks there
    for (const { key, want } of flights) if (want.load === undefined || !this.#changes.takeForgotten(key)) return first
    return this.tiers.length
  }

  /** Those that only look are told that there is nothing; of the others, those that have a stale value serve it. */
  #answerWithoutLoad (missing: readonly Flight[], trip: Trip): void {
    for (const flight of missing) {
      flight.trip = trip
      if (flight.want.load === undefined) this.#looking.arrive(flight, nowhere)
      else this.#stale.serve(flight)
    }
  }

  // ─── changes ───────────────────────────────────────────────────────────────────────────────────

  /** Replaces whatever is there; loads that are under way will not. Rejects with what the serializer throws; then nothing has changed. */
  async set (sets: readonly { key: string, entry: Entry }[]): Promise<void> {
    await this.#nextChanges().set(sets)
  }

  /** Resolves when no reader can start to read the old values. @throws InvalidationPendingError */
  async invalidate (what: Invalidation): Promise<void> {
    await this.#nextChanges().invalidate(what)
  }

  /** An entry of a caller's own value, for `set`. @throws InvalidArgumentError for what can't be cached */
  entryOf (value: unknown, policy: Policy, tags: readonly string[]): Entry {
    return this.#fill.entryOf(copyGiven(value), policy, tags)
  }

  /** Whatever changes now finds in the tiers what was loaded before. @throws ClosedError */
  #nextChanges (): Changes {
    if (this.#closed) throw new ClosedError(`Region ${this.#keyspace.region}`)
    this.#loading.writeBack()
    return this.#changes
  }

  // ─── the end ───────────────────────────────────────────────────────────────────────────────────

  /** Resolves when nothing is under way any more. */
  async idle (): Promise<void> {
    while (this.#underWay.size > 0 || this.#batch.length > 0) {
      if (this.#batch.length > 0) await (this.#lineJoined ?? new Promise(setImmediate))
      await Promise.allSettled(this.#underWay)
    }
  }

  close (): void {
    this.#closed = true
    this.#changes.close()
    for (const tier of this.tiers) tier.close()
  }

  #track<T> (work: Promise<T>): Promise<T> {
    this.#underWay.add(work)
    const done = () => { this.#underWay.delete(work) }
    work.then(done, done)
    return work
  }
}

/**
 * Whether the lock's commands, and the line's messages, arrive after the tier's that were sent before them: they do where one
 * connection carries both, and there is only one shared tier.
 */
function orderOf (shared: readonly SharedTier[], { lock, line }: RegionContext): { isLockInOrder: boolean, isLineInOrder: boolean } {
  const [tier, ...more] = shared
  if (tier?.connection === undefined || more.length > 0) return { isLockInOrder: false, isLineInOrder: false }
  return { isLockInOrder: lock?.connection === tier.connection, isLineInOrder: line === tier.line }
}

/** What came of a look in the tiers. */
interface Looks {
  /** Flights that are to load their keys. */
  readonly leading: readonly Flight[]
  /** Lands those that were found in the last tier. To be called once. */
  readonly landFound: () => void
}

const nothing = (): void => {}

const nowhere = new Landed({ shared: { value: undefined, loose: undefined }, origin: 'nowhere', stale: false, trip: noTrip })
