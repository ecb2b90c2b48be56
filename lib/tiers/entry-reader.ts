import type { Entry } from '../entry.js'
import { decodeEntry } from '../entry-format.js'
import type { Keyspace } from '../keys.js'
import type { Serializer } from '../serializer.js'
import { parseStamp, type Stamp } from '../stamp.js'
import type { TierBackend } from './tier-backend.js'
import type { TierInvalidations } from './tier-invalidations.js'

export interface EntryReaderOptions {
  backend: TierBackend
  invalidations: TierInvalidations
  keyspace: Keyspace
  serializer: Serializer
}

/** What a read may believe of the bytes that a backend holds. */
export class EntryReader {
  readonly #backend: TierBackend
  readonly #invalidations: TierInvalidations
  readonly #keyspace: Keyspace
  readonly #serializer: Serializer
  /** Most answers bring the same stamp as the one before. */
  #lastStamp: { readonly text: string, readonly stamp: Stamp | undefined } = { text: '', stamp: undefined }

  constructor ({ backend, invalidations, keyspace, serializer }: EntryReaderOptions) {
    this.#backend = backend
    this.#invalidations = invalidations
    this.#keyspace = keyspace
    this.#serializer = serializer
  }

  /** Undefined for what is no stamp. */
  stampOf (bytes: Uint8Array | undefined): Stamp | undefined {
    if (bytes === undefined) return undefined
    const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('latin1')
    if (text !== this.#lastStamp.text) this.#lastStamp = { text, stamp: parseStamp(text) }
    return this.#lastStamp.stamp
  }

  /** Undefined for a mark, and for what is no entry of ours. */
  entryOf (key: string, bytes: Uint8Array | undefined): Entry | undefined {
    if (bytes === undefined) return undefined
    try {
      return decodeEntry(bytes, this.#serializer)
    } catch (error) {
      this.#backend.warnOnce(key, error, 'an entry was not understood and counts as missing')
      return undefined
    }
  }

  /**
   * The entries without those that were invalidated; those that were softened, marked so. In place. `replays`: how many
   * there were when the backend was asked. Where there were more since, nothing is believed: of a cluster's nodes, one
   * may have answered before it was told, and another one after.
   */
  dropInvalidated (keys: readonly string[], entries: (Entry | undefined)[], stamp: Stamp, replays: number): (Entry | undefined)[] | Promise<(Entry | undefined)[]> {
    if (this.#invalidations.replays !== replays) return entries.map(() => undefined)
    let areTagsDoubtful = false
    for (let i = 0; i < entries.length; i++) {
      const entry = entries[i]
      if (entry === undefined) continue
      if (entry.stamp.epoch !== stamp.epoch || this.#invalidations.concerns(keys[i]!, entry.tags)) entries[i] = undefined
      else if (entry.stamp.softened !== stamp.softened) entries[i] = { ...entry, softened: true }
      if (entry.tags.length > 0 && entry.stamp.tagged !== stamp.tagged) areTagsDoubtful = true
    }
    return areTagsDoubtful ? this.#dropTagged(entries, stamp) : entries
  }

  /** Each tag is looked at only where some tag of the region was invalidated since an entry's load began. */
  async #dropTagged (entries: (Entry | undefined)[], stamp: Stamp): Promise<(Entry | undefined)[]> {
    const isDoubtful = (entry: Entry | undefined): entry is Entry => entry !== undefined && entry.tags.length > 0 && entry.stamp.tagged !== stamp.tagged
    // A backend of three methods keeps no versions of tags.
    if (this.#backend.leasing === undefined) return entries.map(entry => isDoubtful(entry) ? undefined : entry)
    const tags = [...new Set(entries.filter(isDoubtful).flatMap(entry => entry.tags))]
    const versions = await this.#backend.getMany([...tags.map(tag => this.#keyspace.tag(tag)), this.#keyspace.stamp])
    // The stamp once more, and last: if the backend was flushed after the entries were read, these versions say nothing of them.
    if (this.stampOf(versions.at(-1))?.epoch !== stamp.epoch) return entries.map(() => undefined)
    const invalidatedAt = new Map(tags.map((tag, i) => [tag, tagVersion(versions[i], stamp.epoch)]))
    return entries.map(entry => isDoubtful(entry) && entry.tags.some(tag => invalidatedAt.get(tag)! > entry.stamp.tagged) ? undefined : entry)
  }
}

/** The stamp's `tagged` when the tag was last invalidated. A version that is lost, or isn't one, could be any. */
function tagVersion (bytes: Uint8Array | undefined, epoch: number): number {
  const [, tagEpoch, tagged] = (bytes === undefined ? undefined : /^(\d+)\|(\d+)/.exec(Buffer.from(bytes).toString('latin1'))) ?? []
  if (tagEpoch === undefined) return Infinity
  return Number(tagEpoch) === epoch ? Number(tagged) : 0 // of an epoch whose entries are gone anyway
}
