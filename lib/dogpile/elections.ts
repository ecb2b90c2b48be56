import { Breaker } from '../breaker.js'
import { HeldTogether } from '../locks/held-together.js'
import type { DogpileLock, HeldLock } from '../locks/lock.js'
import type { Logger } from '../logger.js'
import { promiseTry } from '../promise-try.js'
import { Elected, type Holding } from './elected.js'

export interface ElectionsOptions extends Pick<Holding, 'ttl' | 'renewFor' | 'timeout' | 'publish'> {
  lock: DogpileLock
  /** What the log calls the lock. */
  name: string
  logger: Logger
}

/** The names that are this process's work, if any; and those that others are at work on. */
export interface Election { readonly elected: Elected | undefined, readonly others: readonly string[] }

/** Names, and the lock that is held for them. Undefined: the lock could not be asked. */
interface Part { readonly names: readonly string[], readonly held: HeldLock | undefined }
type LockedPart = Part & { readonly held: HeldLock }

/** Questions to a lock that takes all or none, for one batch. What is free beyond that is found by later elections. */
const mostAttempts = 32

/** Decides by a lock which process does the work of a name. Never rejects: where no lock can be had, every process is elected. */
export class Elections {
  readonly #options: ElectionsOptions
  readonly #breaker: Breaker

  constructor (options: ElectionsOptions) {
    this.#options = options
    this.#breaker = new Breaker({ name: options.name, timeout: options.timeout, logger: options.logger })
  }

  /**
   * Elects this process for the names that nobody else holds, as one piece of work: no name waits because another is taken.
   * One attempt, where the lock can take some of many; otherwise by halves.
   */
  async hold (names: readonly string[]): Promise<Election> {
    const part = await this.#acquire(names)
    if (part !== undefined) return this.#elect(names, [part])
    return this.#elect(names, this.#takesSome ? [] : await this.#divide(names))
  }

  /** The same for names that others held a moment ago, and most likely still do: two questions are enough to find that out. */
  async holdAgain (names: readonly string[]): Promise<Election> {
    if (this.#takesSome || names.length === 1) return await this.hold(names)
    const all = await this.#acquire(names)
    if (all !== undefined) return this.#elect(names, [all])
    // One of them, by chance: if its holder is gone, the other names of that holder are free as well.
    const one = names[Math.floor(Math.random() * names.length)]!
    const probe = await this.#acquire([one])
    if (probe === undefined || !isLocked(probe)) return this.#elect(names, [])
    const rest = names.filter(name => name !== one)
    const part = await this.#acquire(rest)
    return this.#elect(names, [probe, ...part !== undefined ? [part].filter(isLocked) : await this.#divide(rest)])
  }

  get #takesSome (): boolean {
    return this.#options.lock.acquireSome !== undefined
  }

  /** What is free of `names`, at least one of which is taken. */
  async #divide (names: readonly string[], attempts = { left: mostAttempts }): Promise<LockedPart[]> {
    if (names.length < 2) return []
    const middle = names.length >> 1
    const parts = await Promise.all([names.slice(0, middle), names.slice(middle)].map(async half => {
      if (attempts.left-- <= 0) return []
      const part = await this.#acquire(half)
      return part !== undefined ? [part] : await this.#divide(half, attempts)
    }))
    // A part that could not be asked about is left to others: they may hold some of it.
    return parts.flat().filter(isLocked)
  }

  /** Elects this process for the names of `parts`, together. Where no lock could be asked, for all `names`. */
  #elect (names: readonly string[], parts: readonly Part[]): Election {
    if (parts.length === 0) return { elected: undefined, others: names }
    const locked = parts.filter(isLocked)
    if (locked.length === 0) return { elected: new Elected(names), others: [] }
    const { ttl, renewFor, timeout, publish } = this.#options
    const held = locked.length === 1 ? locked[0]!.held : new HeldTogether(locked)
    const elected = new Elected(locked.flatMap(part => part.names), { held, ttl, renewFor, timeout, publish })
    const taken = new Set(elected.names)
    return { elected, others: names.filter(name => !taken.has(name)) }
  }

  /** Undefined where others hold all of them; or one of them, if the lock takes all or none. */
  async #acquire (names: readonly string[]): Promise<Part | undefined> {
    let asking: Promise<Part | undefined> | undefined
    try {
      return await this.#breaker.run(() => (asking = this.#take(names)))
    } catch (error) {
      this.#options.logger.debug({ names, err: error }, 'no lock could be had: loading without an election')
      asking?.then(late => late?.held?.release()).catch(() => {})
      return { names, held: undefined }
    }
  }

  /** An application's own lock may throw synchronously, which is a rejection here, and may say `null` for undefined. */
  async #take (names: readonly string[]): Promise<Part | undefined> {
    const { lock, ttl } = this.#options
    if (lock.acquireSome !== undefined) {
      const some = await lock.acquireSome(names, ttl)
      if (some == null || some.names.length > 0) return some ?? undefined
      promiseTry(() => some.held.release()).catch(() => {})
      return undefined
    }
    const held = await lock.acquire(names, ttl)
    return held == null ? undefined : { names, held }
  }
}

const isLocked = (part: Part): part is LockedPart => part.held !== undefined
