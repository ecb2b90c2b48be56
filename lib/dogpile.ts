import { Breaker } from './breaker.js'
import { show } from './errors.js'
import type { Logger } from './caching-manager.js'
import type { Line } from './line.js'
import { isDivisible, type DogpileLock, type HeldLock } from './locks/lock.js'
import { within } from './within.js'

/*
 * Election: who does a piece of work, and how the others learn that it is done. It knows names, and nothing of caches.
 * The idea is dogpile's; that a message wakes those who wait, instead of the end of a lock, is ours.
 */

export interface DogpileOptions {
  lock: DogpileLock
  /** Carries the news. Without one the others look again from time to time. */
  line: Pick<Line, 'publish' | 'listen'> | undefined
  channel: string
  /** How long somebody who was elected, and is heard of no more, may hold the others up. Milliseconds. */
  ttl: number
  /** How long the others wait before they do the work themselves. Milliseconds. */
  wait: number
  /** For one question to the lock or the line. Milliseconds. */
  budget: number
  /** How long a lock is renewed. Milliseconds. */
  longest: number
  logger: Logger
}

/** What became of a name: there is something to be seen, or the work failed, or its result can't be shared. */
export type Outcome = { kind: 'done' } | { kind: 'failed', error: unknown } | { kind: 'unshared' }

interface News { readonly names: readonly string[], readonly outcome: 'done' | 'failed' | 'unshared', readonly error?: TravellingError }

/** An error as another process sees it. */
interface TravellingError { name: string, message: string, code?: string, statusCode?: number }

export interface Followed {
  /** Looks for results. Resolves to the names that have none yet. */
  look (names: readonly string[]): Promise<readonly string[]>
  /** The work of these names failed elsewhere. */
  failed (name: string, error: Error): void
  /** This process is elected after all, or must do without an election. */
  lead (elected: Elected): Promise<void>
}

/** A lock, and what is done with it. Milliseconds. */
interface Holding {
  readonly held: HeldLock
  readonly ttl: number
  readonly longest: number
  readonly budget: number
  readonly publish: (news: News) => Promise<void>
}

/** The right, and the duty, to do the work of some names. Without a lock: because nobody could be asked. */
export class Elected {
  readonly names: readonly string[]
  readonly #holding: Holding | undefined
  /** Those that are left to others. */
  readonly #yielded = new Set<string>()
  readonly #renewal: NodeJS.Timeout | undefined

