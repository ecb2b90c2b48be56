import { formatStamp, newStamp, parseStamp, type Stamp } from '../stamp.js'
import type { LeasingBackend, Revision } from './backend.js'
import type { TierBackend } from './tier-backend.js'

/** A year, in milliseconds: a stamp outlives the entries that carry it. */
const stampLifetime = 365 * 24 * 60 * 60 * 1000

/**
 * The stamp of a region, on a backend that has only three methods. It is read and then written, in two steps, so one of
 * two concurrent revisions may be lost; and nothing refuses a fill that comes too late.
 */
export class UnfencedBackend implements Pick<LeasingBackend, 'revise' | 'forgetMany'> {
  readonly #backend: TierBackend
  #lastMade: Promise<Stamp> | undefined

  constructor (backend: TierBackend) {
    this.#backend = backend
  }

  /** The stamp that `makeStamp` has made last. */
  get lastMade (): Promise<Stamp> | undefined {
    return this.#lastMade
  }

  /**
   * For a backend that has answered without a stamp. `before` is `lastMade` from before it was asked: of several reads
   * that found none at the same time, the first makes it for all. A second stamp would void what is filled under the first.
   */
  makeStamp (stampKey: string, before: Promise<Stamp> | undefined): Promise<Stamp> {
    if (this.#lastMade !== before) return this.#lastMade!
    const stamp = newStamp()
    return (this.#lastMade = this.#backend.run(() => this.#writeStamp(stampKey, stamp)).then(() => stamp))
  }

  async revise (stampKey: string, revision: Revision): Promise<void> {
    const fresh = parseStamp(revision.stamp)!
    const stamp = await this.#readStamp(stampKey) ?? fresh
    switch (revision.kind) {
      case 'hard': return await this.#writeStamp(stampKey, { ...stamp, epoch: fresh.epoch })
      case 'soft': return await this.#writeStamp(stampKey, { ...stamp, softened: stamp.softened + 1 })
      // Nothing could keep a version for each tag in step with the stamp: any tag stands for all of them.
      case 'tags': return await this.#writeStamp(stampKey, { ...stamp, tagged: stamp.tagged + 1 })
    }
  }

  async forgetMany (stampKey: string, _stamp: string, keys: readonly string[]): Promise<void> {
    const stamp = await this.#readStamp(stampKey)
    if (stamp !== undefined) await this.#writeStamp(stampKey, { ...stamp, deleted: stamp.deleted + 1 })
    await this.#backend.backend.deleteMany(keys)
  }

  async #readStamp (stampKey: string): Promise<Stamp | undefined> {
    const [bytes] = await this.#backend.backend.getMany([stampKey])
    return bytes === undefined ? undefined : parseStamp(Buffer.from(bytes).toString('latin1'))
  }

  async #writeStamp (stampKey: string, stamp: Stamp): Promise<void> {
    await this.#backend.backend.setMany([{ key: stampKey, value: Buffer.from(formatStamp(stamp), 'latin1'), ttl: stampLifetime }])
  }
}
