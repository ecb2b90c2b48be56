import { readFileSync } from 'node:fs'
import { bestPeer, type Row, type Verdict } from './result.js'
import { number } from './report.js'

/** What ours may take: so many times what `of` takes, or so much more, or just so much. */
interface Target {
  readonly row: string
  /** 'limit', 'best peer', a peer's name, or a number that the row has beside its sides. */
  readonly of?: string
  readonly times?: number
  readonly plus?: number
  readonly atMost?: number
  /** No further away than the rounds of that one are from each other. */
  readonly withinNoiseOf?: string
}

/** A run that is noisier than this proves nothing. */
const mostNoise = 0.05

const targets = JSON.parse(readFileSync(new URL('./targets.json', import.meta.url), 'utf8')) as Target[]

/** For each target that the rows say something about. */
export function judge (rows: readonly Row[]): Verdict[] {
  const byName = new Map(rows.map(row => [row.name, row]))
  return targets.flatMap(target => {
    const row = byName.get(target.row)
    return row === undefined ? [] : [verdict(target, row)]
  })
}

function verdict ({ of = '', times, plus, atMost, withinNoiseOf }: Target, row: Row): Verdict {
  const { name: workload, ours, unit } = row
  const got = ours ?? Infinity
  if (atMost !== undefined) return { workload, wanted: `at most ${atMost}`, got: number(got), ok: got <= atMost }
  if (withinNoiseOf !== undefined) {
    const base = valueOf(row, withinNoiseOf)
    const [low, high] = row.spread?.[withinNoiseOf] ?? [base, base]
    const noise = Math.min(mostNoise, Math.max(0.01, (high - low) / base))
    return { workload, wanted: `within noise (±${(100 * noise).toFixed(0)} %) of ${withinNoiseOf}`, got: `${(got / base).toFixed(2)} ×`, ok: got / base <= 1 + noise }
  }
  const base = valueOf(row, of)
  if (plus !== undefined) return { workload, wanted: `${of} + ${plus} ${unit}`, got: `${of} + ${number(got - base)} ${unit}`, ok: got <= base + plus }
  return { workload, wanted: `${times} × ${of}`, got: `${(got / base).toFixed(2)} ×${of === 'best peer' ? ` (${bestPeer(row)?.[0]})` : ''}`, ok: got <= times! * base }
}

function valueOf (row: Row, of: string): number {
  if (of === 'best peer') return bestPeer(row)?.[1] ?? NaN
  if (of === 'limit') return row.limit ?? NaN
  return row.peers[of] ?? (row as unknown as Record<string, number | undefined>)[of] ?? NaN
}
