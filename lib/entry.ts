import { randomFillSync } from 'node:crypto'
import { decodeFrom, encodeAfter, withRoom, type Serializer } from './serializer.js'
import { own, share, type Shared } from './values.js'

/** What a tier keeps under a key. Times are milliseconds of the manager's clock. */
export interface Entry extends Shared {
  readonly loadedAt: number
  /** `loadedAt` plus ttl. */
  readonly freshUntil: number
  /** `freshUntil` plus grace. */
  readonly staleUntil: number
  readonly tags: readonly string[]
  /** The region's stamp when the load began. */
  readonly stamp: Stamp
  /** It was invalidated softly: stale, however young. */
  readonly softened?: boolean
}

/** As a class, see *What is made for each key* in docs/decisions.md. */
export class KeptEntry implements Entry {
  readonly value: unknown
  readonly loose: Shared['loose']
  readonly loadedAt: number
  readonly freshUntil: number
  readonly staleUntil: number
  readonly tags: readonly string[]
  readonly stamp: Stamp

  constructor ({ value, loose, loadedAt, freshUntil, staleUntil, tags, stamp }: Omit<Entry, 'softened'>) {
    this.value = value
    this.loose = loose
    this.loadedAt = loadedAt
    this.freshUntil = freshUntil
    this.staleUntil = staleUntil
    this.tags = tags
    this.stamp = stamp
  }
}

export type Freshness = 'fresh' | 'stale' | 'gone'

/** With `maxAge`, that age takes the ttl's place for this one question; with `Infinity`, whatever is there is fresh. */
export function freshness (entry: Entry, now: number, maxAge: number | undefined): Freshness {
  if (maxAge === undefined && entry.softened !== true) return now < entry.freshUntil ? 'fresh' : now < entry.staleUntil ? 'stale' : 'gone'
  const age = now - entry.loadedAt
  const grace = entry.staleUntil - entry.freshUntil
  if (entry.softened === true && maxAge !== Infinity) {
    const until = maxAge === undefined ? entry.staleUntil : Math.min(entry.staleUntil, entry.loadedAt + maxAge + grace)
    return grace > 0 && now < until ? 'stale' : 'gone'
  }
  return age < maxAge! ? 'fresh' : age < maxAge! + grace ? 'stale' : 'gone'
}

/** The same for a hit, which asks nothing else. */
export const isFresh = (entry: Entry, now: number, maxAge: number | undefined): boolean =>
  maxAge === undefined && entry.softened !== true ? now < entry.freshUntil : freshness(entry, now, maxAge) === 'fresh'

/**
 * What has happened to a region as a whole: counters, and no clocks, so that nothing is compared between the clocks of
 * two machines. A shared tier keeps it under one key and every read brings it along. An entry carries the stamp that its
 * load began under; a stamp that was lost is replaced by one with another epoch, and every entry is gone with it.
 */
export interface Stamp {
  /** Replaced by a hard invalidation. Entries of another epoch are gone. */
  readonly epoch: number
  /** Raised by a soft invalidation. Entries of an older one are stale. */
  readonly softened: number
  /** Raised by an invalidation of tags. Entries of an older one are looked at tag by tag. */
  readonly tagged: number
  /**
   * Raised by an invalidation of keys, and on one Redis server by whoever replaces a value. A fill without a mark, and rows
   * that a load found besides what it was asked for, are kept only if nothing has raised it.
   */
  readonly deleted: number
}

/** Of an entry that no shared tier has stamped yet. */
export const unstamped: Stamp = { epoch: -1, softened: 0, tagged: 0, deleted: 0 }

export const newStamp = (): Stamp => ({ epoch: random.readUIntBE(draw(6), 6), softened: 0, tagged: 0, deleted: 0 })

export const formatStamp = (stamp: Stamp): string => `${stamp.epoch}|${stamp.softened}|${stamp.tagged}|${stamp.deleted}`

/** Undefined for what is no stamp of ours. */
export function parseStamp (text: string): Stamp | undefined {
  const [, epoch, softened, tagged, deleted] = /^(\d{1,15})\|(\d{1,15})\|(\d{1,15})\|(\d{1,15})$/.exec(text) ?? []
  return epoch === undefined ? undefined : { epoch: Number(epoch), softened: Number(softened), tagged: Number(tagged), deleted: Number(deleted) }
}

/*
 * Bytes of an entry, format 1:
 *   0  magic 0xfc 0xa9      2  format      3  kind: a lease or a value
 *   4  id, 8 random bytes: what the compare of a compare-and-set looks at
 *  12  loadedAt, freshUntil, staleUntil, epoch, softened, tagged, deleted: doubles, little-endian
 *  68  length of the tags, 4 bytes; the tags as JSON; the value as the region's serializer wrote it
 * A lease ends after its id.
 */
const format = 1
const kindLease = 0
const kindValue = 1
const numbersAt = 12
const tagsAt = 68

/** As much of an entry, a lease, or foreign bytes, as tells it from any other. */
export const identityLength = 12

