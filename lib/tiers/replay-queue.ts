import type { Invalidation } from '../coherence/messages.js'

export interface ReplayQueueOptions {
  /** One attempt. Rejects where it could not be made known. */
  send: (what: Invalidation) => Promise<void>
  /** Called with the reason when something is kept and nothing was before. */
  onKept?: (error: unknown) => void
  /** Called with what was kept, when that has been sent. */
  onReplayed?: (what: Invalidation) => void
  /** Called when nothing is kept any more. */
  onEmpty: () => void
}

/** More keys and tags than this become one invalidation of the whole region. */
const mostKept = 10_000
/** Before the next attempt. Milliseconds. */
const shortestPause = 100
const longestPause = 2000

/**
 * Invalidations on their way to a tier, or to other processes. What could not be delivered is kept and replayed until it
 * could; until then a tier isn't believed about the entries concerned.
 */
export class ReplayQueue {
  readonly #send: (what: Invalidation) => Promise<void>
  readonly #onKept: (error: unknown) => void
  readonly #onReplayed: (what: Invalidation) => void
  readonly #onEmpty: () => void
  #underWay = 0
  readonly #keysUnderWay = new Counts()
  readonly #tagsUnderWay = new Counts()
  /** Those of the whole region, soft ones too. */
  #regionsUnderWay = 0
  #replays = 0
  #kept = nothingKept()
  /** What of it is being replayed, and kept again if it can't be delivered. */
  #replaying = nothingKept()
  #timer: NodeJS.Timeout | undefined
  #pause = shortestPause
  #closed = false

  constructor ({ send, onKept = () => {}, onReplayed = () => {}, onEmpty }: ReplayQueueOptions) {
    this.#send = send
    this.#onKept = onKept
    this.#onReplayed = onReplayed
    this.#onEmpty = onEmpty
  }

  /** Resolves to whether it was delivered at once; otherwise it is kept. Never rejects. */
  async deliver (what: Invalidation): Promise<boolean> {
    let isDelivered = true
    this.#start(what)
    try {
      await this.#send(what)
    } catch (error) {
      isDelivered = false
      const isFirst = this.#timer === undefined
      this.#keep(what)
      if (isFirst) this.#onKept(error)
    } finally {
      this.#end(what)
    }
    return isDelivered
  }

  /** How often something that was kept has been delivered, or discarded. A read that began before may have been answered from before. */
  get replays (): number {
    return this.#replays
  }

  /** Whether something that the tier may not know yet concerns this entry. */
  concerns (key: string, tags: readonly string[]): boolean {
    if (this.#underWay === 0 && this.#timer === undefined) return false
    const kept = this.#kept
    if (this.#regionsUnderWay > 0 || kept.hard || kept.soft || this.#keysUnderWay.has(key) || kept.keys.has(key)) return true
    return tags.some(tag => this.#tagsUnderWay.has(tag) || kept.tags.has(tag))
  }

  /** Nothing kept is to forget these keys any more: they have new values. To reads under way that is as good as a replay. */
  discard (keys: readonly string[]): void {
    for (const key of keys) {
      const wasReplaying = this.#replaying.keys.delete(key)
      if (wasReplaying) this.#keysUnderWay.remove(key)
      if (this.#kept.keys.delete(key) || wasReplaying) this.#replays++
    }
  }

  /** Returns whether there is something that will not be delivered any more. */
  close (): boolean {
    this.#closed = true
    clearTimeout(this.#timer)
    return this.#underWay > 0 || this.#hasKept
  }

  get #hasKept (): boolean {
    const { keys, tags, hard, soft } = this.#kept
    return keys.size + tags.size > 0 || hard || soft
  }

  #start ({ keys = [], tags = [], hard = false, soft = false }: Invalidation): void {
    this.#underWay++
    for (const key of keys) this.#keysUnderWay.add(key)
    for (const tag of tags) this.#tagsUnderWay.add(tag)
    if (hard || soft) this.#regionsUnderWay++
  }

  #end ({ keys = [], tags = [], hard = false, soft = false }: Invalidation): void {
    this.#underWay--
    for (const key of keys) this.#keysUnderWay.remove(key)
    for (const tag of tags) this.#tagsUnderWay.remove(tag)
    if (hard || soft) this.#regionsUnderWay--
  }

  #keep ({ keys = [], tags = [], hard = false, soft = false }: Invalidation): void {
    const kept = this.#kept
    for (const key of keys) kept.keys.add(key)
    for (const tag of tags) kept.tags.add(tag)
    kept.soft ||= soft
    kept.hard ||= hard || kept.keys.size + kept.tags.size > mostKept
    if (kept.hard) {
      // It covers all others.
      kept.keys.clear()
      kept.tags.clear()
      kept.soft = false
    }
    if (this.#timer === undefined) this.#replayLater()
  }

  #replayLater (): void {
    if (this.#closed) return
    this.#timer = setTimeout(() => { void this.#replay() }, this.#pause)
    this.#timer.unref()
  }

  async #replay (): Promise<void> {
    const replaying = this.#replaying = this.#kept
    const what = listed(replaying)
    this.#start(what) // first: `concerns` must know of it without a gap, so it also ends after it is kept again
    this.#kept = nothingKept()
    try {
      await this.#send(what)
      this.#pause = shortestPause
      this.#replays++
      this.#onReplayed(what)
    } catch {
      this.#pause = Math.min(longestPause, 2 * this.#pause)
      this.#keep(listed(replaying))
    }
    this.#end(listed(replaying)) // without those that were discarded meanwhile
    this.#replaying = nothingKept()
    if (this.#hasKept) return this.#replayLater()
    this.#timer = undefined
    this.#onEmpty()
  }
}

/** How many there are of each. */
class Counts {
  readonly #counts = new Map<string, number>()

  has (one: string): boolean {
    return this.#counts.has(one)
  }

  add (one: string): void {
    this.#counts.set(one, (this.#counts.get(one) ?? 0) + 1)
  }

  remove (one: string): void {
    const left = this.#counts.get(one)! - 1
    if (left === 0) this.#counts.delete(one)
    else this.#counts.set(one, left)
  }
}

const nothingKept = () => ({ keys: new Set<string>(), tags: new Set<string>(), hard: false, soft: false })

const listed = ({ keys, tags, hard, soft }: ReturnType<typeof nothingKept>) => ({ keys: [...keys], tags: [...tags], hard, soft })
