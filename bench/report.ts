import { bestPeer, type Machine, type Row, type Value, type Verdict } from './result.js'

/** Three digits that count. */
export function number (value: Value): string {
  if (value === null) return '–'
  if (!Number.isFinite(value)) return '?'
  const size = Math.abs(value)
  return value.toLocaleString('en', { maximumFractionDigits: size >= 100 ? 0 : size >= 10 ? 1 : 2 })
}

export const ratio = (ours: Value, other: Value | undefined): string =>
  ours === null || other === null || other === undefined || other === 0 ? '–' : `${(ours / other).toFixed(2)} ×`

export function machineLine ({ cpu, cores, memory, system, node }: Machine): string {
  return `${cpu}, ${cores} cores, ${memory}, ${system}, Node ${node}`
}

const heads = ['', 'ours', 'limit', 'ours : limit', 'best peer', '', 'ours : best']

/** Rows with each one's median and the ratios, and all peers below each. */
export function rowsTable (rows: readonly Row[]): string {
  const cells = rows.map(row => {
    const best = bestPeer(row)
    return [row.name, `${number(row.ours)} ${row.unit}`, number(row.limit), ratio(row.ours, row.limit), best?.[0] ?? '–', best === undefined ? '' : number(best[1]), ratio(row.ours, best?.[1])]
  })
  const lines = aligned([heads, ...cells])
  return [lines[0], ...rows.flatMap((row, i) => {
    const peers = Object.entries({ ...row.peers, ...row.without !== undefined && { 'no cache': row.without } }).filter(([, value]) => value !== null)
    return [lines[i + 1], ...peers.length > 1 ? [`    ${peers.map(([name, value]) => `${name}${row.byHand?.includes(name) === true ? ' by hand' : ''} ${number(value)}`).join(', ')}`] : []]
  })].join('\n')
}

export function verdictsTable (verdicts: readonly Verdict[]): string {
  return aligned([['workload', 'wanted, at most', 'got', ''], ...verdicts.map(({ workload, wanted, got, ok }) => [workload, wanted, got, ok ? 'ok' : 'missed'])], 3).join('\n')
}

/** Columns as wide as they have to be, numbers to the right. */
function aligned (rows: readonly (readonly string[])[], leftUpTo = 1): string[] {
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map(row => row[column]!.length)))
  return rows.map(row => row.map((cell, column) => column < leftUpTo || column === 4 ? cell.padEnd(widths[column]!) : cell.padStart(widths[column]!)).join('   ').trimEnd())
}
