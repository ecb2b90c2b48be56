import type { Keyspace } from '../keys.js'
import { newStampPart, type Stamp } from '../stamp.js'
import type { BackendEntry, LeasingBackend, Revision } from './backend.js'
import type { TierBackend } from './tier-backend.js'

/** A write that takes longer is not waited for any more. Milliseconds. */
const longestPut = 60_000

/** A year, in milliseconds: a stamp outlives the entries that carry it. */
const stampLifetime = 365 * 24 * 60 * 60 * 1000

const parts = ['epoch', 'softened', 'tagged', 'deleted'] as const
type Part = typeof parts[number]

/** A write that is under way. */
interface Put { readonly keys: ReadonlySet<string>, readonly since: number, readonly ended: Promise<void> }

/** What a revision changes. Nothing could keep a version for each tag in step with the stamp: any tag stands for all of them. */
const partOf = { hard: 'epoch', soft: 'softened', tags: 'tagged' } as const

/**
 * The stamp of a region on a backend that has only three methods, which can't change what it has read before anybody else
 * does. So each part has a key of its own, and is replaced by a random number unread: no change undoes another one. Nothing
 * refuses a fill that comes too late, but a deletion waits for those of this process.
 */
export class UnfencedBackend implements Pick<LeasingBackend, 'revise' | 'forgetMany'> {
  /** In the order of `stampOf`. */
  readonly stampKeys: readonly string[]
  readonly #backend: TierBackend
  readonly #putting = new Set<Put>()
  #changes = 0
  /** Of each copy that is being made: its keys, without those that were written or deleted since it began. */
  readonly #watched = new Set<Set<string>>()
  #lastMade: Promise<Stamp> | undefined

  constructor (backend: TierBackend, keyspace: Keyspace) {
    this.#backend = backend
    this.stampKeys = parts.map(part => keyspace.stampPart(part))
  }

  /** Of what was found under `stampKeys`. Undefined where a part is missing: it may have been evicted after it was changed. */
  stampOf (found: readonly (Uint8Array | undefined)[]): Stamp | undefined {
    const [epoch, softened, tagged, deleted] = parts.map((_, i) => numberOf(found[i]))
    if (epoch === undefined || softened === undefined || tagged === undefined || deleted === undefined) return undefined
    return { epoch, softened, tagged, deleted }
  }

  /** The stamp that `makeStamp` has made last. */
  get lastMade (): Promise<Stamp> | undefined {
    return this.#lastMade
  }

  /**
   * For a backend that has answered without a stamp. `before` is `lastMade` from before it was asked: of several reads
   * that found none at the same time, the first makes it for all. A second stamp would void what is filled under the first.
   */
  makeStamp (before: Promise<Stamp> | undefined): Promise<Stamp> {
    if (this.#lastMade !== before) return this.#lastMade!
    // All parts are new: what an eviction or a failure leaves of the old stamp must not match older entries.
    const stamp = { epoch: newStampPart(), softened: newStampPart(), tagged: newStampPart(), deleted: newStampPart() }
    return (this.#lastMade = this.#backend.run(() => this.#write(parts, stamp)).then(() => stamp))
  }

  async revise (_stampKey: string, { kind }: Revision): Promise<void> {
    await this.#replace(partOf[kind])
  }

  /** How many deletions, sets and refreshes have begun in this process: what came along with a load is put only if there were none since. */
  get changes (): number {
    return this.#changes
  }

  /** A set or a refresh begins. */
  takeOver (): void {
    this.#changes++
  }

  /** For a copy of these keys. `isUntouched`: nothing has been written there, or deleted, since, nor was it being written then. */
  watch (keys: readonly string[]): { isUntouched: (key: string) => boolean, end: () => void } {
    const untouched = new Set(keys.filter(key => this.#putsOf([key]).length === 0))
    this.#watched.add(untouched)
    return { isUntouched: key => untouched.has(key), end: () => { this.#watched.delete(untouched) } }
  }

  #touch (keys: readonly string[]): void {
    for (const untouched of this.#watched) for (const key of keys) untouched.delete(key)
  }

  async forgetMany (_stampKey: string, _stamp: string, keys: readonly string[]): Promise<void> {
    this.#changes++
    this.#touch(keys)
    await Promise.all([this.#replace('deleted'), ...this.#putsOf(keys)])
    await this.#backend.backend.deleteMany(keys)
  }

  /** Puts entries, whatever is there: after what this process is writing there already, which may be slower. */
  async setMany (entries: readonly BackendEntry[]): Promise<void> {
    const keys = entries.map(({ key }) => key)
    this.#touch(keys)
    const earlier = this.#putsOf(keys)
    const writing = (async () => {
      if (earlier.length > 0) await Promise.all(earlier)
      await this.#backend.backend.setMany(entries)
    })()
    const put: Put = { keys: new Set(keys), since: performance.now(), ended: writing.catch(() => {}) }
    this.#putting.add(put)
    try {
      await writing
    } finally {
      this.#putting.delete(put)
    }
  }

  #putsOf (keys: readonly string[]): Promise<void>[] {
    const puts: Promise<void>[] = []
    for (const put of this.#putting) {
      if (performance.now() - put.since > longestPut) this.#putting.delete(put)
      else if (keys.some(key => put.keys.has(key))) puts.push(put.ended)
    }
    return puts
  }

  async #replace (part: Part): Promise<void> {
    await this.#write([part], { [part]: newStampPart() })
  }

  async #write (written: readonly Part[], stamp: Partial<Stamp>): Promise<void> {
    await this.#backend.backend.setMany(written.map(part => ({
      key: this.stampKeys[parts.indexOf(part)]!,
      value: Buffer.from(String(stamp[part]), 'latin1'),
      ttl: stampLifetime
    })))
  }
}

function numberOf (bytes: Uint8Array | undefined): number | undefined {
  const [digits] = (bytes === undefined ? undefined : /^\d{1,15}$/.exec(Buffer.from(bytes).toString('latin1'))) ?? []
  return digits === undefined ? undefined : Number(digits)
}
