import type { RequestStats } from 'fastify-caching-api'

/** One answer, and where its values came from. */
export interface Answer {
  status: number
  body: any
  stats: RequestStats
  /** The visitor's id, as the server sent it. */
  visitor: string | null
}

const patience = 10_000

const nothing: RequestStats = { local: 0, tiers: {}, stale: 0, loaded: 0, loads: 0, waited: 0 }

export interface Sent {
  /** Makes it a PATCH. */
  body?: object
  /** The visitor's id to send. */
  visitor?: string
}

export async function send (url: string, { body, visitor }: Sent = {}): Promise<Answer> {
  const headers = { ...(visitor !== undefined && { 'x-visitor': visitor }), ...(body && { 'content-type': 'application/json' }) }
  const init = { headers, ...(body && { method: 'PATCH', body: JSON.stringify(body) }) }
  const response = await fetch(url, { ...init, signal: AbortSignal.timeout(patience) })
  const header = response.headers.get('x-cache')
  return {
    status: response.status,
    body: await response.json(),
    stats: header === null ? nothing : JSON.parse(header),
    visitor: response.headers.get('x-visitor'),
  }
}

/** The counts of many answers in one. */
export function sum (answers: readonly Answer[]): RequestStats {
  return answers.map(answer => answer.stats).reduce((total, stats) => {
    const tiers: Record<string, number> = { ...total.tiers }
    for (const [name, found] of Object.entries(stats.tiers)) {
      tiers[name] = (tiers[name] ?? 0) + found
    }
    return {
      local: total.local + stats.local,
      tiers,
      stale: total.stale + stats.stale,
      loaded: total.loaded + stats.loaded,
      loads: total.loads + stats.loads,
      waited: total.waited + stats.waited,
    }
  }, nothing)
}
