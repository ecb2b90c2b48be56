import type { Entry } from '../entry.js'
import { asWaited, nobody, noTrip, type Landed, type Origin, type Trip, type Waiter } from './landed.js'
import type { LoadCall } from './load-call.js'
import type { Generation } from '../backends/backend.js'
import type { Lease } from '../tiers/lease.js'
import type { MapNode } from './transient-map.js'
import { Want } from './want.js'

/**
 * What overtakes a load. 'replacement': the key has a newer value, written here or by another process. 'refresh': one has begun
 * in this process, which may fail and leave the old value where it was.
 */
export type Revocation = 'replacement' | 'refresh' | 'set' | 'invalidation'

/**
 * Of several revocations the weightiest counts, and of equal ones the last.
 * - A replacement weighs least: a set or a refresh that was only replaced is written all the same, and the tiers decide whose
 *   value stays. So it must not hide a revocation that forbids this.
 * - A refresh weighs less than a set: what was set again has nothing to clean up, since the later set, which a refresh
 *   overtakes as well, does that.
 * - A set and an invalidation weigh the same: the later one decides what is there in the end, a value or none.
 */
const weights: Readonly<Record<Revocation, number>> = { replacement: 0, refresh: 1, set: 2, invalidation: 2 }

/*
 * What may be true of a flight. Where a cell is empty, it makes no difference: later readers join the joinable flight of a key
 * (FlightsUnderWay) if it gives them what they want (Joining); what it loads is kept; its waiters get that, or what it finds.
 *
 * | state     | set by                                                 | do later readers join it?                            | is what it loads kept?                             | its waiters get                                  |
 * |-----------|--------------------------------------------------------|------------------------------------------------------|----------------------------------------------------|--------------------------------------------------|
 * | stale     | a look, or its reader: an entry in its grace           | with its `maxAge`, in trust                          |                                                    | that entry until it has loaded, or if that fails |
 * | departed  | the end of its batch's tick                            | in trust                                             |                                                    |                                                  |
 * | loading   | Joining: it loads its key; never set for a refresh     | with any `maxAge`                                    |                                                    |                                                  |
 * | loaded    | its loader, by giving a value                          | without `maxAge`, while kept and fresh; even to look | if it is to be cached                              | the value; of a refresh, when it is written      |
 * | detached  | (1)                                                    | no                                                   |                                                    |                                                  |
 * | overtaken | an invalidation of tags or the region, a lost line (2) | no, if detached                                      | tiers find it stale or not at all, where concerned | a failure isn't told to other processes          |
 * | swept     | the same, where its value has such a tag; a lost line  | no                                                   | as above; a `set` is forgotten                     | (they have it, or there are none)                |
 * | revoked   | what `revokedBy` names (2)                             | no                                                   | no (3)                                             |                                                  |
 * | abandoned | Loading: its leases have ended before its call         | no                                                   | never                                              | the value, if it comes                           |
 * | unshared  | a write-back after which no shared tier has it         |                                                      | in memory, at most                                 | other processes load for themselves              |
 * | hasStale  | `land` of a stale value                                | they get it at once                                  |                                                    | have it; those whom it won't do wait on          |
 * | gaveUp    | the hard timeout                                       | for a stale value that can be served                 |                                                    | LoadTimeoutError; those who join later wait on   |
 * | over      | `land` of a value, or `fail`                           | as `loaded`; not what was found, nor a failure       | as `loaded`                                        | the value, or the error                          |
 *
 * In trust: while this process would know of every invalidation (Joining.isCurrent). `landed`: `hasStale`, or `over`.
 * (1) An invalidation of its key; another one, once it has departed or has `stale`; a newer flight of its key, when not in
 *     trust; a value that isn't to be kept.
 * (2) Until a claim (`renew`): what is loaded after that is new enough.
 * (3) But the shared tiers decide about a refresh or a `set` that was only replaced, and about a `set` that was set again.
 */

/**
 * A key under way in this process. Later readers join it (golang's singleflight, DataLoader's cache), unless an invalidation
 * has come in between. It calls its waiters rather than settling a promise for each: a batch of a hundred keys would make
 * hundreds of promises.
 */
