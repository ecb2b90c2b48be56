import type { Entry } from './entry.js'
import type { LoadCall } from './load-call.js'
import type { Generation } from './tiers/backend.js'
import type { Lease } from './tiers/shared-tier.js'
import type { Place } from './transient-map.js'
import type { Shared } from './values.js'

/** What loads values, and how long they are kept. */
export interface Policy {
  readonly ttl: number
  readonly grace: number
  /** For `null`, which has no grace then. Undefined: `null` is a value like others. */
  readonly negativeTtl: number | undefined
  /** False for a value that is returned and not cached. */
  readonly shouldCache: ((value: unknown) => boolean) | undefined
}

/** One loader. Keys of a tick that want the same one share a call of it. */
export interface Source {
  readonly maxBatch: number
  /** In the order of `args`, once for each. */
  load (args: readonly unknown[]): Promise<readonly Loaded[]>
}

export type Loaded = { readonly error: unknown } | {
  /** `undefined` is returned and not cached. */
  readonly value: unknown
  readonly tags: readonly string[]
  /** Other keys that this load found the value of. */
  readonly primed?: readonly Primed[]
}

export interface Primed { readonly key: string, readonly value: unknown, readonly tags: readonly string[], readonly policy: Policy }

/** As a class, see *What is made for each key* in docs/decisions.md; so are others below. */
export class Wanted implements Want {
  readonly key: string
  readonly maxAge: number | undefined
  readonly load: Want['load']
  readonly arg: unknown
  readonly anew: boolean

  constructor ({ key, maxAge, load, arg, anew = false }: Omit<Want, 'anew'> & { anew?: boolean }) {
    this.key = key
    this.maxAge = maxAge
    this.load = load
    this.arg = arg
    this.anew = anew
  }
}

/** What a caller wants of a key. */
export interface Want {
  readonly key: string
  readonly maxAge: number | undefined
  /** Undefined: only look. */
  readonly load: { readonly source: Source, readonly policy: Policy } | undefined
  /** What the source is to load. */
  readonly arg?: unknown
  /** Load, whatever the tiers hold. */
  readonly anew: boolean
}

/** Where a value came from: of a region's tier, it is always the same object. */
export type Origin = TierOrigin | 'loaded' | 'waited' | 'nowhere'

export interface TierOrigin { readonly tier: string }

export interface Landed {
  readonly shared: Shared
  readonly origin: Origin
  readonly stale: boolean
  /** The call that loaded it. */
  readonly call?: LoadCall | undefined
  /** Other keys that came with it. */
  readonly primed?: readonly Primed[] | undefined
  /** What the tiers took, for all keys of its batch. */
  readonly trip: Trip
}

export class Arrival implements Landed {
  readonly shared: Shared
  readonly origin: Origin
  readonly stale: boolean
  readonly call: LoadCall | undefined
  readonly primed: readonly Primed[] | undefined
  readonly trip: Trip

  constructor ({ shared, origin, stale, call, primed, trip }: Landed) {
    this.shared = shared
    this.origin = origin
    this.stale = stale
    this.call = call
    this.primed = primed
    this.trip = trip
  }
}

/** What a batch waited for. */
export interface Trip { readonly waits: { readonly tier: string, readonly milliseconds: number }[] }

/** Who waits for a flight. What it does with what it gets is done in the middle of landing: neither may throw, or run callers' code. */
export interface Landing {
  land (landed: Landed): void
  fail (error: unknown): void
}

/**
 * What overtakes a load; 'elsewhere', what another process has set or loaded anew. After a refresh, which may fail, the old
 * value can still be there.
 */
export type Revocation = 'elsewhere' | 'refresh' | 'set' | 'invalidation'

/** Of several, the weightiest counts; of those, the last. */
const weights: Readonly<Record<Revocation, number>> = { elsewhere: 0, refresh: 1, set: 2, invalidation: 2 }

