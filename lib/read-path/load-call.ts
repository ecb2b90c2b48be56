import { AsyncLocalStorage, AsyncResource } from 'node:async_hooks'
import type { Flight } from './flight.js'

/** One call of a loader, for the flights whose keys it was given. */
export class LoadCall {
  /** How long the loader took, once it has ended. */
  milliseconds = 0
  /** What it has started may go on for longer, and is no part of the call any more. */
  ended = false
  #flights: readonly Flight[]
  #keys: Set<string> | undefined

  constructor (flights: readonly Flight[]) {
    this.#flights = flights
  }

  /** Its flights, and what they bring, are let go: a connection that the loader has opened keeps this call as its async context. */
  end (milliseconds: number): void {
    this.milliseconds = milliseconds
    this.ended = true
    this.#flights = []
    this.#keys = undefined
  }

  /** Whether this call loads `key`, or a call that waits for this one does: then it would wait for itself by waiting for `key`. */
  isWaitedForBy (key: string, seen = new Set<LoadCall>()): boolean {
    if (this.ended || seen.has(this)) return false
    seen.add(this)
    this.#keys ??= new Set(this.#flights.map(flight => flight.key))
    if (this.#keys.has(key)) return true
    return this.#flights.some(flight => flight.isWaitedForBy(key, seen))
  }
}

/*
 * Which call of a loader the running code belongs to. It is followed only while a loader runs: on Node 20 an
 * AsyncLocalStorage in use slows down every promise of the process.
 */
const calls = new AsyncLocalStorage<LoadCall>()
let running = 0

/** Whether any loader runs. If none does, nobody needs to ask whether the running code is part of one. */
export const isLoading = (): boolean => running > 0

/** The call of a loader that the running code is part of, if it hasn't ended. */
export function currentCall (): LoadCall | undefined {
  if (running === 0) return undefined
  const call = calls.getStore()
  return call === undefined || call.ended ? undefined : call
}

/** Runs work outside any request: the request's async context doesn't reach it. Loaders run there, and batches depart from there. */
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
      call.end(performance.now() - started)
      if (--running === 0) calls.disable()
    }
  }
}