export class Flight implements Waiter {
  readonly want: Want
  /** That of the memory tiers, before the value was looked for: they refuse the value if they have forgotten the key since. */
  generation: Generation | undefined
  /** It is on its way: what it finds may be older than an invalidation that comes now. */
  departed = false
  /** Its loader is being called, or another process is being asked to load. */
  loading = false
  /** Its value was loaded, and is on its way into the tiers. */
  loaded = false
  /** Its value may have been invalidated since it took off: nobody joins it any more. */
  detached = false
  /**
   * A tag, or the region softly, was invalidated since it took off. Later readers may get its value, unless that has the tag;
   * they don't get its failure.
   */
  overtaken = false
  /** A tag of its value was invalidated since, or the line was lost. */
  swept = false
  #revokedBy: Revocation | undefined
  /** It has taken too long: no invalidation reaches it any more. */
  abandoned = false
  /** Its node among the flights that may be joined. */
  node: MapNode<Flight> | undefined
  /** Tells other processes not to wait for this load: they would not find its value. */
  yield: (() => void) | undefined
  /** No tier keeps its value, so that other processes won't find it. */
  unshared = false
  /** Its right to fill each of the shared tiers, in their order. */
  leases: (Lease | undefined)[] | undefined
  /** What it has loaded, if that is to be kept. */
  entry: Entry | undefined
  /** What may be served until the load has ended, or if it fails. */
  stale: { entry: Entry, origin: Origin } | undefined
  trip: Trip = noTrip
  #first: Waiter | undefined
  #landed: Landed | undefined
  /** Undefined for most flights: every property of a flight costs each read. */
  #extras: FlightExtras | undefined

  /**
   * What a `set` flies on: a refresh that has its value already. Nobody waits for it or joins it, but it learns what overtakes
   * it on its way to the shared tiers, as any load does.
   */
  static ofSet (key: string, entry: Entry): Flight {
    const flight = new Flight(new Want({ key, maxAge: undefined, load: undefined, isRefresh: true }), undefined, nobody)
    flight.entry = entry
    return flight
  }

  /** It takes off for `first`. */
  constructor (want: Want, generation: Generation | undefined, first: Waiter) {
    this.want = want
    this.generation = generation
    this.#first = first
  }

  get key (): string {
    return this.want.key
  }

  // ─── what has happened to its key meanwhile ────────────────────────────────────────────────────

  /** What it loads from now on is as new as any load that begins now: so far it has only looked, or waited. */
  renew (generation: Generation | undefined): void {
    if (!this.abandoned) this.#revokedBy = undefined
    this.overtaken = false
    this.generation = generation
  }

