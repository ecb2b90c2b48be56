import { setTimeout as pause } from 'node:timers/promises'
import type { Test } from 'tap'
import type { Line } from '../../lib/line.js'

export interface Gate {
  /** Resolves when the test opens the gate. */
  readonly opened: Promise<void>
  open (): void
}

/** Holds up whoever awaits `opened`, until the test calls `open()`: the order of events is the test's own. */
export function gate (): Gate {
  const { promise, resolve } = deferred()
  return { opened: promise, open: resolve }
}

export interface Deferred<T> {
  readonly promise: Promise<T>
  resolve (value: T): void
  reject (reason: unknown): void
}

export function deferred<T = void> (): Deferred<T> {
  let resolve!: (value: T) => void
  let reject!: (reason: unknown) => void
  const promise = new Promise<T>((_resolve, _reject) => {
    resolve = _resolve
    reject = _reject
  })
  return { promise, resolve, reject }
}

export interface CountingLoader<Id, Row> {
  /** As `loadMany` wants it: the rows that there are, in no promised order. */
  readonly load: (context: unknown, ids: readonly Id[]) => Promise<Row[]>
  /** As `loadOne` wants it. */
  readonly loadOne: (context: unknown, id: Id) => Promise<Row | undefined>
  readonly idOf: (row: Row) => Id
  /** The ids of each call, in the order of the calls. */
  readonly calls: Id[][]
  /** By id. A test changes what is in the database here. */
  readonly rows: Map<Id, Row>
}

/**
 * A loader over rows in memory that records what it was asked for. `before` runs between the question and the reading
 * of the rows: it waits for a gate, or throws.
 */
export function countingLoader<Id, Row extends { id: Id }> (
  rows: Iterable<Row & { id: Id }>,
  before: (ids: readonly Id[]) => unknown = () => {}
): CountingLoader<Id, Row> {
  const byId = new Map(Array.from(rows, (row: Row) => [row.id, row]))
  const calls: Id[][] = []
  async function load (_context: unknown, ids: readonly Id[]): Promise<Row[]> {
    calls.push([...ids])
    await before(ids)
    return ids.map(id => byId.get(id)).filter(row => row !== undefined)
  }
  return {
    load,
    loadOne: async (context, id) => (await load(context, [id]))[0],
    idOf: row => row.id,
    calls,
    rows: byId
  }
}

/** A load that the test lets end. */
export function heldLoad<T> (value: T) {
  const begun = gate()
  const held = gate()
  const load = async () => {
    load.calls++
    begun.open()
    await held.opened
    return value
  }
  load.calls = 0
  return { load, begun: begun.opened, end: held.open }
}

/** Fails whenever it is called, whatever it is taken for: a loader, a hook. */
export const failing = (message: string) => () => { throw new Error(message) }

export interface FakeClock {
  /** Milliseconds since the epoch. Needs no `this`: `{ now: clock.now }`. */
  readonly now: () => number
  advance (ms: number): void
}

/** Time that passes when the test says so. */
export function fakeClock (start = Date.UTC(2024, 0, 1)): FakeClock {
  let time = start
  return {
    now: () => time,
    advance: ms => { time += ms }
  }
}

export type LogLevel = 'debug' | 'info' | 'warn' | 'error'
export interface LogLine { details: object, message: string }
export type SilentLogger = Record<LogLevel, (details: object, message: string) => void> & {
  readonly lines: Readonly<Record<LogLevel, LogLine[]>>
}

/** A logger that prints nothing and remembers everything. */
export function silentLogger (): SilentLogger {
  const lines: Record<LogLevel, LogLine[]> = { debug: [], info: [], warn: [], error: [] }
  const record = (level: LogLevel) => (details: object, message: string): void => { lines[level].push({ details, message }) }
  return { debug: record('debug'), info: record('info'), warn: record('warn'), error: record('error'), lines }
}

/**
 * Asserts that something becomes true that no promise of ours tells of: a fact of another process or of a server. The
 * deadline only decides how long a failure takes.
 */
export async function eventually (
  t: Pick<Test, 'pass' | 'fail'>,
  condition: () => unknown,
  message: string,
  deadline = 20_000
): Promise<void> {
  const end = performance.now() + deadline
  let reason: unknown
  for (;;) {
    try {
      if (await condition() as boolean) {
        t.pass(message)
        return
      }
      reason = undefined
    } catch (error) {
      reason = error
    }
    if (performance.now() > end) break
    await pause(10)
  }
  t.fail(message, reason === undefined ? {} : { cause: reason })
}

/** A line between nobody else: everybody who listens to a channel here hears what is published, in its order. */
export function echoingLine (): { line: Line, interrupt: () => void } {
  const listeners = new Set<{ channel: string, listener: (message: string) => void, interrupted: (() => void) | undefined }>()
  const line: Line = {
    publish: async (channel, message) => {
      for (const one of listeners) if (one.channel === channel) one.listener(message)
    },
    listen: async (channel, listener, interrupted) => {
      const one = { channel, listener, interrupted }
      listeners.add(one)
      return () => { listeners.delete(one) }
    },
    reconnect: () => {},
    catchUp: async () => {},
    close: async () => {}
  }
  return { line, interrupt: () => { for (const { interrupted } of listeners) interrupted?.() } }
}
