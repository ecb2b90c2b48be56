import { milliseconds } from './clock.js'
import { readErrorCodes } from './error-codes.js'
import type { FaultSummary, Happened } from './faults.js'
import type { Layout } from './layout.js'
import { readLog, type Read, type Write } from './log.js'
import type { TortureOptions } from './options.js'
import { Oracle, type Author, type Authored, type Floor } from './oracle.js'
import type { Found, Log } from './victims.js'
import type { Origin, ReadWay, WriteWay } from './ways.js'

export interface Evidence {
  readonly layout: Layout
  readonly logs: readonly Log[]
  readonly happened: readonly Happened[]
  readonly lived: (author: Author) => boolean
}

/** A read that got what it must not, told so that somebody can find out why. */
export interface Explained {
  readonly cell: string
  readonly got: number
  readonly expected: number
  /** What read it, where, and what it says where that came from. */
  readonly reader: string
  /** What had forgotten it. */
  readonly floor: string
  /** Milliseconds from the end of that to the beginning of the read; undefined: when all was over. */
  readonly after: number | undefined
  /** What was wrong at that time. */
  readonly during: readonly string[]
}

/** Milliseconds; waits that a process slept through by itself, stopped, are left out. */
export interface Longest { readonly milliseconds: number, readonly way: string, readonly worker: number, readonly during: readonly string[] }

export interface Judged {
  readonly reads: number
  readonly writes: number
  readonly pending: number
  readonly stale: number
  readonly staleForGood: number
  readonly explained: readonly Explained[]
  readonly longestRead: Longest | undefined
  readonly longestWrite: Longest | undefined
  readonly byWay: Readonly<Record<string, number>>
  readonly byOrigin: Readonly<Record<string, number>>
  readonly staleByOrigin: Readonly<Record<string, number>>
  readonly errors: Readonly<Record<string, { count: number, message: string }>>
}

export interface Result extends Judged {
  readonly options: TortureOptions
  /** Milliseconds. */
  readonly lasted: number
  readonly faults: FaultSummary
  /** What was waited for in vain. */
  readonly hanging: readonly string[]
  /** Processes that ended by themselves. */
  readonly died: readonly string[]
}

const mostExplained = 5
/** A fault is told of when it had ended no longer than this before. Milliseconds. */
const recently = 1000

/** What the logs say, and what was found when all was over. */
export function judge (evidence: Evidence, found: readonly Found[] = []): Judged {
  const { layout, logs, happened, lived } = evidence
  const writes: Authored<Write>[] = []
  for (const { by, path } of logs) for (const record of readLog(path)) if (record.what === 'write') writes.push({ ...record, by })
  const oracle = new Oracle({ layout, writes, lived })
  const tally = new Tally(happened)
  const explained: Explained[] = []
  const missed = new Set<Write>()

  for (const { by, path } of logs) {
    const codes = readErrorCodes(path)
    for (const record of readLog(path)) {
      if (record.what === 'failure') {
        tally.failed(record, codes)
        continue
      }
      if (record.what === 'write' && record.outcome === 'begun') continue
      tally.count(record, by.worker)
      if (record.what === 'write') continue
      const floor = oracle.missed(record, by)
      if (floor === undefined) continue
      tally.stale(record)
      // Of those that missed the same, the first is enough.
      if (missed.has(floor.write) || missed.size === mostExplained) continue
      missed.add(floor.write)
      explained.push(explainRead(oracle, record, by, floor, happened))
    }
  }

  const forGood = found.flatMap(read => {
    const floor = oracle.missedForGood(read)
    return floor === undefined ? [] : [explainFound(oracle, read, floor)]
  })
  explained.push(...forGood.slice(0, mostExplained))
  return { ...tally.summary, pending: writes.filter(write => write.outcome === 'pending').length, staleForGood: forGood.length, explained }
}