  constructor (names: readonly string[], holding?: Holding) {
    this.names = names
    this.#holding = holding
    if (holding === undefined) return
    const { held, ttl, longest } = holding
    const until = performance.now() + longest
    this.#renewal = setInterval(() => {
      if (performance.now() > until) return clearInterval(this.#renewal)
      // A lock that was lost is somebody else's now. The work goes on: its result is as good as theirs.
      ask(() => held.extend(ttl)).then(kept => { if (!kept) clearInterval(this.#renewal) }, () => {})
    }, ttl / 3)
    this.#renewal.unref()
  }

  /** Wakes those who wait for `names`. Never rejects. */
  async announce (names: readonly string[], outcome: Outcome): Promise<void> {
    const own = this.#yielded.size === 0 ? names : names.filter(name => !this.#yielded.has(name))
    if (this.#holding === undefined || own.length === 0) return
    await this.#holding.publish(outcome.kind === 'failed'
      ? { names: own, outcome: 'failed', error: travelling(outcome.error) }
      : { names: own, outcome: outcome.kind })
  }

  /** Leaves a name to those who wait for it: what comes of the work here is of no use to them. Never rejects. */
  async yield (name: string): Promise<void> {
    if (this.#holding === undefined || this.#yielded.has(name)) return
    const { held, budget, publish } = this.#holding
    const isLast = this.#yielded.size + 1 === this.names.length
    if (!isLast && !isDivisible(held)) return
    this.#yielded.add(name)
    if (isLast) clearInterval(this.#renewal)
    await within(budget, ask(() => isLast || !isDivisible(held) ? held.release() : held.releaseSome([name])), 'the lock').catch(() => {})
    await publish({ names: [name], outcome: 'done' })
  }

  /** Never rejects. A server that doesn't answer is not waited for: the lock ends by itself. */
  async release (): Promise<void> {
    clearInterval(this.#renewal)
    if (this.#holding === undefined || this.#yielded.size === this.names.length) return
    const { held, budget } = this.#holding
    await within(budget, ask(() => held.release()), 'the lock').catch(() => {})
  }
}

export class Dogpile {
  readonly #options: DogpileOptions
  readonly #breaker: Breaker
  /** How often the others look though nothing was said. */
  readonly #poll: number
  /** How long a lock is held without renewing it: it ends early enough for a look before `ttl` is over. */
  readonly #hold: number

  constructor (options: DogpileOptions) {
    this.#options = options
    this.#breaker = new Breaker({ name: `the lock for ${options.channel}`, timeout: options.budget, logger: options.logger })
    this.#poll = Math.min(250, Math.max(10, options.ttl / 20))
    this.#hold = Math.max(1, options.ttl - 2 * this.#poll)
  }

  /**
   * One attempt for all names, and where somebody holds one of them, one for each: nobody's work on one name makes
   * another wait. Never rejects: where no lock can be had, everybody is elected.
   */
  async elect (names: readonly string[]): Promise<{ elected: Elected[], others: string[] }> {
    const all = await this.#acquire(names)
    if (all !== undefined) return { elected: [all], others: [] }
    if (names.length === 1) return { elected: [], others: [...names] }
    const each = await Promise.all(names.map(name => this.#acquire([name])))
    return {
      elected: each.filter(one => one !== undefined),
      others: names.filter((_, i) => each[i] === undefined)
    }
  }

  /** Elected without asking. */
  unelected (names: readonly string[]): Elected {
    return new Elected(names)
  }

  async #acquire (names: readonly string[]): Promise<Elected | undefined> {
    const { lock, longest, budget, logger } = this.#options
    let asked: Promise<HeldLock | undefined> | undefined
    try {
      const held = await this.#breaker.run(() => (asked = ask(() => lock.acquire(names, this.#hold))))
      return held == null ? undefined : new Elected(names, { held, ttl: this.#hold, longest, budget, publish: news => this.#publish(news) })
    } catch (error) {
      logger.debug({ names, err: error }, 'no lock could be had: loading without an election')
      asked?.then(late => late?.release()).catch(() => {})
      return this.unelected(names)
    }
  }

  async #publish (news: News): Promise<void> {
    const { line, channel, budget, logger } = this.#options
    if (line === undefined) return
    try {
      await within(budget, line.publish(channel, JSON.stringify(news)), 'the line')
    } catch (error) {
      logger.debug({ err: error }, 'those who wait could not be woken: they will look by themselves')
    }
  }

  /** Waits for the work of others. Resolves when each name was found, has failed, or was led here. */
  async follow (names: readonly string[], { look, failed, lead }: Followed): Promise<void> {
    const deadline = performance.now() + this.#options.wait
    const waiting = new Set(names)
    const led: Promise<void>[] = []
    const start = (elected: Elected) => {
      for (const name of elected.names) waiting.delete(name)
      led.push(lead(elected))
    }
    const contend = async (names: readonly string[]) => {
      if (names.length > 0) (await this.elect(names)).elected.forEach(start)
    }

    const mailbox = new Mailbox()
    const stop = await this.#listen(mailbox)
    let lookAt = performance.now() + this.#poll
    try {
      // The news may have come while we began to listen.
      let missing = await look([...waiting])
      for (;;) {
        for (const name of waiting) if (!missing.includes(name)) waiting.delete(name)
        if (waiting.size === 0) break
        const now = performance.now()
        if (now >= deadline) {
          start(this.unelected([...waiting]))
          break
        }
        const heard = await mailbox.next(Math.min(deadline, lookAt) - now)
        const done = new Set<string>()
        for (const { names, outcome, error } of heard) {
          const concerned = names.filter(name => waiting.has(name))
          if (concerned.length === 0) continue
          if (outcome === 'failed') {
            for (const name of concerned) {
              waiting.delete(name)
              failed(name, arrived(error))
            }
          } else if (outcome === 'unshared') start(this.unelected(concerned))
          else for (const name of concerned) done.add(name)
        }
        // By the clock, since there may always be news of other names: perhaps nobody is at work any more.
        const isLate = performance.now() >= lookAt
        if (isLate) {
          lookAt = performance.now() + this.#poll
          await contend([...waiting])
        }
        missing = [...waiting]
        if (missing.length > 0 && (isLate || done.size > 0)) missing = [...await look(missing)]
        // Done, and nothing to be seen: it was revoked meanwhile, and is anybody's again.
        await contend(missing.filter(name => done.has(name)))
      }
    } finally {
      stop()
    }
    await Promise.all(led)
  }

  async #listen (mailbox: Mailbox): Promise<() => void> {
    const { line, channel, budget, logger } = this.#options
    if (line === undefined) return () => {}
    const listening = line.listen(channel, message => {
      const news = readNews(message)
      if (news !== undefined) mailbox.post(news)
    })
    try {
      return await within(budget, listening, 'the line')
    } catch (error) {
      logger.debug({ err: error }, 'the line can not be heard: looking from time to time')
      listening.then(stop => stop(), () => {})
      return () => {}
    }
  }
}

/** A lock may be anybody's: what it throws at once is a rejection, too. */
const ask = async <T>(question: () => Promise<T>): Promise<T> => await question()

/** News that came since it was last emptied. */
class Mailbox {
  #news: News[] = []
  #wake: (() => void) | undefined

  post (news: News): void {
    this.#news.push(news)
    this.#wake?.()
  }

  /** At once if there is some; none after `ms` milliseconds. */
  async next (ms: number): Promise<News[]> {
    if (this.#news.length === 0) {
      await new Promise<void>(resolve => {
        const timer = setTimeout(resolve, ms)
        this.#wake = () => { clearTimeout(timer); resolve() }
      })
      this.#wake = undefined
    }
    const news = this.#news
    this.#news = []
    return news
  }
}

/** Undefined for what is no news of ours. */
function readNews (message: string): News | undefined {
  try {
    const news = JSON.parse(message) as News
    return Array.isArray(news.names) && ['done', 'failed', 'unshared'].includes(news.outcome) ? news : undefined
  } catch {
    return undefined
  }
}

/** A loader may throw anything: also what has no text, and what throws when it is looked at. */
function travelling (error: unknown): TravellingError {
  try {
    return error instanceof Error ? asTravelling(error) : { name: 'Error', message: typeof error === 'string' ? error : show(error) }
  } catch {
    return asTravelling({})
  }
}

/** What is of the right type in what somebody has thrown, or sent. */
function asTravelling (error: object): TravellingError {
  const { name, message, code, statusCode } = error as Record<string, unknown>
  return {
    name: typeof name === 'string' ? name : 'Error',
    message: typeof message === 'string' ? message : 'a load failed in another process',
    ...(typeof code === 'string' && { code }),
    ...(typeof statusCode === 'number' && { statusCode })
  }
}

function arrived (error: unknown): Error {
  const { name, message, ...rest } = asTravelling(Object(error) as object)
  const made = Object.assign(new Error(message), rest)
  Object.defineProperty(made, 'name', { value: name, configurable: true, writable: true })
  return made
}
