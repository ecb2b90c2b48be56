import type { Entry } from '../entry.js'
import { isMark } from '../entry-format.js'
import type { Stamp } from '../stamp.js'

/**
 * The right to fill a key of a tier: what the key held when the load began. That is either a mark or a value that a claim has
 * leased; or what a look has seen, and then the stamp tells whether that still holds.
 */
export interface Lease {
  readonly stamp: Stamp
  readonly held: Uint8Array | undefined
  /** Of a right that a look has given: when it ends, by performance.now(). */
  readonly seenUntil?: number
  /** Of a backend that refuses no fill: how many changes had begun in this process before the look. */
  readonly changes?: number
}

/** A second look before a load: what was filled meanwhile, and the right to replace it. Undefined: the tier is away. */
export type Claim = {
  readonly entry: Entry | undefined
  readonly lease: Lease
  /** It had not been claimed before. */
  readonly first: boolean
} | undefined

export interface ClaimOptions {
  /** Milliseconds after which the right ends. */
  ttl: number
  /** Revokes the right of all others. */
  takeOver?: boolean
}

/** What a read has found. In the order of its keys. */
export interface Look {
  readonly entries: (Entry | undefined)[]
  /** The right to fill the `i`th key with what is loaded from now on, where having looked is enough for it. */
  lease (i: number): Lease | undefined
}

export const sawNothing = (keys: readonly string[]): Look => ({ entries: keys.map(() => undefined), lease: () => undefined })

/** Without marks, a key that is missing counts as not claimed: it can't be known whether others have looked at it, too. */
export const claimOfLook = (entry: Entry | undefined, lease: Lease): Claim => ({ entry, lease, first: lease.held === undefined })

/** Whether there is a value for a fill to replace. */
export const holdsValue = ({ held }: Lease): boolean => held !== undefined && !isMark(held)
