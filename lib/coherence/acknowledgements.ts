/** Another process that may believe its memory. When it greets again, a new one takes its place. */
interface Member {
  /** The last push that it has acknowledged, and with it all before. */
  upTo: number
  /**
   * It did not acknowledge, and was told that nobody waits for it: by then it knows, or it no longer believes its memory.
   * By performance.now(); Infinity while it is being told.
   */
  goneAt: number | undefined
}

/** A push that was published. */
interface Awaited {
  /** Undefined: nobody knows yet who they are. */
  by: Set<string> | undefined
  /** Its echo was heard: whoever has said hello before it was published has been heard as well. */
  echoed: boolean
  timer: NodeJS.Timeout | undefined
  readonly done: () => void
}

/**
 * Who has to drop what this process invalidates, and who has done so. A push is over when each process that believed its memory
 * when the push was published has acknowledged it, or can't believe it any longer. Acknowledgements are cumulative.
 */
export class Acknowledgements {
  /** The longest that a member believes its memory without hearing from the line. Milliseconds. */
  #lease: number
  readonly #doubt: (member: string) => Promise<void>
  readonly #members = new Map<string, Member>()
  readonly #awaited = new Map<number, Awaited>()
  /** Everybody who believes his memory has been heard of. */
  #allKnown = false
  #learning: NodeJS.Timeout | undefined

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

  /** Everybody is known, and there is nobody. */
  get alone (): boolean {
    return this.#allKnown && this.#members.size === 0
  }

  /** All members were asked to show themselves. Whoever hasn't when a lease is over no longer believes his memory. */
  asked (): void {
    if (this.#allKnown) return
    this.#learning ??= setTimeout(() => {
      this.#allKnown = true
      for (const [number, awaited] of this.#awaited) if (awaited.echoed) this.#decide(number, awaited)
    }, this.#endOfLease).unref()
  }

  /** Greetings, acknowledgements and farewells may have been missed. */
  interrupted (): void {
    clearTimeout(this.#learning)
    this.#learning = undefined
    this.#allKnown = false
    this.#members.clear()
    for (const awaited of this.#awaited.values()) awaited.by = undefined
  }

  /** Resolves when nobody believes what push `number` tells to forget. To be called before it is published. */
  wait (number: number): Promise<void> {
    return new Promise(resolve => {
      this.#awaited.set(number, {
        by: undefined,
        echoed: false,
        timer: undefined,
        done: () => {
          clearTimeout(this.#awaited.get(number)?.timer)
          this.#awaited.delete(number)
          resolve()
        }
      })
    })
  }

  /** It was published before now: the leases of those who will not hear of it end by themselves. */
  published (number: number): void {
    const awaited = this.#awaited.get(number)
    if (awaited !== undefined) awaited.timer ??= setTimeout(() => { this.#giveUp(awaited) }, this.#endOfLease)
  }

  /** It could not be published. */
  withdrawn (number: number): void {
    this.#awaited.get(number)?.done()
  }

  /** Its echo. */
  echoed (number: number): void {
    this.published(number)
    const awaited = this.#awaited.get(number)
    if (awaited === undefined) return
    awaited.echoed = true
    if (this.#allKnown) this.#decide(number, awaited)
  }

  /** No acknowledgement is heard any more: what is still waited for takes a lease. */
  close (): void {
    this.interrupted()
  }

  /** A timer may fire two milliseconds early, and the clocks of two machines don't run at quite the same speed. */
  get #endOfLease (): number {
    return 1.01 * this.#lease + 2
  }

  /** Who has to acknowledge it. */
  #decide (number: number, awaited: Awaited): void {
    const now = performance.now()
    for (const [id, { goneAt }] of this.#members) if (goneAt !== undefined && goneAt <= now) this.#members.delete(id)
    awaited.by = new Set(Array.from(this.#members).filter(([, { upTo }]) => upTo < number).map(([id]) => id))
    if (awaited.by.size === 0) awaited.done()
  }

  #release (id: string, upTo: number): void {
    for (const [number, { by, done }] of this.#awaited) {
      if (number <= upTo && by?.delete(id) === true && by.size === 0) done()
    }
  }

  #giveUp (awaited: Awaited): void {
    for (const id of awaited.by ?? []) void this.#dismiss(id)
    awaited.done()
  }

  /** A dead member holds up each invalidation only until then. */
  async #dismiss (id: string): Promise<void> {
    const member = this.#members.get(id)
    if (member === undefined || member.goneAt !== undefined) return
    member.goneAt = Infinity
    try {
      await this.#doubt(id)
      // If it has greeted meanwhile, perhaps since it was told, then this is not the one that is waited for now.
      member.goneAt = performance.now() + this.#endOfLease
    } catch {
      member.goneAt = undefined // the next push that it doesn't acknowledge tries again
    }
  }
}
