import type { Answer } from './demo-client.js'
import { sum } from './demo-client.js'

/** What a row of the table must say; what is absent may be anything. */
export interface Expected {
  /** Default 200. */
  status?: number
  local?: number
  memory?: number
  redis?: number
  memcached?: number
  loaded?: number
  /** Calls of a loader, as the servers count them. */
  loads: number
  /** Queries that the database was sent. Default: one for each loader call. */
  queries?: number
  /** Says what is wrong with the answers themselves. */
  body?: (answers: readonly Answer[]) => string | undefined
}

export interface Outcome {
  request: string
  /** What is special about it. */
  title: string
  answers: readonly Answer[]
  queries: number
  ms: number
}

const widths = [28, 35, 8, 43, 14] as const

/** Prints a row for each step, and remembers what was not as expected. */
export class DemoTable {
  readonly faults: string[] = []
  rows = 0

  head (): void {
    printRow(['request', '', 'status', 'answered by', 'loader calls'], 'time')
    console.log('─'.repeat(widths.reduce<number>((total, width) => total + width, 9)))
  }

  row (outcome: Outcome, expected: Expected): void {
    const stats = sum(outcome.answers)
    const status = [...new Set(outcome.answers.map(answer => answer.status))].join('/')
    const { memory = 0, redis = 0, memcached = 0 } = stats.tiers
    const answeredBy = Object.entries({ local: stats.local, memory, redis, memcached, loaded: stats.loaded, waited: stats.waited, stale: stats.stale })
    printRow(
      [shorten(outcome.request), outcome.title, status, answeredBy.filter(([, count]) => count > 0).map(([name, count]) => `${name} ${count}`).join(', ') || '-', String(stats.loads)],
      `${outcome.ms.toFixed(1)} ms`
    )
    this.rows++

    const actual = { status, local: stats.local, memory, redis, memcached, loaded: stats.loaded, loads: stats.loads, queries: outcome.queries }
    const { body, ...counts } = { queries: expected.loads, ...expected, status: String(expected.status ?? 200) }
    for (const [name, count] of Object.entries(counts)) {
      const found = actual[name as keyof typeof actual]
      if (found !== count) this.faults.push(`${outcome.title}: ${name} must be ${count}, was ${found}`)
    }
    const complaint = body?.(outcome.answers)
    if (complaint !== undefined) this.faults.push(`${outcome.title}: ${complaint}`)
  }
}

function printRow (cells: readonly string[], time: string): void {
  console.log(cells.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join('') + time.padStart(9))
}

function shorten (request: string): string {
  return request.length > 26 ? `${request.slice(0, 25)}…` : request
}
