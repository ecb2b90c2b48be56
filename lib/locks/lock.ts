/** Elects one holder for each name. */
export interface DogpileLock {
  /** All of `names`, or none: resolves to undefined at once where somebody else holds one of them. `ttl` in milliseconds. */
  acquire (names: readonly string[], ttl: number): Promise<HeldLock | undefined>
  /** Called once at boot, and not waited for: opens what the first election would otherwise wait for. */
  prepare? (): Promise<void>
  /** The connection that it works on, if it is just one, and that carries all its commands in their order. */
  readonly connection?: unknown
}

export interface HeldLock {
  readonly token: string
  /** False: it was lost meanwhile. */
  extend (ttl: number): Promise<boolean>
  /** Never throws. */
  release (): Promise<void>
  /** Some of its names; the others stay held. Never throws. Without it, a lock of several names is kept for all of them. */
  releaseSome? (names: readonly string[]): Promise<void>
}
