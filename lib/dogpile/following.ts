import { Elected } from './elected.js'
import type { Elections } from './elections.js'
import { errorOf, type News } from './news.js'
import { Mailbox, type NewsChannel } from './news-channel.js'

/** What is to be done by a process that waits for the work of others. */
export interface Follower {
  /** Looks for results. Resolves to the names that have none yet. */
  look (names: readonly string[]): Promise<readonly string[]>
  /** The work of this name has failed elsewhere. */
  failed (name: string, error: Error): void
  /** This process is elected after all, or has waited long enough to do the work without an election. */
  lead (elected: Elected): Promise<void>
}

export interface FollowingOptions {
  elections: Elections
  channel: NewsChannel
  /** How often results are looked for though there are no news. Milliseconds. */
  poll: number
  /** How long others are waited for. Milliseconds. */
  wait: number
}

/** One wait for the work of others. */
export class Following {
  readonly #follower: Follower
  readonly #options: FollowingOptions
  readonly #waiting: Set<string>
  /** Work that has come to this process meanwhile. */
  readonly #led: Promise<void>[] = []

  constructor (names: readonly string[], follower: Follower, options: FollowingOptions) {
    this.#waiting = new Set(names)
    this.#follower = follower
    this.#options = options
  }

  /** Resolves when each name was found, has failed, or was led here to its end. */
  async run (): Promise<void> {
    const deadline = performance.now() + this.#options.wait
    const mailbox = new Mailbox()
    const stop = await this.#options.channel.listen(mailbox)
    try {
      await this.#follow(mailbox, deadline)
    } finally {
      stop()
    }
    await Promise.all(this.#led)
  }

  async #follow (mailbox: Mailbox, deadline: number): Promise<void> {
    const { elections, poll } = this.#options
    let pollAt = performance.now() + poll
    // 1. Look, now that the news are heard: those from before were missed.
    await this.#look()
    while (this.#waiting.size > 0) {
      const now = performance.now()
      if (now >= deadline) return this.#lead(new Elected([...this.#waiting]))
      // 2. Wait for news, or for the next poll.
      const done = this.#read(await mailbox.next(Math.min(deadline, pollAt) - now))
      // 3. At each poll try to be elected: the elected process may be gone. The clock says when, since news of other names may never cease.
      const isPolling = this.#waiting.size > 0 && performance.now() >= pollAt
      if (isPolling) {
        pollAt = performance.now() + poll
        this.#lead((await elections.holdAgain([...this.#waiting])).elected)
      }
      // 4. Look for what is said to be done, and at each poll for all: the news may have been lost.
      if (this.#waiting.size > 0 && (isPolling || done.size > 0)) await this.#look()
      // 5. What is done, and can't be found, was revoked meanwhile: it is anybody's again.
      const revoked = [...this.#waiting].filter(name => done.has(name))
      if (revoked.length > 0) this.#lead((await elections.hold(revoked)).elected)
    }
  }

  async #look (): Promise<void> {
    const missing = new Set(await this.#follower.look([...this.#waiting]))
    for (const name of this.#waiting) if (!missing.has(name)) this.#waiting.delete(name)
  }

  /** Returns the names that are said to be done. */
  #read (heard: readonly News[]): Set<string> {
    const done = new Set<string>()
    for (const news of heard) {
      const names = news.names.filter(name => this.#waiting.has(name))
      if (names.length === 0) continue
      if (news.outcome === 'failed') {
        for (const name of names) {
          this.#waiting.delete(name)
          this.#follower.failed(name, errorOf(news))
        }
      } else if (news.outcome === 'unshared') this.#lead(new Elected(names)) // each process has to do this work for itself
      else for (const name of names) done.add(name)
    }
    return done
  }

  #lead (elected: Elected | undefined): void {
    if (elected === undefined) return
    for (const name of elected.names) this.#waiting.delete(name)
    this.#led.push(this.#follower.lead(elected))
  }
}
