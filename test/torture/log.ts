import { closeSync, openSync, readFileSync, writeSync } from 'node:fs'
import { origins, outcomes, ways, type Origin, type Outcome, type ReadWay, type WriteWay } from './ways.js'

/*
 * What a process saw and did, 32 bytes each: several thousand a second. It goes into a file a few times a second, so a
 * process that is killed takes no more than its last moments with it.
 *
 *   0  what it is, and its origin or outcome: a nibble each      1  way      2  cell
 *   4  version      8, 16, 24  times: see below
 */

export interface Read {
  readonly what: 'read'
  readonly way: ReadWay
  readonly origin: Origin
  readonly cell: number
  /** Undefined: there was none. */
  readonly version: number | undefined
  readonly began: number
  readonly ended: number
}

export interface Write {
  readonly what: 'write'
  readonly way: WriteWay
  readonly outcome: Outcome
  readonly cell: number
  readonly version: number
  /** When the new version was known to be in the database, when the cache was asked to forget the old one, and when it had. */
  readonly updated: number
  readonly asked: number
  readonly ended: number
}

/** What rejected; for a write it comes besides its own record. `error` is a number that the log has a code for. */
export interface Failure {
  readonly what: 'failure'
  readonly way: ReadWay | WriteWay
  readonly cell: number
  readonly error: number
  readonly began: number
  readonly ended: number
}

export type LogRecord = Read | Write | Failure

const size = 32
/** As many as two bytes can number. */
export const mostCells = 2 ** 16
const whats = ['read', 'write', 'failure'] as const
const none = -1
const roomFor = 2048

export class LogWriter {
  readonly #file: number
  readonly #buffer = Buffer.alloc(size * roomFor)
  #length = 0

  constructor (path: string) {
    this.#file = openSync(path, 'a')
  }

  write (record: LogRecord): void {
    const at = this.#length
    const buffer = this.#buffer
    const detail = record.what === 'read' ? origins.indexOf(record.origin) : record.what === 'write' ? outcomes.indexOf(record.outcome) : 0
    buffer[at] = whats.indexOf(record.what) * 16 + detail
    buffer[at + 1] = ways.indexOf(record.way)
    buffer.writeUInt16LE(record.cell, at + 2)
    buffer.writeInt32LE(record.what === 'failure' ? record.error : record.version ?? none, at + 4)
    buffer.writeDoubleLE(record.what === 'write' ? record.asked : record.began, at + 8)
    buffer.writeDoubleLE(record.ended, at + 16)
    buffer.writeDoubleLE(record.what === 'write' ? record.updated : 0, at + 24)
    this.#length += size
    if (this.#length === buffer.length) this.flush()
  }

  flush (): void {
    if (this.#length === 0) return
    writeSync(this.#file, this.#buffer, 0, this.#length)
    this.#length = 0
  }

  close (): void {
    this.flush()
    closeSync(this.#file)
  }
}

/** What is in the file so far. A last record that is cut off is left out. */
export function * readLog (path: string): Generator<LogRecord> {
  const bytes = readFileSync(path)
  for (let at = 0; at + size <= bytes.length; at += size) {
    const what = whats[bytes[at]! >> 4]!
    const detail = bytes[at]! & 15
    const way = ways[bytes[at + 1]!]!
    const cell = bytes.readUInt16LE(at + 2)
    const version = bytes.readInt32LE(at + 4)
    const first = bytes.readDoubleLE(at + 8)
    const ended = bytes.readDoubleLE(at + 16)
    switch (what) {
      case 'read':
        yield { what, way: way as ReadWay, origin: origins[detail]!, cell, version: version === none ? undefined : version, began: first, ended }
        break
      case 'write':
        yield { what, way: way as WriteWay, outcome: outcomes[detail]!, cell, version, asked: first, ended, updated: bytes.readDoubleLE(at + 24) }
        break
      case 'failure':
        yield { what, way, cell, error: version, began: first, ended }
    }
  }
}
