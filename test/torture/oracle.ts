import type { Layout } from './layout.js'
import type { Read, Write } from './log.js'
import { isSet, scopeOf } from './ways.js'

/** A process, and which of its lives: it is killed and started again. */
export interface Author { readonly worker: number, readonly life: number }
export type Authored<T> = T & { readonly by: Author }

/** From `since` on, nobody may begin to read anything older than `version`, unless it was set after `asked`. */
export interface Floor { readonly version: number, readonly since: number, readonly asked: number, readonly write: Authored<Write> }

export interface OracleOptions {
  layout: Layout
  writes: readonly Authored<Write>[]
  /** Whether a process lived to the end: only then what it couldn't deliver at once has been delivered. */
  lived: (author: Author) => boolean
}

/**
 * Knows what each read had to see. The times of all processes are of one clock, so "a read that began after an
 * invalidation had resolved" is a plain comparison.
 *
 * An invalidation makes everything older than itself forgotten, whoever wrote it: its floor is the newest version that
 * was known to be in the database, by anybody, when it was asked for. One that is pending is done in its own process,
 * and in all when everything is over, if its process has lived that long. Whoever sets a value may do so after somebody else
 * has forgotten it; the next time that it is forgotten, it has to go.
 */
export class Oracle {
  readonly #layout: Layout
  readonly #floors: Floors
  /** Those that hold in one process only. */
  readonly #own = new Map<string, Floors>()
  /** By cell: what must be seen when everything is over. */
  readonly #last: (Floor | undefined)[]
  /** By cell and version: until when it may have been set. */
  readonly #setUntil = new Map<string, number>()

  constructor ({ layout, writes, lived }: OracleOptions) {
    this.#layout = layout
    this.#floors = new Floors(layout)
    this.#last = Array.from({ length: layout.cells }, () => undefined)
    const known = new KnownVersions(layout, writes)
    for (const write of [...writes].sort((a, b) => a.ended - b.ended)) {
      const { way, cell, version, ended, outcome } = write
      if (isSet(way)) this.#setUntil.set(setOf(cell, version), Math.min(ended, this.#setUntil.get(setOf(cell, version)) ?? Infinity))
      if (outcome === 'failed' || outcome === 'begun') continue
      const floors = isSet(way) ? undefined : outcome === 'resolved' && way !== 'refresh' ? this.#floors : this.#floorsOf(write.by)
      const lasts = floors === this.#floors || lived(write.by)
      for (const cell of layout.covered(write.cell, scopeOf(write.way))) {
        const version = known.at(layout.cell(cell).id, write.asked)
        if (version === undefined) continue
        const floor = { version, since: write.ended, asked: write.asked, write }
        floors?.raise(cell, floor)
        if (lasts && isHigher(floor, this.#last[cell])) this.#last[cell] = floor
      }
    }
  }

  /** What this read has missed; undefined: it's right. */
  missed ({ cell, version, began }: Pick<Read, 'cell' | 'version' | 'began'>, by: Author): Floor | undefined {
    if (version === undefined) return undefined
    return [this.#floors, this.#own.get(nameOf(by))]
      .map(floors => floors?.at(cell, began))
      .find(floor => floor !== undefined && version < floor.version && !this.#wasSet(cell, version, floor))
  }

  /** The same of a read after everything is over: what was pending has been delivered by then. */
  missedForGood ({ cell, version }: Pick<Read, 'cell' | 'version'>): Floor | undefined {
    const floor = this.#last[cell]
    return version !== undefined && floor !== undefined && version < floor.version && !this.#wasSet(cell, version, floor) ? floor : undefined
  }

  #wasSet (cell: number, version: number, { asked }: Floor): boolean {
    return (this.#setUntil.get(setOf(cell, version)) ?? -Infinity) > asked
  }

  describe (cell: number): string {
    const { region, kind, id } = this.#layout.cell(cell)
    return `${region}/${kind}/${id}`
  }

  #floorsOf (author: Author): Floors {
    const name = nameOf(author)
    let floors = this.#own.get(name)
    if (floors === undefined) this.#own.set(name, floors = new Floors(this.#layout))
    return floors
  }
}

const setOf = (cell: number, version: number): string => `${cell} ${version}`
const nameOf = ({ worker, life }: Author): string => `${worker}.${life}`

const isHigher = (one: Floor, other: Floor | undefined): boolean =>
  other === undefined || one.version > other.version || (one.version === other.version && one.asked > other.asked)

/** By cell and time: later ones are higher. */
class Floors {
  readonly #byCell: Floor[][]

  constructor (layout: Layout) {
    this.#byCell = Array.from({ length: layout.cells }, () => [])
  }

  /** To be called in the order of time. */
  raise (cell: number, floor: Floor): void {
    const floors = this.#byCell[cell]!
    if (isHigher(floor, floors.at(-1))) floors.push(floor)
  }

  at (cell: number, time: number): Floor | undefined {
    const floors = this.#byCell[cell]!
    return floors[lastBefore(floors, time, floor => floor.since)]
  }
}

/** The newest version of each row that somebody knew of, by time. */
class KnownVersions {
  readonly #byRow: { version: number, since: number }[][]

  constructor (layout: Layout, writes: readonly Write[]) {
    this.#byRow = Array.from({ length: layout.rows }, () => [])
    for (const { cell, version, updated } of [...writes].sort((a, b) => a.updated - b.updated)) {
      const versions = this.#byRow[layout.cell(cell).id]!
      if (version > (versions.at(-1)?.version ?? 0)) versions.push({ version, since: updated })
    }
  }

  at (id: number, time: number): number | undefined {
    const versions = this.#byRow[id]!
    // Its own update is known at the very moment when it is asked for.
    return versions[lastBefore(versions, time + 1, known => known.since)]?.version
  }
}

/** The index of the last one before `time`, in a list that is sorted by time; -1: there is none. */
function lastBefore<T> (sorted: readonly T[], time: number, timeOf: (one: T) => number): number {
  let low = 0
  let high = sorted.length
  while (low < high) {
    const middle = (low + high) >> 1
    if (timeOf(sorted[middle]!) < time) low = middle + 1
    else high = middle
  }
  return low - 1
}
