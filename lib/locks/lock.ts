import { InvalidArgumentError, show } from '../errors.js'

/** Elects one holder for each name, among all processes: `redlock(clients)`, or one of your own. */
export interface DogpileLock {
  /** All of `names`, or none: resolves to undefined, without waiting, where somebody else holds one of them. `ttl` in milliseconds. */
  acquire (names: readonly string[], ttl: number): Promise<HeldLock | undefined>
  /** Those of `names` that nobody else holds; undefined for none. Without it, a batch of which others hold a part takes many attempts. */
  acquireSome? (names: readonly string[], ttl: number): Promise<{ readonly held: HeldLock, readonly names: readonly string[] } | undefined>
  /** Called once at boot, and not awaited: opens what the first election would otherwise wait for. */
  prepare? (): Promise<void>
  /** The connection that it works on, where a single one executes all its commands in order. */
  readonly connection?: unknown
}

export interface HeldLock {
  /** What tells this holder from any other one. */
  readonly token: string
  /** Holds it for `ttl` milliseconds from now. False: none of its names is held any more, as far as is known. Rejects where nobody could be asked. */
  extend (ttl: number): Promise<boolean>
  /** Never rejects. */
  release (): Promise<void>
}

/** A lock of several names that can release some of them. Any other is held for all its names until the last is done. */
export interface DivisibleLock extends HeldLock {
  /** The other names stay held. Never rejects. */
  releaseSome (names: readonly string[]): Promise<void>
}

export const isDivisible = (held: HeldLock): held is DivisibleLock => typeof (held as Partial<DivisibleLock>).releaseSome === 'function'

/** @throws InvalidArgumentError for a lock's time that is none, in milliseconds */
export function assertTtl (ttl: number): void {
  if (!(Math.round(ttl) >= 1)) throw new InvalidArgumentError("A lock's ttl", 'at least a millisecond', show(ttl))
}
