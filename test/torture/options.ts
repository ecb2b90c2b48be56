import { Layout } from './layout.js'
import { mostCells } from './log.js'

export const tiers = ['redis', 'memcached', 'cluster'] as const
export type Tier = typeof tiers[number]

/** What is done to servers, to the ways to them, and to processes. */
export const faultKinds = [
  'kill', 'stop', 'flush', // a server: killed and started empty, silent for a while, emptied
  'hold', 'lose', 'cut', // the way from a process to a server: silent; silent, and then reset; reset and refused
  'stall', // one of the connections on that way, silent while the others go on
  'freeze', 'crash', // a process: stopped for a while, killed and started again
  'move', 'failover' // in a Cluster: a slot moves, a replica takes over from a master that dies
] as const
export type FaultKind = typeof faultKinds[number]
/** These need replicas and slots. */
export const clusterFaults: readonly FaultKind[] = ['move', 'failover']

export interface TortureOptions {
  readonly seconds: number
  /** The same schedule of faults and the same choices, as far as real processes allow. */
  readonly seed: number
  readonly processes: number
  readonly tier: Tier
  /** Whether there is a memory tier in front. */
  readonly memory: boolean
  /** All of them: all that there are for the tier. */
  readonly faults: readonly FaultKind[]
  readonly rows: number
  /** How much slower loaders are than usual. */
  readonly slow: number
  /** Whose cache: 'ours'; 'ours, plain', in the ways that peers have; or a peer's name. */
  readonly subject: string
  /** The folder whose `lib/` and `plugin/` are tortured. */
  readonly build: string
  /** Ends as soon as something stale was read. */
  readonly untilStale: boolean
}

export const defaults: Omit<TortureOptions, 'build'> = {
  seconds: 60,
  seed: 1,
  processes: 4,
  tier: 'redis',
  memory: true,
  faults: faultKinds,
  rows: 32,
  slow: 1,
  subject: 'ours',
  untilStale: false
}

/** Of the caches that can be tortured; the others are compared, and not judged. */
export const isOurs = (subject: string): boolean => subject.startsWith('ours')

/** For each process: one of its own, and as many for all of them. */
const leastRows = 2
const mostRows = Math.floor(mostCells / new Layout(1).cells)

/** Why there can be no such run, if there can't. */
export function refusal ({ rows, processes, tier, faults, subject }: TortureOptions): string | undefined {
  if (rows < leastRows * processes) return `${processes} processes need ${leastRows * processes} rows at least, got ${rows}`
  if (rows > mostRows) return `the log has room for ${mostRows} rows at most, got ${rows}`
  const impossible = tier === 'cluster' || faultKinds.every(kind => faults.includes(kind)) ? [] : faults.filter(kind => clusterFaults.includes(kind))
  if (impossible.length > 0) return `the faults ${impossible.join(' and ')} need the tier cluster, got ${tier}`
  if (!isOurs(subject) && tier !== 'redis') return `peers are tortured over redis, got the tier ${tier}`
}
