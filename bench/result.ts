/** What one side, or the limit, or a peer took; null where it can't do that. Lower is better. */
export type Value = number | null

export interface Row {
  readonly name: string
  readonly unit: string
  /** What was done, in a sentence or two. */
  readonly about: string
  readonly ours: Value
  /** The same work by hand. */
  readonly limit: Value
  readonly peers: Readonly<Record<string, Value>>
  /** Peers that are a part of work done by hand, which no package of its name does. */
  readonly byHand?: readonly string[]
  /** The same route without a cache. */
  readonly without?: number
  /** The middle half of each one's rounds. */
  readonly spread?: Readonly<Record<string, readonly [number, number]>>
  readonly rounds?: number
}

export interface Machine {
  readonly cpu: string
  readonly cores: number
  readonly memory: string
  readonly system: string
  readonly node: string
}

export interface Result {
  readonly command: string
  readonly date: string
  readonly seed: number
  readonly quick: boolean
  readonly machine: Machine
  readonly versions: Readonly<Record<string, string>>
  readonly workloads: readonly Row[]
  readonly targets: readonly Verdict[]
}

export interface Verdict {
  readonly workload: string
  readonly wanted: string
  readonly got: string
  readonly ok: boolean
}

/** The fastest package that does the whole of it. */
export function bestPeer ({ peers, byHand = [] }: Row): [name: string, value: number] | undefined {
  return Object.entries(peers)
    .filter((peer): peer is [string, number] => peer[1] !== null && !byHand.includes(peer[0]))
    .sort((a, b) => a[1] - b[1])[0]
}
