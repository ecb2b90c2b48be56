import type { Explained, Longest, Result } from './verdict.js'

/** A run as somebody reads it. */
export function report (result: Result): string {
  const { options, lasted, reads, writes, pending, stale, staleForGood, explained, faults, errors, hanging, died } = result
  const lines = [
    `${options.subject}, ${options.memory ? 'memory and ' : ''}${options.tier}, ${options.processes} processes, ${(lasted / 1000).toFixed(0)} s, seed ${options.seed}`,
    '',
    `reads           ${count(reads)} (${count(Math.round(reads / lasted * 60_000))} a minute)`,
    `invalidations   ${count(writes)}, of which ${count(pending)} were pending`,
    `answered        ${list(result.byOrigin)}`,
    `faults          ${list(faults.byKind)}${faults.skipped > 0 ? `; ${faults.skipped} left out, since their victim was hurt already` : ''}`,
    `longest read    ${longest(result.longestRead)}`,
    `longest write   ${longest(result.longestWrite)}`,
    `errors          ${Object.entries(errors).map(([code, { count }]) => `${code} ${count}`).join(', ') || 'none'}`,
    `stale reads     ${count(stale)}${stale > 0 ? `: ${list(result.staleByOrigin)}` : ''}`,
    `stale for good  ${count(staleForGood)}`
  ]
  for (const one of hanging) lines.push(`hanging         ${one}`)
  for (const one of died) lines.push(`died            ${one}`)
  for (const one of faults.failed) lines.push(`fault failed    ${one}`)
  return [...lines, ...explained.map(explain)].join('\n')
}

/** Whether a run was as it must be. */
export const isClean = ({ stale, staleForGood, hanging, died, faults }: Result): boolean =>
  stale === 0 && staleForGood === 0 && hanging.length === 0 && died.length === 0 && faults.failed.length === 0

/** Several runs beside each other. */
export function table (results: readonly Result[]): string {
  const rows = [
    ['', 'reads', 'invalidations', 'stale reads', 'stale for good', 'longest read', 'longest write', 'hanging', 'died'],
    ...results.map(({ options, reads, writes, stale, staleForGood, longestRead, longestWrite, hanging, died }) => [
      options.subject, count(reads), count(writes), count(stale), count(staleForGood), seconds(longestRead), seconds(longestWrite), count(hanging.length), count(died.length)
    ])
  ]
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map(row => row[column]!.length)))
  return rows.map(row => row.map((cell, column) => column === 0 ? cell.padEnd(widths[0]!) : cell.padStart(widths[column]!)).join('  ')).join('\n')
}

function explain ({ cell, got, expected, reader, floor, after, during }: Explained): string {
  const when = after === undefined ? 'when all was over' : `${after.toFixed(1)} ms later`
  return `\n${cell}: version ${got} instead of ${expected}\n  forgotten by    ${floor}\n  ${when.padEnd(15)} ${reader}${during.length > 0 ? `\n  meanwhile       ${during.join('; ')}` : ''}`
}

const count = (number: number): string => number.toLocaleString('en')

const list = (counts: Readonly<Record<string, number>>): string =>
  Object.entries(counts).sort(([, a], [, b]) => b - a).map(([name, number]) => `${name} ${count(number)}`).join(', ') || 'none'

const seconds = (longest: Longest | undefined): string => longest === undefined ? '' : `${(longest.milliseconds / 1000).toFixed(2)} s`

const longest = (one: Longest | undefined): string =>
  one === undefined ? 'none' : `${one.milliseconds.toFixed(0)} ms: ${one.way} in process ${one.worker}${one.during.length > 0 ? `, during: ${one.during.join('; ')}` : ''}`
