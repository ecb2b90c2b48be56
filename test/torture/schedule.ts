import { clusterFaults, type FaultKind, type TortureOptions } from './options.js'
import { Random } from './random.js'

/** Milliseconds since the beginning, and how long it lasts. */
interface Timed { readonly at: number, readonly lasts: number }

export type Fault = Timed & (
  | { readonly kind: 'kill' | 'stop' | 'flush' | 'failover', readonly server: number }
  | { readonly kind: 'hold' | 'lose' | 'cut' | 'stall', readonly server: number, readonly worker: number }
  | { readonly kind: 'freeze' | 'crash', readonly worker: number }
  | { readonly kind: 'move', /** Whose slot: a number for the one that carries it out. */ readonly which: number }
)

export interface ScheduleOptions extends Pick<TortureOptions, 'seconds' | 'seed' | 'processes' | 'faults' | 'tier'> {
  /** Those that can be killed, stopped and flushed. */
  readonly servers: number
}

/** How often each kind comes, and for how many milliseconds: from, to. */
const habits: Readonly<Record<FaultKind, { weight: number, lasts: readonly [number, number] }>> = {
  kill: { weight: 2, lasts: [0, 1000] },
  stop: { weight: 3, lasts: [100, 3000] },
  flush: { weight: 2, lasts: [0, 0] },
  hold: { weight: 4, lasts: [50, 3000] },
  lose: { weight: 4, lasts: [50, 3000] },
  cut: { weight: 4, lasts: [0, 2000] },
  stall: { weight: 4, lasts: [100, 3000] },
  freeze: { weight: 4, lasts: [200, 2000] },
  crash: { weight: 2, lasts: [0, 500] },
  move: { weight: 4, lasts: [0, 300] },
  failover: { weight: 2, lasts: [100, 1500] }
}
/** Between two faults: some lie within another. */
const pauses = [50, 2500] as const
/** A first look at how everything works when nothing is wrong. */
const firstAfter = 500

/** Everything that will go wrong, in its order. */
export function schedule ({ seconds, seed, processes, faults, tier, servers }: ScheduleOptions): Fault[] {
  const random = new Random(seed, 'schedule')
  const possible = faults.filter(kind => tier === 'cluster' || !clusterFaults.includes(kind))
  const planned: Fault[] = []
  if (possible.length === 0) return planned
  const choices = possible.map(kind => ({ kind, weight: habits[kind].weight }))
  for (let at = firstAfter; at < seconds * 1000; at += random.between(...pauses)) {
    const { kind } = random.weighted(choices)
    const [least, most] = habits[kind].lasts
    // Most are short, some are long.
    const timed = { at: Math.round(at), lasts: Math.round(least + (most - least) * random.next() ** 2) }
    const server = random.index(servers)
    const worker = random.index(processes)
    switch (kind) {
      case 'kill': case 'stop': case 'flush': case 'failover': planned.push({ kind, ...timed, server }); break
      case 'hold': case 'lose': case 'cut': case 'stall': planned.push({ kind, ...timed, server, worker }); break
      case 'freeze': case 'crash': planned.push({ kind, ...timed, worker }); break
      case 'move': planned.push({ kind, ...timed, which: random.index(2 ** 16) })
    }
  }
  return planned
}
