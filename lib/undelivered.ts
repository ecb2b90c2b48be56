import type { Invalidations } from './coherence/messages.js'

export interface UndeliveredOptions {
  deliver: (work: Invalidations) => Promise<void>
  /** Called with what was kept, when it has been delivered. */
  replayed?: (work: Invalidations) => void
  /** Called when all that was kept has been delivered. */
  delivered: () => void
}

/** More keys and tags than this become one invalidation of the region. */
const mostKept = 10_000
/** Between two attempts. Milliseconds. */
const shortestPause = 100
const longestPause = 2000

/**
 * Invalidations on their way to a tier, or to other processes, and those that could not be delivered. Until they are, the
 * tier isn't believed about what they concern; they are tried again until they succeed.
 */
export class Undelivered {
  readonly #deliver: (work: Invalidations) => Promise<void>
  readonly #replayed: (work: Invalidations) => void
  readonly #delivered: () => void
  readonly #underWay = new Set<Invalidations>()
  readonly #keysUnderWay = new Map<string, number>()
  #replays = 0
  #kept = nothingKept()
  #timer: NodeJS.Timeout | undefined
  #pause = shortestPause
  #closed = false

  constructor ({ deliver, replayed = () => {}, delivered }: UndeliveredOptions) {
    this.#deliver = deliver
    this.#replayed = replayed
    this.#delivered = delivered
  }

  /** Resolves to whether it was delivered at once; otherwise it is kept. */
  async deliver (work: Invalidations): Promise<boolean> {
    let delivered = true
    this.#start(work)
    try {
      await this.#deliver(work)
    } catch {
      delivered = false
      this.#keep(work)
    }
    this.#end(work)
    return delivered
  }

  /** How often something that was kept has been delivered: what was asked before then may be answered from before. */
  get replays (): number {
    return this.#replays
  }

  /** Whether something that the tier may not know yet concerns this entry. */
  concerns (key: string, tags: readonly string[]): boolean {
    if (this.#underWay.size === 0 && this.#timer === undefined) return false
    const kept = this.#kept
    if (this.#keysUnderWay.has(key) || kept.keys.has(key) || kept.hard || kept.soft) return true
    if (tags.some(tag => kept.tags.has(tag))) return true
    for (const work of this.#underWay) {
      if (work.hard === true || work.soft === true || work.tags?.some(tag => tags.includes(tag)) === true) return true
    }
    return false
  }

  /** These were replaced: what was to be forgotten of them isn't there any more. */
  replaced (keys: readonly string[]): void {
    for (const key of keys) this.#kept.keys.delete(key)
  }

  /** Whether there is something that will not be delivered any more. */
  close (): boolean {
    this.#closed = true
    clearTimeout(this.#timer)
    return this.#underWay.size > 0 || this.#hasKept
  }

  get #hasKept (): boolean {
    const { keys, tags, hard, soft } = this.#kept
    return keys.size + tags.size > 0 || hard || soft
  }

  #start (work: Invalidations): void {
    this.#underWay.add(work)
    for (const key of work.keys ?? []) this.#keysUnderWay.set(key, (this.#keysUnderWay.get(key) ?? 0) + 1)
  }

  #end (work: Invalidations): void {
    this.#underWay.delete(work)
    for (const key of work.keys ?? []) {
      const others = this.#keysUnderWay.get(key)! - 1
      if (others === 0) this.#keysUnderWay.delete(key)
      else this.#keysUnderWay.set(key, others)
    }
  }

  #keep ({ keys = [], tags = [], hard = false, soft = false }: Invalidations): void {
    const kept = this.#kept
    for (const key of keys) kept.keys.add(key)
    for (const tag of tags) kept.tags.add(tag)
    kept.soft ||= soft
    kept.hard ||= hard || kept.keys.size + kept.tags.size > mostKept
    if (kept.hard) {
      // One invalidation of the region stands for all of them.
      kept.keys.clear()
      kept.tags.clear()
      kept.soft = false
    }
    if (this.#timer === undefined) this.#later()
  }

  #later (): void {
    if (this.#closed) return
    this.#timer = setTimeout(() => { void this.#replay() }, this.#pause)
    this.#timer.unref()
  }

  async #replay (): Promise<void> {
    const { keys, tags, hard, soft } = this.#kept
    const work = { keys: [...keys], tags: [...tags], hard, soft }
    this.#start(work)
    this.#kept = nothingKept()
    try {
      await this.#deliver(work)
      this.#pause = shortestPause
      this.#replays++
      this.#replayed(work)
    } catch {
      this.#pause = Math.min(longestPause, 2 * this.#pause)
      this.#keep(work)
    }
    this.#end(work)
    if (this.#hasKept) return this.#later()
    this.#timer = undefined
    this.#delivered()
  }
}

const nothingKept = () => ({ keys: new Set<string>(), tags: new Set<string>(), hard: false, soft: false })
