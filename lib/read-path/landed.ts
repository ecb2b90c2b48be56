import type { LoadCall } from './load-call.js'
import type { Primed } from './source.js'
import { own, type Shared } from '../values.js'

/** What a reader gets. A class, see *What is made for each key* in docs/decisions.md. */
export class Landed {
  readonly shared: Shared
  readonly origin: Origin
  readonly stale: boolean
  /** The call that loaded it. */
  readonly call?: LoadCall | undefined
  /** Values of other keys that came with it. */
  readonly primed?: readonly Primed[] | undefined
  readonly trip: Trip
  /** Nobody but the one who gets this has its value, or will ever have it. */
  readonly isSole?: boolean | undefined

  constructor ({ shared, origin, stale, call, primed, trip, isSole }: Landed) {
    this.shared = shared
    this.origin = origin
    this.stale = stale
    this.call = call
    this.primed = primed
    this.trip = trip
    this.isSole = isSole
  }
}

/** What one reader gets: its own. To be called once for each. */
export const ownOf = ({ shared, isSole }: Landed): unknown => isSole === true && shared.loose === undefined ? shared.value : own(shared)

/** Where a value came from. 'waited': from a load that another reader began. */
export type Origin = TierOrigin | 'loaded' | 'waited' | 'nowhere'

/** One object for each tier of a region, so that origins can be compared by identity. */
export interface TierOrigin { readonly tier: string }

/** How long a batch waited for each tier, for all of its keys: until the last of its parts had looked. */
export interface Trip { readonly waits: { readonly tier: string, milliseconds: number }[] }

export const noTrip: Trip = { waits: [] }

/**
 * Who waits for a flight, and is called when it lands. Both methods run in the middle of landing other keys: they must not
 * throw, nor call an application's code.
 */
export interface Waiter {
  land (landed: Landed): void
  fail (error: unknown): void
}

/** The waiter of a flight that takes off for nobody. */
export const nobody: Waiter = { land: () => {}, fail: () => {} }

/**
 * What a waiter gets that has joined. It doesn't get the values of other keys: another reader has asked for them, perhaps before
 * this one invalidated them.
 */
export function asWaited (landed: Landed): Landed {
  if (landed.origin !== 'loaded') return landed
  return new Landed({ shared: landed.shared, origin: 'waited', stale: landed.stale, trip: landed.trip })
}
