import { HeldUpError } from '../breaker.js'
import { withTimeout } from '../with-timeout.js'
import { UnstorableError, type Backend, type BackendEntry } from '../backends/backend.js'

/** After this a write that was never answered is not waited for by anybody, and not remembered. Milliseconds. */
const longestWrite = 60_000

/** What is being written. */
interface Write {
  readonly keys: ReadonlySet<string>
  /** By performance.now(). */
  readonly since: number
  /** The backend has answered, or will not be asked. Never rejects. */
  ended: Promise<unknown>
  /** Rejects if what stands there in the end could not be written. */
  outcome: Promise<unknown>
  /** Others have gone on without waiting for it. */
  isGivenUp: boolean
  /** By key: the write that has. */
  readonly overtakenBy: Map<string, Write>
}

/** Watches the keys of a copy that is being made. `isUntouched`: nothing has been written or deleted there since, nor was it being written then. */
export interface Watch { isUntouched: (key: string) => boolean, end: () => void }

/**
 * The writes of one process to a backend that carries them out in any order: those of one key go one after the other, and
 * deletions after them, so that the last one is what is found.
 */
export class OrderedWrites {
  readonly #backend: Pick<Backend, 'setMany'>
  /** Forgets keys of which nobody knows any more what was written last. Never rejects. */
  readonly #forget: (keys: readonly string[]) => Promise<unknown>
  readonly #timeout: number
  /** By key: what is being written there, the oldest first. */
  readonly #underWay = new Map<string, Write[]>()
  /** By key: the last one that is under way, unless the key was deleted since. */
  readonly #newest = new Map<string, Write>()
  /** The untouched keys of each copy that is being made. */
  readonly #watched = new Set<Set<string>>()

  /** `timeout`: the budget of a write or a deletion, in milliseconds. A write waits half of it for an earlier one, to have the rest for itself. */
  constructor (backend: Pick<Backend, 'setMany'>, timeout: number, forget: (keys: readonly string[]) => Promise<unknown>) {
    this.#backend = backend
    this.#timeout = timeout
    this.#forget = forget
  }

  /** Of several that wait for an earlier write of a key, only the last is carried out, and the others end as it does. */
  async setMany (entries: readonly BackendEntry[]): Promise<void> {
    const keys = new Set(entries.map(({ key }) => key))
    const write: Write = { keys, since: performance.now(), ended: nothing, outcome: nothing, isGivenUp: false, overtakenBy: new Map() }
    const earlier = this.#lastBefore(write)
    this.#touch(keys)
    this.#add(write)

    const newer = new Set<Write>()
    const carriedOut = this.#carryOut(write, entries, earlier, newer)
    write.ended = carriedOut.catch(() => {})
    write.outcome = this.#outcomeOf(carriedOut, newer)
    await write.outcome
  }

  /** `newer`: gets the writes that stand for this one. */
  async #carryOut (write: Write, entries: readonly BackendEntry[], earlier: readonly Write[], newer: Set<Write>): Promise<void> {
    if (earlier.length > 0) await this.#wait(write, earlier)
    const own = entries.filter(({ key }) => {
      const newest = this.#newest.get(key) ?? write.overtakenBy.get(key) ?? write
      if (newest !== write) newer.add(newest)
      return newest === write
    })
    try {
      if (own.length > 0) await this.#backend.setMany(own)
    } finally {
      const overtaken = own.map(({ key }) => key).filter(key => this.#newest.get(key) !== write)
      this.#remove(write)
      // Not awaited: it may wait for a later write, which may be waiting for this one.
      if (write.isGivenUp && overtaken.length > 0) void this.#forget(overtaken)
    }
  }

  /** Ends with what was written itself and with what stands for it. That a value can't be stored is told only where nothing else went wrong. */
  async #outcomeOf (carriedOut: Promise<void>, newer: ReadonlySet<Write>): Promise<void> {
    const own = await Promise.allSettled([carriedOut]) // by then `newer` is complete
    const errors = [...own, ...await Promise.allSettled(Array.from(newer, ({ outcome }) => outcome))].flatMap(result => result.status === 'rejected' ? [result.reason as unknown] : [])
    if (errors.length > 0) throw errors.find(error => !(error instanceof UnstorableError)) ?? errors[0]
  }

  /** Until the earlier ones have ended, or the last of them has taken too long. */
  async #wait (write: Write, earlier: readonly Write[]): Promise<void> {
    const until = Math.max(...earlier.map(({ since }) => since)) + this.#timeout / 2
    try {
      await withTimeout(Math.max(1, until - performance.now()), Promise.all(earlier.map(({ ended }) => ended)), 'an earlier write')
    } catch {
      for (const key of write.keys) this.#overtake(key, write)
    }
  }

  /**
   * For a deletion of these keys: resolves when it comes after what is being written there. @throws HeldUpError where that
   * takes longer than a write may
   */
  async ended (keys: readonly string[]): Promise<void> {
    this.#touch(keys)
    for (const key of keys) this.#newest.delete(key)
    const writes = new Set(keys.flatMap(key => this.#allOf(key)))
    if (writes.size === 0) return
    const since = Math.max(...Array.from(writes, write => write.since))
    try {
      await withTimeout(Math.max(1, since + this.#timeout - performance.now()), Promise.all(Array.from(writes, ({ ended }) => ended)), 'an earlier write')
    } catch {
      for (const write of writes) write.isGivenUp = true
      throw new HeldUpError('an earlier write of the same key has not been answered')
    }
  }

  watch (keys: readonly string[]): Watch {
    const untouched = new Set(keys.filter(key => this.#allOf(key).length === 0))
    this.#watched.add(untouched)
    return { isUntouched: key => untouched.has(key), end: () => { this.#watched.delete(untouched) } }
  }

  #touch (keys: Iterable<string>): void {
    for (const untouched of this.#watched) for (const key of keys) untouched.delete(key)
  }

  #add (write: Write): void {
    for (const key of write.keys) {
      this.#newest.set(key, write)
      const writes = this.#underWay.get(key)
      if (writes === undefined) this.#underWay.set(key, [write])
      else writes.push(write)
    }
  }

  #remove (write: Write): void {
    for (const key of write.keys) {
      if (this.#newest.get(key) === write) this.#newest.delete(key)
      const others = (this.#underWay.get(key) ?? []).filter(other => other !== write)
      if (others.length === 0) this.#underWay.delete(key)
      else this.#underWay.set(key, others)
    }
  }

  /** Of each of its keys the last write, if it may be waited for: that one waits for those before it. Others are overtaken. */
  #lastBefore (write: Write): Write[] {
    const lasts = new Set<Write>()
    for (const key of write.keys) {
      const last = this.#allOf(key).at(-1)
      if (last === undefined) continue
      if (performance.now() - last.since <= this.#timeout / 2) lasts.add(last)
      else this.#overtake(key, write)
    }
    return [...lasts]
  }

  /** `write` waits no longer for the earlier ones of this key, each of which may be the last to end. Those that still wait are not carried out. */
  #overtake (key: string, write: Write): void {
    for (const earlier of this.#allOf(key)) {
      if (earlier === write) return
      earlier.isGivenUp = true
      earlier.overtakenBy.set(key, write)
    }
  }

  /** What is being written under a key. What was never answered is not, any more. */
  #allOf (key: string): readonly Write[] {
    const writes = this.#underWay.get(key) ?? []
    for (const write of writes) {
      if (performance.now() - write.since <= longestWrite) break // the later ones are younger
      write.isGivenUp = true
      this.#remove(write)
    }
    return this.#underWay.get(key) ?? []
  }
}

const nothing = Promise.resolve()
