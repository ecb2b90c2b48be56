/** Elects one holder for each name, among all processes: `redlock(clients)`, or one of your own. */
export interface DogpileLock {
  /** All of `names`, or none: resolves to undefined at once where somebody else holds one of them. `ttl` in milliseconds. */
  acquire (names: readonly string[], ttl: number): Promise<HeldLock | undefined>
  /** Those of `names` that nobody else holds, in one attempt: without it, a batch of which somebody holds a part takes many. Undefined: none. */
  acquireSome? (names: readonly string[], ttl: number): Promise<{ readonly held: HeldLock, readonly names: readonly string[] } | undefined>
  /** Called once at boot, and not waited for: opens what the first election would otherwise wait for. */
  prepare? (): Promise<void>
  /** The connection that it works on, if it is just one, and that carries all its commands in their order. */
  readonly connection?: unknown
}

export interface HeldLock {
  /** What tells this holder from any other one. */
  readonly token: string
  /** False: none of its names is held any more, for all that is known. Rejects where nobody could be asked. */
  extend (ttl: number): Promise<boolean>
  /** Never throws. */
  release (): Promise<void>
}

/** A lock of several names that can let go of some of them; any other one is held for all of them until the last is done. */
export interface DivisibleLock extends HeldLock {
  /** The other names stay held. Never throws. */
  releaseSome (names: readonly string[]): Promise<void>
}

export const isDivisible = (held: HeldLock): held is DivisibleLock => typeof (held as Partial<DivisibleLock>).releaseSome === 'function'
