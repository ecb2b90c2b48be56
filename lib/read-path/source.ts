/** A loader, as the read path sees it. Keys of one tick that want the same source share a call of it. */
export interface Source {
  readonly maxBatch: number
  /** What one of `args` stands for, in an error: `City.getById(1)`. Without it, the key says that. */
  nameOf? (arg: unknown): string
  /** One result for each of `args`, in their order. */
  load (args: readonly unknown[]): Promise<readonly Loaded[]>
}

/** What a loader gives for one key. */
export type Loaded = { readonly error: unknown } | {
  /** `undefined` is returned and not cached. */
  readonly value: unknown
  readonly tags: readonly string[]
  /** Values of other keys that came with it. */
  readonly primed?: readonly Primed[]
}

export interface Primed { readonly key: string, readonly value: unknown, readonly tags: readonly string[], readonly policy: Policy }

/** How long loaded values are kept. Milliseconds. */
export interface Policy {
  readonly ttl: number
  readonly grace: number
  /** The ttl of `null`. Undefined: `null` is kept like any other value. */
  readonly negativeTtl: number | undefined
  /** False for a value that is returned and not cached. */
  readonly shouldCache: ((value: unknown) => boolean) | undefined
}
