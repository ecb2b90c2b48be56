import { isOurs } from './options.js'
import type { Explained, Longest, Result } from './verdict.js'

/** What rejects where all is well: a loader that throws now and then, and an invalidation that is told to be late. */
export const expectedErrors: readonly string[] = ['TORTURE_LOADER', 'FST_CACHING_API_INVALIDATION_PENDING']

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
  if (isOurs(options.subject)) {
    for (const [code, { count, message }] of unexpected(result)) lines.push(`unexpected      ${code} ${count}, the first one by ${message}`)
    lines.push(`verdict         ${wrongs(result).join(', ') || 'clean'}`)
  }
  return [...lines, ...explained.map(explain)].join('\n')
}

/** Whether a run was as it must be. One of peers always is. */
export const isClean = (result: Result): boolean => !isOurs(result.options.subject) || wrongs(result).length === 0

/** Whether a run has found out that a guard is missing: not if a process died of itself, which a guard doesn't prevent. */
export const isFoundOut = ({ stale, staleForGood, died }: Result): boolean => stale + staleForGood > 0 && died.length === 0

/** What there must not be. */
function wrongs (result: Result): string[] {
  const { reads, stale, staleForGood, hanging, died, faults } = result
  const counted = {
    'stale reads': stale,
    'stale for good': staleForGood,
    hanging: hanging.length,
    died: died.length,
    'faults failed': faults.failed.length,
    'errors unexpected': unexpected(result).reduce((sum, [, { count }]) => sum + count, 0)
  }
  const wrong = Object.entries(counted).filter(([, number]) => number > 0).map(([name, number]) => `${name} ${count(number)}`)
  return reads === 0 ? ['nothing was read', ...wrong] : wrong
}

const unexpected = ({ errors }: Result) => Object.entries(errors).filter(([code]) => !expectedErrors.includes(code))

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
