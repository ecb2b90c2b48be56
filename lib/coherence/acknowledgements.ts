/** Another process that may believe its memory. When it greets again, a new one takes its place. */
interface Member {
  /** It has acknowledged this push and all before. */
  upTo: number
  /**
   * It failed to acknowledge, and was told that it isn't waited for any more: by then it has heard that, or its lease is
   * over. By performance.now(); Infinity while it is being told.
   */
  goneAt: number | undefined
}

/** A push that is not done yet. */
interface Pending {
  /** Members that have yet to acknowledge it. Undefined as long as not all members are known. */
  waitingFor: Set<string> | undefined
  /** Its echo was heard, and so was every hello that was said before it was published. */
  echoed: boolean
  timer: NodeJS.Timeout | undefined
  readonly done: () => void
}

/**
 * Which processes have to drop what this one invalidates, and which have done so. A push is done when each process that
 * believed its memory when it was published has acknowledged it, or can't believe its memory any longer. Acknowledgements are
 * cumulative.
 */
export class Acknowledgements {
  /** The longest that a member believes its memory without hearing from the line. Milliseconds. */
  #lease: number
  readonly #doubt: (member: string) => Promise<void>
  readonly #members = new Map<string, Member>()
  /** The pushes that are not done yet, by their numbers. */
  readonly #pending = new Map<number, Pending>()
  /** Every process that believes its memory has been heard of. */
  #allKnown = false
  #learningTimer: NodeJS.Timeout | undefined

  /** `doubt` tells a member that it isn't waited for any more; it resolves when that was published. */
  constructor (lease: number, doubt: (member: string) => Promise<void>) {
    this.#lease = lease
    this.#doubt = doubt
  }

  /** A member's greeting, or its answer to ours. */
  greeted (id: string, lease: number): void {
    this.#lease = Math.max(this.#lease, lease)
    this.#members.set(id, { upTo: this.#members.get(id)?.upTo ?? 0, goneAt: undefined })
  }

  left (id: string): void {
    this.#members.delete(id)
    this.#release(id, Infinity)
  }

  acknowledged (id: string, upTo: number): void {
    const member = this.#members.get(id)
    if (member !== undefined) member.upTo = Math.max(member.upTo, upTo)
    this.#release(id, upTo)
  }

  /** All members are known, and there are none. */
  get alone (): boolean {
    return this.#allKnown && this.#members.size === 0
  }

  /** All members were asked to show themselves. One that hasn't by the end of a lease no longer believes its memory. */
  asked (): void {
    if (this.#allKnown) return
    this.#learningTimer ??= setTimeout(() => {
      this.#allKnown = true
      for (const [number, pending] of this.#pending) if (pending.echoed) this.#decide(number, pending)
    }, this.#endOfLease).unref()
  }

  /** Greetings, acknowledgements and farewells may have been missed. */
  interrupted (): void {
    clearTimeout(this.#learningTimer)
    this.#learningTimer = undefined
    this.#allKnown = false
    this.#members.clear()
    for (const pending of this.#pending.values()) pending.waitingFor = undefined
  }

  /** Resolves when no process believes any more what push `number` tells it to forget. To be called before it is published. */
  wait (number: number): Promise<void> {
    return new Promise(resolve => {
      this.#pending.set(number, {
        waitingFor: undefined,
        echoed: false,
        timer: undefined,
        done: () => {
          clearTimeout(this.#pending.get(number)?.timer)
          this.#pending.delete(number)
          resolve()
        }
      })
    })
  }

  /** Members that don't hear of it stop believing their memory when their lease is over, counted from now at the latest. */
  published (number: number): void {
    const pending = this.#pending.get(number)
    if (pending !== undefined) pending.timer ??= setTimeout(() => { this.#giveUp(pending) }, this.#endOfLease)
  }

  /** The push could not be published. */
  withdrawn (number: number): void {
    this.#pending.get(number)?.done()
  }

  /** This process has heard its own push. */
  echoed (number: number): void {
    this.published(number)
    const pending = this.#pending.get(number)
    if (pending === undefined) return
    pending.echoed = true
    if (this.#allKnown) this.#decide(number, pending)
  }

  /** No acknowledgement will be heard any more: what is pending is done at the end of its lease. */
  close (): void {
    this.interrupted()
  }

  /** A timer may fire two milliseconds early, and the clocks of two machines don't run at quite the same speed. */
  get #endOfLease (): number {
    return 1.01 * this.#lease + 2
  }

  /** Which members have to acknowledge the push: those that have said hello, and may still believe their memory. */
  #decide (number: number, pending: Pending): void {
    const now = performance.now()
    for (const [id, { goneAt }] of this.#members) if (goneAt !== undefined && goneAt <= now) this.#members.delete(id)
    pending.waitingFor = new Set(Array.from(this.#members).filter(([, { upTo }]) => upTo < number).map(([id]) => id))
    if (pending.waitingFor.size === 0) pending.done()
  }

  #release (id: string, upTo: number): void {
    for (const [number, { waitingFor, done }] of this.#pending) {
      if (number <= upTo && waitingFor?.delete(id) === true && waitingFor.size === 0) done()
    }
  }

  #giveUp (pending: Pending): void {
    for (const id of pending.waitingFor ?? []) void this.#dismiss(id)
    pending.done()
  }

  /** A dead member holds up invalidations for as long as it takes until it counts as gone, and no longer. */
  async #dismiss (id: string): Promise<void> {
    const member = this.#members.get(id)
    if (member === undefined || member.goneAt !== undefined) return
    member.goneAt = Infinity
    try {
      await this.#doubt(id)
      // If it has greeted meanwhile, another Member stands for it, and this one has no effect.
      member.goneAt = performance.now() + this.#endOfLease
    } catch {
      member.goneAt = undefined // the next push that it doesn't acknowledge tries again
    }
  }
}
