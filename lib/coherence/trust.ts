/**
 * Whether this process may believe its memory: a lease (Gray & Cheriton) that it gives itself, whenever it knows that it has
 * heard everything that others had published when it asked. What it misses, if the line is broken now, was published after
 * that; and whoever published it waits for the length of the lease. So no two clocks are compared: the lease begins when the
 * question is sent, the others' wait when their message has been published, which is later.
 */
export class Trust {
  /** Milliseconds. */
  readonly lease: number
  /** By the monotonic clock, which goes on while the process is stopped. */
  #until = -Infinity
  #term = 0

  constructor (lease: number) {
    this.lease = lease
  }

  get held (): boolean {
    return performance.now() < this.#until
  }

  /** Before the line is asked. Afterwards `renew` with it; that does nothing, if something has happened in between. */
  ask (): { readonly term: number, readonly at: number } {
    return { term: this.#term, at: performance.now() }
  }

  /** Whether it was renewed. */
  renew ({ term, at }: { readonly term: number, readonly at: number }): boolean {
    if (term !== this.#term) return false
    this.#until = at + this.lease
    return true
  }

  /** What was asked before doesn't renew it. */
  discard (): void {
    this.#term++
  }

  /** Messages were missed, or the others don't wait any more. */
  end (): void {
    this.#term++
    this.#until = -Infinity
  }
}
