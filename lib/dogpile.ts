import { Breaker } from './breaker.js'
import { show } from './errors.js'
import type { Line } from './line.js'
import { HeldTogether } from './locks/held-together.js'
import { isDivisible, type DogpileLock, type HeldLock } from './locks/lock.js'
import type { Logger } from './logger.js'
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
  /** The work of this name failed elsewhere. */
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

/** Names, and the lock that is held for them. Without one: it could not be asked. */
interface Part { readonly names: readonly string[], readonly held: HeldLock | undefined }

const isLocked = (part: Part): part is Part & { readonly held: HeldLock } => part.held !== undefined

/** The names that are this process's work, if any; and those that others are at work on. */
export interface Election { readonly elected: Elected | undefined, readonly others: readonly string[] }

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
  /** The line still hasn't done what it was asked for: each further question would wait there, too. */
  #isDeaf = false

  constructor (options: DogpileOptions) {
    this.#options = options
    this.#breaker = new Breaker({ name: `the lock for ${options.channel}`, timeout: options.budget, logger: options.logger })
    this.#poll = Math.min(250, Math.max(10, options.ttl / 20))
    this.#hold = Math.max(1, options.ttl - 2 * this.#poll)
  }

  /**
   * Those names that nobody else holds, for one piece of work: nobody's work on one name makes another wait. One attempt,
   * where the lock can take some of many; otherwise by halves. Never rejects: where no lock can be had, everybody is elected.
   */
  async elect (names: readonly string[]): Promise<Election> {
    const part = await this.#acquire(names)
    if (part !== undefined) return this.#elected(names, [part])
    return this.#elected(names, this.#takesSome ? [] : await this.#divide(names))
  }

  /** Of names that others were holding: most likely they still do. */
  async #electLate (names: readonly string[]): Promise<Election> {
    if (this.#takesSome || names.length === 1) return await this.elect(names)
    const all = await this.#acquire(names)
    if (all !== undefined) return this.#elected(names, [all])
    // Whether its holder is gone, and so perhaps are others, one of them tells.
    const one = names[Math.floor(Math.random() * names.length)]!
    const probe = await this.#acquire([one])
    if (probe === undefined || !isLocked(probe)) return this.#elected(names, [])
    const rest = names.filter(name => name !== one)
    const part = await this.#acquire(rest)
    return this.#elected(names, [probe, ...part !== undefined ? [part].filter(isLocked) : await this.#divide(rest)])
  }

  get #takesSome (): boolean {
    return this.#options.lock.acquireSome !== undefined
  }

  /** Somebody holds one of them, or more. */
  async #divide (names: readonly string[], attempts = { left: mostAttempts }): Promise<(Part & { readonly held: HeldLock })[]> {
    if (names.length < 2) return []
    const middle = names.length >> 1
    const parts = await Promise.all([names.slice(0, middle), names.slice(middle)].map(async half => {
      if (attempts.left-- <= 0) return []
      const part = await this.#acquire(half)
      return part !== undefined ? [part] : await this.#divide(half, attempts)
    }))
    return parts.flat().filter(isLocked) // of what could not be asked, somebody holds some
  }

  /** All of them, or those whose locks are held: for one piece of work. */
  #elected (names: readonly string[], parts: readonly Part[]): Election {
    const { longest, budget } = this.#options
    if (parts.length === 0) return { elected: undefined, others: names }
    const locked = parts.filter(isLocked)
    if (locked.length === 0) return { elected: new Elected(names), others: [] }
    const held = locked.length === 1 ? locked[0]!.held : new HeldTogether(locked)
    const elected = new Elected(locked.flatMap(part => part.names), { held, ttl: this.#hold, longest, budget, publish: news => this.#publish(news) })
    const taken = new Set(elected.names)
    return { elected, others: names.filter(name => !taken.has(name)) }
  }

  /** Undefined: others hold all of them, or one, where the lock takes all or none. */
  async #acquire (names: readonly string[]): Promise<Part | undefined> {
    let asked: Promise<Part | undefined> | undefined
    try {
      return await this.#breaker.run(() => (asked = this.#take(names)))
    } catch (error) {
      this.#options.logger.debug({ names, err: error }, 'no lock could be had: loading without an election')
      asked?.then(late => late?.held?.release()).catch(() => {})
      return { names, held: undefined }
    }
  }

  /** What somebody's own lock throws at once is a rejection here, and its null is no lock. */
  async #take (names: readonly string[]): Promise<Part | undefined> {
    const { lock } = this.#options
    if (names.length > 1 && lock.acquireSome !== undefined) {
      const some = await lock.acquireSome(names, this.#hold)
      if (some == null || some.names.length > 0) return some ?? undefined
      ask(() => some.held.release()).catch(() => {})
      return undefined
    }
    const held = await lock.acquire(names, this.#hold)
    return held == null ? undefined : { names, held }
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
    const start = (elected: Elected | undefined) => {
      if (elected === undefined) return
      for (const name of elected.names) waiting.delete(name)
      led.push(lead(elected))
    }

    const mailbox = new Mailbox()
    const stop = await this.#listen(mailbox)
    let lookAt = performance.now() + this.#poll
    try {
      // The news may have come while we began to listen.
      let missing = await look([...waiting])
      for (;;) {
        const left = new Set(missing)
        for (const name of waiting) if (!left.has(name)) waiting.delete(name)
        if (waiting.size === 0) break
        const now = performance.now()
        if (now >= deadline) {
          start(new Elected([...waiting]))
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
          } else if (outcome === 'unshared') start(new Elected(concerned))
          else for (const name of concerned) done.add(name)
        }
        // By the clock, since there may always be news of other names: perhaps nobody is at work any more.
        const isLate = performance.now() >= lookAt
        if (isLate) {
          lookAt = performance.now() + this.#poll
          start((await this.#electLate([...waiting])).elected)
        }
        missing = [...waiting]
        if (missing.length > 0 && (isLate || done.size > 0)) missing = [...await look(missing)]
        // Done, and nothing to be seen: it was revoked meanwhile, and is anybody's again.
        const free = missing.filter(name => done.has(name))
        if (free.length > 0) start((await this.elect(free)).elected)
      }
    } finally {
      stop()
    }
    await Promise.all(led)
  }

  async #listen (mailbox: Mailbox): Promise<() => void> {
    const { line, channel, budget, logger } = this.#options
    if (line === undefined || this.#isDeaf) return () => {}
    const listening = line.listen(channel, message => {
      const news = readNews(message)
      if (news !== undefined) mailbox.post(news)
    })
    try {
      return await within(budget, listening, 'the line')
    } catch (error) {
      logger.debug({ err: error }, 'the line can not be heard: looking from time to time')
      this.#isDeaf = true
      void listening.then(stop => stop(), () => {}).finally(() => { this.#isDeaf = false })
      return () => {}
    }
  }
}

/** Of a lock that takes all or none, for one batch: what is free beyond that, the next look finds. */
const mostAttempts = 32

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
