/**
 * Whether this process may believe its memory: a lease (Gray & Cheriton) that it gives itself whenever it has asked the
 * line, and so knows that it has heard everything that was published before. What it may have missed was published later,
 * and the publisher waits for the length of the lease. No two clocks are compared: the lease begins when the question is
 * sent, the publisher's wait when its message has been published, which is later.
 */
export class Trust {
  /** Milliseconds. */
  readonly #lease: number
  /** When the lease is over, by performance.now(), which goes on while the process is stopped. */
  #until = -Infinity
  /** Raised by whatever makes earlier questions worthless. */
  #term = 0

  constructor (lease: number) {
    this.#lease = lease
  }

  get isHeld (): boolean {
    return performance.now() < this.#until
  }

  /** Begins a question. Call it before the line is asked, and then `renew` with its result, which does nothing after a `discard` or `end`. */
  ask (): { readonly term: number, readonly at: number } {
    return { term: this.#term, at: performance.now() }
  }

  /** Returns whether it was renewed. */
  renew ({ term, at }: { readonly term: number, readonly at: number }): boolean {
    if (term !== this.#term) return false
    this.#until = at + this.#lease
    return true
  }

  /** Earlier questions don't renew it. */
  discard (): void {
    this.#term++
  }

  /** Messages were missed, or others no longer wait for this process. */
  end (): void {
    this.#term++
    this.#until = -Infinity
  }
}