function writeHeader (bytes: Buffer, kind: number): void {
  bytes[0] = 0xfc
  bytes[1] = 0xa9
  bytes[2] = format
  bytes[3] = kind
  const at = draw(8)
  random.copy(bytes, 4, at, at + 8)
}

/** Filled as a whole: each time is a call of the system. */
const random = Buffer.alloc(4096)
let drawn = random.length

/** Where so many random bytes are that nobody else gets. */
function draw (count: number): number {
  if (drawn + count > random.length) {
    randomFillSync(random)
    drawn = 0
  }
  return (drawn += count) - count
}

/** A mark that stands where an entry will be: whoever holds it may fill the key, until somebody deletes it. */
export function newLease (): Buffer {
  const bytes = Buffer.alloc(identityLength)
  writeHeader(bytes, kindLease)
  return bytes
}

export const isLease = (bytes: Uint8Array): boolean =>
  bytes.length === identityLength && bytes[0] === 0xfc && bytes[1] === 0xa9 && bytes[3] === kindLease

/** @throws what the serializer throws, unless it is given the value's bytes */
export function encodeEntry (entry: Entry, serializer: Serializer, stamp: Stamp = entry.stamp, value?: Uint8Array): Buffer {
  const tags = entry.tags.length === 0 ? '' : JSON.stringify(entry.tags)
  const tagsLength = Buffer.byteLength(tags)
  const valueAt = tagsAt + 4 + tagsLength
  const bytes = value === undefined ? encodeAfter(serializer, valueAt, entry.value) : withRoom(valueAt, value)
  writeHeader(bytes, kindValue)
  numbers.setFloat64(0, entry.loadedAt, true)
  numbers.setFloat64(8, entry.freshUntil, true)
  numbers.setFloat64(16, entry.staleUntil, true)
  numbers.setFloat64(24, stamp.epoch, true)
  numbers.setFloat64(32, stamp.softened, true)
  numbers.setFloat64(40, stamp.tagged, true)
  numbers.setFloat64(48, stamp.deleted, true)
  bytes.set(bytesOfNumbers, numbersAt)
  bytes.writeUInt32LE(tagsLength, tagsAt)
  if (tagsLength > 0) bytes.write(tags, tagsAt + 4, 'utf8')
  return bytes
}

/** Those of one entry at a time: a view of each entry's own bytes would take as long to make as all the rest. */
const bytesOfNumbers = new Uint8Array(tagsAt - numbersAt)
const numbers = new DataView(bytesOfNumbers.buffer)

export const noTags: readonly string[] = Object.freeze([])

/**
 * Undefined for a lease.
 * @throws TypeError for bytes that are foreign, truncated or of another format, and what the serializer throws
 */
export function decodeEntry (bytes: Uint8Array, serializer: Serializer): Entry | undefined {
  if (isLease(bytes)) return undefined
  if (bytes.length < tagsAt + 4 || bytes[0] !== 0xfc || bytes[1] !== 0xa9 || bytes[2] !== format || bytes[3] !== kindValue) {
    throw new TypeError('not an entry of this format')
  }
  const valueAt = tagsAt + 4 + (bytes[tagsAt]! | bytes[tagsAt + 1]! << 8 | bytes[tagsAt + 2]! << 16) + bytes[tagsAt + 3]! * 2 ** 24
  if (valueAt > bytes.length) throw new TypeError('a truncated entry')
  const shared = share(decodeFrom(serializer, bytes, valueAt))
  if (shared.loose !== undefined) own(shared) // what readers can't get a copy of is no value
  // Four at a time: one by one they would take as long as the value.
  for (let at = 0; at < bytesOfNumbers.length; at += 4) {
    const from = numbersAt + at
    numbers.setInt32(at, bytes[from]! | bytes[from + 1]! << 8 | bytes[from + 2]! << 16 | bytes[from + 3]! << 24, true)
  }
  const tags = valueAt === tagsAt + 4 ? noTags : parseTags(Buffer.from(bytes.subarray(tagsAt + 4, valueAt)).toString('utf8'))
  return new KeptEntry({
    value: shared.value,
    loose: shared.loose,
    loadedAt: numbers.getFloat64(0, true),
    freshUntil: numbers.getFloat64(8, true),
    staleUntil: numbers.getFloat64(16, true),
    tags,
    stamp: stampOf(numbers.getFloat64(24, true), numbers.getFloat64(32, true), numbers.getFloat64(40, true), numbers.getFloat64(48, true))
  })
}

/** Most entries of an answer carry the same. */
let lastStamp = unstamped

function stampOf (epoch: number, softened: number, tagged: number, deleted: number): Stamp {
  if (epoch !== lastStamp.epoch || softened !== lastStamp.softened || tagged !== lastStamp.tagged || deleted !== lastStamp.deleted) lastStamp = { epoch, softened, tagged, deleted }
  return lastStamp
}

function parseTags (json: string): readonly string[] {
  const tags: unknown = JSON.parse(json)
  if (!Array.isArray(tags) || !tags.every(tag => typeof tag === 'string')) throw new TypeError('tags that are none')
  return tags
}
