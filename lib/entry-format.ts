import { KeptEntry, noTags, type Entry } from './entry.js'
import { drawRandom, randomPool } from './random-bytes.js'
import { decodeFrom, encodeAfter, withRoom, type Serializer } from './serializer.js'
import { unstamped, type Stamp } from './stamp.js'
import { own, share } from './values.js'

/*
 * Bytes of an entry, format 1:
 *   0  magic 0xfc 0xa9      2  format      3  kind: a mark or a value
 *   4  id, 8 random bytes: what a compare-and-set compares
 *  12  loadedAt, freshUntil, staleUntil, epoch, softened, tagged, deleted: doubles, little-endian
 *  68  length of the tags, 4 bytes; the tags as JSON; the value as the region's serializer wrote it
 * A mark ends after its id.
 */
const format = 1
const kindMark = 0
const kindValue = 1
const numbersAt = 12
const tagsAt = 68

/** How many bytes of an entry or a mark tell it from any other. */
export const identityLength = 12

function writeHeader (bytes: Buffer, kind: number): void {
  bytes[0] = 0xfc
  bytes[1] = 0xa9
  bytes[2] = format
  bytes[3] = kind
  const at = drawRandom(8)
  randomPool.copy(bytes, 4, at, at + 8)
}

/** What a key holds while its entry is loaded: a right to fill it, until it is deleted. */
export function newMark (): Buffer {
  const bytes = Buffer.alloc(identityLength)
  writeHeader(bytes, kindMark)
  return bytes
}

export const isMark = (bytes: Uint8Array): boolean =>
  bytes.length === identityLength && bytes[0] === 0xfc && bytes[1] === 0xa9 && bytes[3] === kindMark

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

/** The numbers of one entry at a time: to make a view of each entry's own bytes would take as long as all the rest. */
const bytesOfNumbers = new Uint8Array(tagsAt - numbersAt)
const numbers = new DataView(bytesOfNumbers.buffer)

/**
 * Undefined for a mark.
 * @throws TypeError for bytes that are foreign, truncated or of another format, and what the serializer throws
 */
export function decodeEntry (bytes: Uint8Array, serializer: Serializer): Entry | undefined {
  if (isMark(bytes)) return undefined
  if (bytes.length < tagsAt + 4 || bytes[0] !== 0xfc || bytes[1] !== 0xa9 || bytes[2] !== format || bytes[3] !== kindValue) {
    throw new TypeError('not an entry of this format')
  }
  const valueAt = tagsAt + 4 + (bytes[tagsAt]! | bytes[tagsAt + 1]! << 8 | bytes[tagsAt + 2]! << 16) + bytes[tagsAt + 3]! * 2 ** 24
  if (valueAt > bytes.length) throw new TypeError('a truncated entry')
  const value = decodeFrom(serializer, bytes, valueAt)
  if (value === undefined) throw new TypeError('serializer.decode returned undefined, which means that there is no value')
  const shared = share(value)
  if (shared.loose !== undefined) own(shared) // throws for a value that readers can't get a copy of
  // Four bytes at a time: one by one they would take as long as the value.
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

/** Most entries of an answer carry the same stamp. */
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
