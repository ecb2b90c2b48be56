import { AsyncLocalStorage, AsyncResource } from 'node:async_hooks'
import type { Flight } from './flight.js'

/** One call of a loader, for the flights whose keys it was given. */
export class LoadCall {
  readonly flights: readonly Flight[]
  /** How long the loader took, once it has ended. */
  milliseconds = 0
  /** What it started may go on for longer, and is no part of it any more. */
  ended = false
  #keys: Set<string> | undefined

  constructor (flights: readonly Flight[]) {
    this.flights = flights
  }

  /** Whether this call, or one that waits for it, is the one that loads `key`: then waiting for it here would never end. */
  isWaitedForBy (key: string, seen = new Set<LoadCall>()): boolean {
    if (this.ended || seen.has(this)) return false
    seen.add(this)
    this.#keys ??= new Set(this.flights.map(flight => flight.key))
    if (this.#keys.has(key)) return true
    return this.flights.some(flight => flight.isWaitedForBy(key, seen))
  }
}

/*
 * Which call of a loader the running code belongs to. The context is followed only while a loader runs: on Node 20
 * following it taxes every promise of the process.
 */
const calls = new AsyncLocalStorage<LoadCall>()
let running = 0

/** Whether any loader runs: most code need not ask whether it is part of one. */
export const isLoading = (): boolean => running > 0

/** The call of a loader that the running code is part of. */
export function currentCall (): LoadCall | undefined {
  if (running === 0) return undefined
  const call = calls.getStore()
  return call === undefined || call.ended ? undefined : call
}

/** Where loaders run: outside any request, so that nothing of one, its async context least of all, reaches them. */
export class Outside {
  readonly #resource = new AsyncResource('fastify-caching-api')

  run<T> (work: () => T): T {
    return this.#resource.runInAsyncScope(work)
  }

  async runCall<T> (call: LoadCall, work: () => T | Promise<T>): Promise<T> {
    running++
    const started = performance.now()
    try {
      return await this.#resource.runInAsyncScope(() => calls.run(call, work))
    } finally {
      call.milliseconds = performance.now() - started
      call.ended = true
      if (--running === 0) calls.disable()
    }
  }
}