/** Of a flight that nobody waits for. */
export const nobody: Landing = { land: () => {}, fail: () => {} }

/**
 * A key under way in this process. Whoever wants the key joins it (golang's singleflight, DataLoader's cache), unless an
 * invalidation has come in between. It calls those who wait, rather than settling a promise for each: a batch of a hundred
 * keys would make hundreds of them.
 */
export class Flight implements Landing {
  readonly want: Want
  generation: Generation | undefined
  /** It is on its way: what it finds may be older than who comes later. */
  departed = false
  /** Its loader is being asked, or somebody who may have been elected instead. */
  loading = false
  /** Its value was loaded, and is on its way into the tiers. */
  loaded = false
  /** Its value may have been invalidated since it took off: nobody joins it any more. */
  detached = false
  /** A tag was invalidated since, or the region softly: who comes later may get its value, where that doesn't have the tag, and not its failure. */
  overtaken = false
  /** What it carries may have been forgotten by a tag. */
  swept = false
  /** Why nothing of it is kept either: what somebody has done to the key since. */
  #revokedBy: Revocation | undefined
  /** No invalidation reaches it any more. */
  abandoned = false
  /** Among those that may be joined. */
  place: Place<Flight> | undefined
  /** Lets others load, where they would wait for this load in vain. */
  yield: (() => void) | undefined
  /** It could not be serialised: others won't find it in a tier. */
  unshared = false
  /** What it has seen where it isn't: its right to fill each shared tier, in their order. */
  leases: (Lease | undefined)[] | undefined
  /** What it has loaded, if that is to be kept. */
  entry: Entry | undefined
  /** What may be served until the load has ended, or if it fails. */
  stale: { entry: Entry, origin: Origin } | undefined
  trip: Trip = noTrip
  #first: Landing | undefined
  #landed: Landed | undefined
  /** Undefined: nobody has joined it, no loader waits for it, and it has brought nothing stale and no error. */
  #extras: Extras | undefined

  /** `first` is who it takes off for. */
  constructor (want: Want, generation: Generation | undefined, first: Landing) {
    this.want = want
    this.generation = generation
    this.#first = first
  }

  get key (): string {
    return this.want.key
  }

  /** The `maxAge`s of those who have joined it, where they differ from its own. */
  get otherAges (): readonly (number | undefined)[] | undefined {
    return this.#extras?.otherAges
  }

  /** Loaders that wait for it. */
  get awaitedBy (): ReadonlySet<Awaited> {
    return this.#extras?.awaitedBy ?? nothing
  }