/** Counts what is in the logs. */
class Tally {
  readonly #happened: readonly Happened[]
  readonly #byWay: Record<string, number> = {}
  readonly #byOrigin: Record<string, number> = {}
  readonly #staleByOrigin: Record<string, number> = {}
  readonly #errors: Record<string, { count: number, message: string }> = {}
  readonly #longest: { read?: Longest, write?: Longest } = {}
  #reads = 0
  #writes = 0
  #stale = 0

  constructor (happened: readonly Happened[]) {
    this.#happened = happened
  }

  count (record: Read | Write, worker: number): void {
    if (record.what === 'read') {
      this.#reads++
      add(this.#byOrigin, record.origin)
    } else this.#writes++
    add(this.#byWay, record.way)
    this.#waited(record.what, record.what === 'read' ? record.began : record.asked, record.ended, record.way, worker)
  }

  stale (read: Read): void {
    this.#stale++
    add(this.#staleByOrigin, read.origin)
  }

  failed ({ way, error }: { way: ReadWay | WriteWay, error: number }, codes: readonly { code: string, message: string }[]): void {
    const { code, message } = codes[error] ?? { code: 'unknown', message: 'written by a process that was killed' }
    const known = this.#errors[code] ??= { count: 0, message: `${way}: ${message}` }
    known.count++
  }

  get summary () {
    return {
      reads: this.#reads,
      writes: this.#writes,
      stale: this.#stale,
      longestRead: this.#longest.read,
      longestWrite: this.#longest.write,
      byWay: this.#byWay,
      byOrigin: this.#byOrigin,
      staleByOrigin: this.#staleByOrigin,
      errors: this.#errors
    }
  }

  #waited (what: 'read' | 'write', began: number, ended: number, way: string, worker: number): void {
    const waited = (ended - began) / milliseconds
    if (waited <= (this.#longest[what]?.milliseconds ?? 0)) return
    if (this.#happened.some(fault => fault.kind === 'freeze' && fault.worker === worker && fault.began <= ended && began <= fault.ended)) return
    this.#longest[what] = { milliseconds: waited, way, worker, during: during(this.#happened, began, ended) }
  }
}

function add (counts: Record<string, number>, name: string): void {
  counts[name] = (counts[name] ?? 0) + 1
}

function explainRead (oracle: Oracle, read: Read, by: Author, floor: Floor, happened: readonly Happened[]): Explained {
  return {
    ...explainFloor(oracle, read.cell, floor),
    got: read.version!,
    reader: `process ${by.worker}.${by.life}, ${read.way}, ${originText[read.origin]}, in ${((read.ended - read.began) / milliseconds).toFixed(1)} ms`,
    after: (read.began - floor.since) / milliseconds,
    during: during(happened, floor.write.asked, read.ended)
  }
}

function explainFound (oracle: Oracle, { cell, version, worker, way }: Found, floor: Floor): Explained {
  return { ...explainFloor(oracle, cell, floor), got: version!, reader: `process ${worker}, ${way}`, after: undefined, during: [] }
}

function explainFloor (oracle: Oracle, cell: number, { version, write }: Floor) {
  const { way, by, outcome, asked, ended } = write
  const where = write.cell === cell ? '' : ` of ${oracle.describe(write.cell)}`
  return {
    cell: oracle.describe(cell),
    expected: version,
    floor: `process ${by.worker}.${by.life}, ${way}${where}, ${outcome} in ${((ended - asked) / milliseconds).toFixed(1)} ms`
  }
}

const originText: Readonly<Record<Origin, string>> = {
  unknown: 'from somewhere',
  memory: 'from memory',
  shared: 'from the shared tier',
  stale: 'served stale',
  waited: "from another caller's load",
  loaded: 'loaded'
}

const during = (happened: readonly Happened[], began: number, ended: number): string[] =>
  happened.filter(fault => fault.began <= ended && began <= fault.ended + recently * milliseconds).map(fault => fault.what)
