import { isDivisible, type HeldLock } from '../locks/lock.js'
import { promiseTry } from '../promise-try.js'
import { withTimeout } from '../with-timeout.js'
import { newsOf, type News, type Outcome } from './news.js'

/** A lock that was taken, and how it is held. */
export interface Holding {
  readonly held: HeldLock
  /** How long each renewal lasts. Milliseconds. */
  readonly ttl: number
  /** How long the lock is renewed at all. Milliseconds. */
  readonly renewFor: number
  /** How long its release may take. Milliseconds. */
  readonly timeout: number
  readonly publish: (news: News) => Promise<void>
}

/** The right, and the duty, to do the work of some names. There is no lock where none could be asked, or where others were waited for long enough. */
export class Elected {
  readonly names: readonly string[]
  readonly #holding: Holding | undefined
  readonly #yielded = new Set<string>()
  readonly #renewal: NodeJS.Timeout | undefined

  constructor (names: readonly string[], holding?: Holding) {
    this.names = names
    this.#holding = holding
    if (holding !== undefined) this.#renewal = this.#renew(holding)
  }

  /** Wakes the followers of `names`. Never rejects. */
  async announce (names: readonly string[], outcome: Outcome): Promise<void> {
    const own = this.#yielded.size === 0 ? names : names.filter(name => !this.#yielded.has(name))
    if (this.#holding === undefined || own.length === 0) return
    await this.#holding.publish(newsOf(own, outcome))
  }

  /** Leaves a name to its followers, who can't use the result of the work that is done here. Never rejects. */
  async yield (name: string): Promise<void> {
    if (this.#holding === undefined || this.#yielded.has(name)) return
    const { held, timeout, publish } = this.#holding
    const isLast = this.#yielded.size + 1 === this.names.length
    if (!isLast && !isDivisible(held)) return
    this.#yielded.add(name)
    if (isLast) clearInterval(this.#renewal)
    await withTimeout(timeout, promiseTry(() => isLast || !isDivisible(held) ? held.release() : held.releaseSome([name])), 'the lock').catch(() => {})
    await publish(newsOf([name], { kind: 'done' }))
  }

  /** Never rejects. A server that doesn't answer is not waited for: the lock ends by itself. */
  async release (): Promise<void> {
    clearInterval(this.#renewal)
    if (this.#holding === undefined || this.#yielded.size === this.names.length) return
    const { held, timeout } = this.#holding
    await withTimeout(timeout, promiseTry(() => held.release()), 'the lock').catch(() => {})
  }

  #renew ({ held, ttl, renewFor }: Holding): NodeJS.Timeout {
    const until = performance.now() + renewFor
    const renewal = setInterval(() => {
      if (performance.now() > until) return clearInterval(renewal)
      // The work goes on though the lock is lost, and another process may hold it: both results are equally good.
      promiseTry(() => held.extend(ttl)).then(kept => { if (!kept) clearInterval(renewal) }, () => {})
    }, ttl / 3)
    return renewal.unref()
  }
}
