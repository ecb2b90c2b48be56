import { within } from '../within.js'
import type { Backend, BackendEntry } from '../backends/backend.js'

/** How long a deletion waits for a write. Milliseconds. */
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
}

/** Of a copy that is being made. `isUntouched`: nothing has been written or deleted there since, nor was it being written then. */
export interface Watch { isUntouched: (key: string) => boolean, end: () => void }

/**
 * The writes of one process to a backend that carries them out in any order: those of one key go one after the other, and
 * deletions after them, so that the last one is what is found.
 */
export class OrderedWrites {
  readonly #backend: Pick<Backend, 'setMany'>
  /** Forgets keys of which nobody knows any more what was written last. Never rejects. */
  readonly #forget: (keys: readonly string[]) => Promise<void>
  readonly #patience: number
  readonly #underWay = new Set<Write>()
  /** By key: the last one that is under way. */
  readonly #newest = new Map<string, Write>()
  /** The untouched keys of each copy that is being made. */
  readonly #watched = new Set<Set<string>>()

  /** `patience`: how long a write is waited for by later ones. Milliseconds. */
  constructor (backend: Pick<Backend, 'setMany'>, patience: number, forget: (keys: readonly string[]) => Promise<void>) {
    this.#backend = backend
    this.#patience = patience
    this.#forget = forget
  }

  /** Of several that wait for an earlier write of a key, only the last is carried out, and the others end as it does. */
  async setMany (entries: readonly BackendEntry[]): Promise<void> {
    const keys = new Set(entries.map(({ key }) => key))
    const earlier = this.#underWayOf(keys, this.#patience)
    this.#touch(keys)
    const write: Write = { keys, since: performance.now(), ended: nothing, outcome: nothing, isGivenUp: false }
    this.#underWay.add(write)
    for (const key of keys) this.#newest.set(key, write)

    const newer = new Set<Write>()
    const carriedOut = this.#carryOut(write, entries, earlier, newer)
    write.ended = carriedOut.catch(() => {})
    write.outcome = carriedOut.then(() => Promise.all(Array.from(newer, ({ outcome }) => outcome)))
    await write.outcome
  }

  /** `newer`: gets the writes that stand for this one. */
  async #carryOut (write: Write, entries: readonly BackendEntry[], earlier: readonly Write[], newer: Set<Write>): Promise<void> {
    if (earlier.length > 0) await this.#wait(earlier)
    const own = entries.filter(({ key }) => {
      const newest = this.#newest.get(key) ?? write
      if (newest !== write) newer.add(newest)
      return newest === write
    })
    try {
      if (own.length > 0) await this.#backend.setMany(own)
    } finally {
      this.#underWay.delete(write)
      const overtaken = own.map(({ key }) => key).filter(key => this.#newest.get(key) !== write)
      for (const key of write.keys) if (this.#newest.get(key) === write) this.#newest.delete(key)
      if (write.isGivenUp && overtaken.length > 0) await this.#forget(overtaken)
    }
  }

  /** Until they have ended, or the last of them has taken too long. */
  async #wait (earlier: readonly Write[]): Promise<void> {
    const until = Math.max(...earlier.map(({ since }) => since)) + this.#patience
    try {
      await within(Math.max(1, until - performance.now()), Promise.all(earlier.map(({ ended }) => ended)), 'an earlier write')
    } catch {
      for (const write of earlier) write.isGivenUp = true
    }
  }

  /** For a deletion of these keys: resolves when it comes after what is being written there. Never rejects. */
  async ended (keys: readonly string[]): Promise<void> {
    this.#touch(keys)
    const writes = this.#underWayOf(new Set(keys), longestWrite)
    for (const key of keys) this.#newest.delete(key)
    await Promise.all(writes.map(({ ended }) => ended))
  }

  watch (keys: readonly string[]): Watch {
    const untouched = new Set(keys)
    for (const write of this.#underWay) for (const key of write.keys) untouched.delete(key)
    this.#watched.add(untouched)
    return { isUntouched: key => untouched.has(key), end: () => { this.#watched.delete(untouched) } }
  }

  #touch (keys: Iterable<string>): void {
    for (const untouched of this.#watched) for (const key of keys) untouched.delete(key)
  }

  /** Those of one of these keys that have not taken longer than `patience`: the others are given up. */
  #underWayOf (keys: ReadonlySet<string>, patience: number): Write[] {
    const writes: Write[] = []
    for (const write of this.#underWay) {
      if (!some(keys, key => write.keys.has(key))) continue
      if (performance.now() - write.since > patience) write.isGivenUp = true
      else writes.push(write)
    }
    return writes
  }
}

function some (keys: ReadonlySet<string>, is: (key: string) => boolean): boolean {
  for (const key of keys) if (is(key)) return true
  return false
}

const nothing = Promise.resolve()
