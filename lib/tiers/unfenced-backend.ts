import type { Keyspace } from '../keys.js'
import { newStampPart, type Stamp } from '../stamp.js'
import type { BackendEntry, LeasingBackend, Revision } from '../backends/backend.js'
import { OrderedWrites, type Watch } from './ordered-writes.js'
import type { TierBackend } from './tier-backend.js'

/** A year, in milliseconds: a stamp outlives the entries that carry it. */
const stampLifetime = 365 * 24 * 60 * 60 * 1000

const parts = ['epoch', 'softened', 'tagged', 'deleted'] as const
type Part = typeof parts[number]

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
  readonly #writes: OrderedWrites
  #changes = 0
  #lastMade: Promise<Stamp> | undefined

  /** `timeout`: the budget of an operation, in milliseconds. `forget`: see `OrderedWrites`. */
  constructor (backend: TierBackend, keyspace: Keyspace, timeout: number, forget: (keys: readonly string[]) => Promise<unknown>) {
    this.#backend = backend
    this.#writes = new OrderedWrites(backend.backend, timeout, forget)
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

  /** For a copy of these keys. */
  watch (keys: readonly string[]): Watch {
    return this.#writes.watch(keys)
  }

  async forgetMany (_stampKey: string, _stamp: string, keys: readonly string[]): Promise<void> {
    this.#changes++
    await Promise.all([this.#replace('deleted'), this.#writes.ended(keys)])
    await this.#backend.backend.deleteMany(keys)
  }

  /** Puts entries, whatever is there. */
  async setMany (entries: readonly BackendEntry[]): Promise<void> {
    await this.#writes.setMany(entries)
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