  /** So far it has only looked, or waited: what it loads from now on is as new as what anybody loads. */
  renew (generation: Generation | undefined): void {
    if (!this.abandoned) this.#revokedBy = undefined
    this.overtaken = false
    this.generation = generation
  }

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
   * Whether it is to replace what is there. Two processes that do so at a time contend in the tiers: there, the one that has
   * taken the right last is the newer one.
   */
  get replaces (): boolean {
    return this.want.anew && (this.#revokedBy === undefined || this.#revokedBy === 'elsewhere')
  }

  /** Whether later readers may join it: at most one flight of a key is like that. */
  get joinable (): boolean {
    return this.place?.value === this
  }

  /** Who joins with this `maxAge` has to be content as well with what it finds. */
  alsoFor (maxAge: number | undefined): void {
    if (maxAge !== this.want.maxAge) (this.#need().otherAges ??= []).push(maxAge)
  }

  /** Whether the load of `key`, or one that this waits for, waits for it. */
  isWaitedForBy (key: string, seen?: Set<LoadCall>): boolean {
    for (const { caller } of this.awaitedBy) if (caller.isWaitedForBy(key, seen)) return true
    return false
  }

  /** By a loader, which must not come to wait for itself. */
  awaited (by: Awaited): void {
    (this.#need().awaitedBy ??= new Set()).add(by)
  }

  awaitedNoMore (by: Awaited): void {
    this.#extras?.awaitedBy?.delete(by)
  }

  /** For everybody but the first: what they get is somebody else's load. For some, what is stale won't do. */
  join (other: Landing, takesStale = true): void {
    if (this.#landed !== undefined) return other.land(asWaited(this.#landed))
    const extras = this.#need()
    if (takesStale && extras.forOthers !== undefined) other.land(extras.forOthers)
    else if (extras.error !== undefined) other.fail(extras.error.error)
    else if (takesStale) (extras.others ??= []).push(other)
    else (extras.patient ??= new Set()).add(other)
  }

  /** Of those who have joined it without taking what is stale: who waits no longer. */
  leave (other: Landing): void {
    this.#extras?.patient?.delete(other)
  }

  /** Whether the first has something, though it may be stale. */
  get landed (): boolean {
    return this.over || this.#extras?.hasStale === true
  }

  /** Whether there is nothing to come any more. */
  get over (): boolean {
    return this.#landed !== undefined || this.#extras?.error !== undefined
  }

  /** Those who have waited until now wait no longer. It goes on. */
  giveUp (error: unknown): void {
    const [extras, first] = [this.#need(), this.#first]
    extras.gaveUp = true
    this.#first = undefined
    first?.fail(error)
    extras.fail(error)
  }

  get gaveUp (): boolean {
    return this.#extras?.gaveUp === true
  }

  /** Whether somebody waits who can do with nothing stale. */
  get isAwaited (): boolean {
    return (this.#extras?.patient?.size ?? 0) > 0
  }

  land (landed: Landed): void {
    // What was loaded takes the place of a stale value for those who come later.
    if (landed.stale) this.#need().serve(asWaited(landed))
    else this.#landed = landed
    const first = this.#first
    this.#first = undefined
    first?.land(landed)
    this.#extras?.land(asWaited(landed))
  }

  /** Lets all but the first have it already: a stale value, dogpile's own way. */
  landOthers (stale: Landed): void {
    const [extras, waited] = [this.#need(), asWaited(stale)]
    extras.forOthers = waited
    extras.land(waited)
  }

  /** What is stale is still there for those who come later. */
  fail (error: unknown): void {
    if (this.over) return
    const [extras, first] = [this.#need(), this.#first]
    extras.error = { error }
    this.#first = undefined
    first?.fail(error)
    extras.fail(error)
  }

  #need (): Extras {
    return (this.#extras ??= new Extras())
  }
}

/** What most flights don't have: others who wait as well, loaders that wait for it, something stale, an error. */
class Extras {
  otherAges: (number | undefined)[] | undefined
  awaitedBy: Set<Awaited> | undefined
  others: Landing[] | undefined
  /** Others for whom what is stale won't do. */
  patient: Set<Landing> | undefined
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
    const [others, patient] = [this.others, landed.stale ? undefined : this.patient]
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

/** A loader that waits for a flight, and for those that this one is left to, as long as it does. */
export class Awaited implements Landing {
  readonly caller: LoadCall
  readonly #landing: Landing
  readonly #flights: Flight[] = []

  constructor (landing: Landing, caller: LoadCall) {
    this.#landing = landing
    this.caller = caller
  }

  await (flight: Flight): void {
    this.#flights.push(flight)
    flight.awaited(this)
  }

  land (landed: Landed): void {
    this.#end()
    this.#landing.land(landed)
  }

  fail (error: unknown): void {
    this.#end()
    this.#landing.fail(error)
  }

  #end (): void {
    for (const flight of this.#flights) flight.awaitedNoMore(this)
  }
}

const nothing: ReadonlySet<Awaited> = new Set()
export const noTrip: Trip = { waits: [] }

/** For whoever joins. The other keys that came with it were asked for by somebody else, perhaps before this one has invalidated them. */
const asWaited = (landed: Landed): Landed => landed.origin !== 'loaded' ? landed : { shared: landed.shared, origin: 'waited', stale: landed.stale, trip: landed.trip }
