import type { Logger } from './logger.js'
import { within } from './within.js'

export interface BreakerOptions {
  /** As the log shows it. */
  name: string
  /** Milliseconds for one operation. */
  timeout: number
  logger: Pick<Logger, 'info' | 'warn'>
}

/** In place of an operation that was not tried. */
export class LeftAloneError extends Error {}

/** Failures in a row after which nothing is asked for a while. */
const patience = 3
const shortestPause = 100
const longestPause = 2000

/**
 * Gives an operation its budget, and leaves a tier alone that has failed several times in a row: for a growing while
 * everything is refused at once, then one operation probes it.
 */
export class Breaker {
  readonly #name: string
  #timeout: number
  readonly #logger: BreakerOptions['logger']
  #failing = false
  #failures = 0
  #pause = 0
  #probeAt = 0 // by performance.now(), while there is a pause
  #probing = false

  constructor ({ name, timeout, logger }: BreakerOptions) {
    this.#name = name
    this.#timeout = timeout
    this.#logger = logger
  }

  /** Whether the last operation failed. */
  get failing (): boolean {
    return this.#failing
  }

  /** From now on an operation has at least this budget. */
  allow (milliseconds: number): void {
    this.#timeout = Math.max(this.#timeout, milliseconds)
  }

  /** @throws what `operation` throws, or an error that says that it took too long or was not tried */
  async run<T> (operation: () => Promise<T>): Promise<T> {
    const probing = this.#pause > 0
    if (probing) {
      if (this.#probing || performance.now() < this.#probeAt) throw new LeftAloneError(`${this.#name} is left alone since it failed`)
      this.#probing = true
    }
    try {
      const result = await within(this.#timeout, operation(), this.#name)
      this.#succeeded(probing)
      return result
    } catch (error) {
      this.#failed(error, probing)
      throw error
    }
  }

  #succeeded (probing: boolean): void {
    if (probing) this.#probing = false
    this.#failing = false
    this.#failures = 0
    if (this.#pause === 0) return
    this.#pause = 0
    this.#logger.info({ tier: this.#name }, 'a tier is back')
  }

  #failed (error: unknown, probing: boolean): void {
    if (probing) this.#probing = false
    this.#failing = true
    // A part of it, with a breaker of its own, was not asked: that tells nothing of the rest, which may go on.
    if (error instanceof LeftAloneError) return
    this.#failures++
    // Those that were under way when it was left alone failed for the same reason: only a probe lengthens the pause.
    if (this.#failures < patience || (this.#pause > 0 && !probing)) return
    if (this.#pause === 0) this.#logger.warn({ tier: this.#name, err: error }, 'a tier is away: it is left alone, and probed')
    this.#pause = Math.min(longestPause, Math.max(shortestPause, 2 * this.#pause))
    this.#probeAt = performance.now() + this.#pause
  }
}