  /** Nothing of it is kept, and nobody joins it any more. */
  revoke (by: Revocation): void {
    this.detached = true
    if (this.#revokedBy === undefined || weights[by] >= weights[this.#revokedBy]) this.#revokedBy = by
  }

  get revokedBy (): Revocation | undefined {
    return this.#revokedBy
  }

  get revoked (): boolean {
    return this.#revokedBy !== undefined
  }

  /**
   * Whether it replaces what is in the tiers. Of two processes that replace a key at a time, the tiers keep the value of the
   * one that took the right last: being overtaken by another process is not for this one to decide.
   */
  get replaces (): boolean {
    return this.want.isRefresh && (this.#revokedBy === undefined || this.#revokedBy === 'replacement')
  }

  /** Whether later readers may join it. At most one flight of a key is joinable. */
  get joinable (): boolean {
    return this.node?.value === this
  }

  // ─── who waits for it ──────────────────────────────────────────────────────────────────────────

  /** What it finds must be fresh enough for this `maxAge` as well. */
  alsoFor (maxAge: number | undefined): void {
    if (maxAge !== this.want.maxAge) (this.#ensureExtras().otherAges ??= []).push(maxAge)
  }

  /** The `maxAge`s of its other waiters, where they differ from its own. */
  get otherAges (): readonly (number | undefined)[] | undefined {
    return this.#extras?.otherAges
  }

  /** Loaders that can't go on before it lands. */
  get loaders (): ReadonlySet<WaitingLoader> {
    return this.#extras?.loaders ?? noLoaders
  }

  addLoader (loader: WaitingLoader): void {
    (this.#ensureExtras().loaders ??= new Set()).add(loader)
  }

  removeLoader (loader: WaitingLoader): void {
    this.#extras?.loaders?.delete(loader)
  }

  /** Whether a loader that waits for it is, directly or over others, the one that loads `key`. */
  isWaitedForBy (key: string, seen?: Set<LoadCall>): boolean {
    for (const { caller } of this.loaders) if (caller.isWaitedForBy(key, seen)) return true
    return false
  }

  /** Whether nobody has joined it. */
  get hasOneWaiter (): boolean {
    return this.#extras === undefined
  }

  /** For every waiter but the first: what they get was somebody else's load. Without `takesStale`, a stale value won't do. */
  join (other: Waiter, takesStale = true): void {
    if (this.#landed !== undefined) return other.land(asWaited(this.#landed))
    const extras = this.#ensureExtras()
    if (takesStale && extras.forOthers !== undefined) other.land(extras.forOthers)
    else if (extras.error !== undefined) other.fail(extras.error.error)
    else if (takesStale) (extras.others ??= []).push(other)
    else (extras.patient ??= new Set()).add(other)
  }

  /** For a waiter that joined without `takesStale`, and waits no longer. */
  leave (other: Waiter): void {
    this.#extras?.patient?.delete(other)
  }

  /** Whether there is a waiter for whom a stale value won't do. */
  get hasPatientWaiters (): boolean {
    return (this.#extras?.patient?.size ?? 0) > 0
  }

  // ─── landing ───────────────────────────────────────────────────────────────────────────────────

  /** Whether the first waiter has got something, though it may be stale. */
  get landed (): boolean {
    return this.over || this.#extras?.hasStale === true
  }

  /** Whether nothing will come any more. */
  get over (): boolean {
    return this.#landed !== undefined || this.#extras?.error !== undefined
  }

  land (landed: Landed): void {
    // A stale value is for those who join until the load has ended; what was loaded then takes its place.
    if (landed.stale) this.#ensureExtras().serve(asWaited(landed))
    else this.#landed = landed
    const first = this.#first
    this.#first = undefined
    first?.land(landed)
    this.#extras?.land(asWaited(landed))
  }

  /** Serves a stale value to all but the first, who waits for the load: dogpile.cache's own way. */
  landOthers (stale: Landed): void {
    const extras = this.#ensureExtras()
    const waited = asWaited(stale)
    extras.forOthers = waited
    extras.land(waited)
  }

  /** A stale value stays there for those who join later. */
  fail (error: unknown): void {
    if (this.over) return
    const extras = this.#ensureExtras()
    const first = this.#first
    extras.error = { error }
    this.#first = undefined
    first?.fail(error)
    extras.fail(error)
  }

  /** Fails for those who have waited until now. The load goes on. */
  giveUp (error: unknown): void {
    const extras = this.#ensureExtras()
    const first = this.#first
    extras.gaveUp = true
    this.#first = undefined
    first?.fail(error)
    extras.fail(error)
  }

  get gaveUp (): boolean {
    return this.#extras?.gaveUp === true
  }

  #ensureExtras (): FlightExtras {
    return (this.#extras ??= new FlightExtras())
  }
}

/** What most flights don't have: more than one waiter, loaders that wait, a stale value, an error. */
class FlightExtras {
  otherAges: (number | undefined)[] | undefined
  loaders: Set<WaitingLoader> | undefined
  others: Waiter[] | undefined
  /** Waiters for whom a stale value won't do. */
  patient: Set<Waiter> | undefined
  /** What the others get until it has landed. */
  forOthers: Landed | undefined
  hasStale = false
  gaveUp = false
  error: { error: unknown } | undefined

  serve (stale: Landed): void {
    this.hasStale = true
    this.forOthers = stale
  }

  land (landed: Landed): void {
    const others = this.others
    const patient = landed.stale ? undefined : this.patient
    this.others = undefined
    if (!landed.stale) this.patient = undefined
    for (const other of others ?? []) other.land(landed)
    for (const other of patient ?? []) other.land(landed)
  }

  fail (error: unknown): void {
    const waiting = [...this.others ?? [], ...this.patient ?? []]
    this.others = this.patient = undefined
    for (const one of waiting) one.fail(error)
  }
}

/** A waiter that is part of a loader's call. While it waits, the flights that it waits for know, so that no loader comes to wait for itself. */
export class WaitingLoader implements Waiter {
  readonly caller: LoadCall
  readonly #waiter: Waiter
  readonly #flights: Flight[] = []

  constructor (waiter: Waiter, caller: LoadCall) {
    this.#waiter = waiter
    this.caller = caller
  }

  /** A flight may be left to another one: then both are waited for. */
  await (flight: Flight): void {
    this.#flights.push(flight)
    flight.addLoader(this)
  }

  land (landed: Landed): void {
    this.#end()
    this.#waiter.land(landed)
  }

  fail (error: unknown): void {
    this.#end()
    this.#waiter.fail(error)
  }

  #end (): void {
    for (const flight of this.#flights) flight.removeLoader(this)
  }
}

const noLoaders: ReadonlySet<WaitingLoader> = new Set()
