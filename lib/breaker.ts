import type { Logger } from './logger.js'
import { withTimeout } from './with-timeout.js'

export interface BreakerOptions {
  /** What the log calls it. */
  name: string
  /** Milliseconds for one operation. */
  timeout: number
  logger: Pick<Logger, 'info' | 'warn'>
}

/** The breaker is open: the operation was not tried. */
export class BreakerOpenError extends Error {}

/** Another operation stands in the way of this one, which tells nothing of whether the tier is there. */
export class HeldUpError extends Error {}

/** After so many failures in a row the breaker opens. */
const mostFailures = 3
/** An open breaker pauses before it lets a probe through; the pause doubles with each probe that fails. Milliseconds. */
const shortestPause = 100
const longestPause = 2000

/**
 * A circuit breaker with a timeout for each operation. After several failures in a row it opens: for a growing while every
 * operation is refused at once, then one probes whether the tier is back.
 */
export class Breaker {
  readonly #name: string
  #timeout: number
  readonly #logger: BreakerOptions['logger']
  #failing = false
  #failures = 0
  /** 0: the breaker is closed. */
  #pause = 0
  /** When an open breaker lets the next probe through, by performance.now(). */
  #probeAt = 0
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

  /** From now on each operation may take at least this long; never less than before. */
  raiseTimeout (milliseconds: number): void {
    this.#timeout = Math.max(this.#timeout, milliseconds)
  }

  /** @throws what `operation` throws, an error after the timeout, or BreakerOpenError */
  async run<T> (operation: () => Promise<T>): Promise<T> {
    const probing = this.#pause > 0
    if (probing) {
      if (this.#probing || performance.now() < this.#probeAt) throw new BreakerOpenError(`${this.#name} is left alone since it failed`)
      this.#probing = true
    }
    try {
      const result = await withTimeout(this.#timeout, operation(), this.#name)
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
    if (error instanceof HeldUpError) return
    this.#failing = true
    // The tier is on several servers, and the breaker of one of them is open: that tells nothing of the others.
    if (error instanceof BreakerOpenError) return
    this.#failures++
    // Operations that were under way when the breaker opened fail for the same reason: only a probe lengthens the pause.
    if (this.#failures < mostFailures || (this.#pause > 0 && !probing)) return
    if (this.#pause === 0) this.#logger.warn({ tier: this.#name, err: error }, 'a tier is away: it is left alone, and probed')
    this.#pause = Math.min(longestPause, Math.max(shortestPause, 2 * this.#pause))
    this.#probeAt = performance.now() + this.#pause
  }
}
