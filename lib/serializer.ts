import { deserialize, serialize } from 'node:v8'
import { LRUCache } from 'lru-cache'
import { Packr, RESERVE_START_SPACE } from 'msgpackr'
import { InvalidArgumentError, show } from './errors.js'
import { copy } from './values.js'

/** Values to bytes and back. A value that `encode` throws for isn't cached; bytes that `decode` throws for are a miss. */
export interface Serializer {
  encode (value: unknown): Uint8Array
  decode (bytes: Uint8Array): unknown
}

/** A value's bytes. @throws what the serializer throws */
export function encodeValue (serializer: Serializer, value: unknown): Uint8Array {
  const bytes = serializer.encode(value)
  if (!(bytes instanceof Uint8Array)) throw new InvalidArgumentError('What serializer.encode returns', 'a Uint8Array', show(bytes))
  return bytes
}

/** The same, after `space` bytes for the caller to fill in. @throws what the serializer throws */
export function encodeAfter (serializer: Serializer, space: number, value: unknown): Buffer {
  return serializer === msgpackSerializer ? encodeFrom(space, value) : withRoom(space, encodeValue(serializer, value))
}

/** A copy of these bytes, after `space` bytes for the caller to fill in. */
export function withRoom (space: number, bytes: Uint8Array): Buffer {
  const roomy = Buffer.allocUnsafe(space + bytes.length)
  roomy.set(bytes, space)
  return roomy
}

/** The value that the bytes from `start` on encode. @throws what the serializer throws */
export function decodeFrom (serializer: Serializer, bytes: Uint8Array, start: number): unknown {
  return serializer === msgpackSerializer ? decodeAt(bytes, start) : serializer.decode(bytes.subarray(start))
}

// ─── the default serializer ──────────────────────────────────────────────────────────────────────

const options = { mapsAsObjects: true, variableMapSize: true, moreTypes: true, useBigIntExtension: true, copyBuffers: true }
const packr = new Packr({ ...options, useRecords: false })

/** The first byte tells how the others are encoded. */
const msgpackEncoding = 1
const v8Encoding = 2
const shapedEncoding = 3

/**
 * The default. msgpackr keeps dates, bigints, buffers, undefined and NaN at JSON's speed. What it would change (-0, Map,
 * Set, a `__proto__` property, lone surrogates, cycles …) goes through v8's structured clone, which keeps it and takes
 * three times as long.
 */
export const msgpackSerializer: Serializer = {
  encode: value => encodeFrom(0, value),
  decode: bytes => decodeAt(bytes, 0)
}

const msgpackHeader = Buffer.of(msgpackEncoding)
const v8Header = Buffer.of(v8Encoding)

function encodeFrom (start: number, value: unknown): Buffer {
  if (!isPlain(value)) return withHeader(v8Header, start, withRoom(start + v8Header.length, serialize(value)))
  const { header, packr } = shapeOf(value) ?? shapeless
  return withHeader(header, start, pack(packr, start + header.length, value))
}

function withHeader (header: Buffer, start: number, bytes: Buffer): Buffer {
  bytes.set(header, start)
  return bytes
}

/** msgpackr can reserve no more bytes than this in front. */
const mostReserved = 255

const pack = (packr: Packr, space: number, value: unknown): Buffer =>
  space > mostReserved ? withRoom(space, packr.pack(value)) : packr.pack(value, RESERVE_START_SPACE | space)

function decodeAt (bytes: Uint8Array, start: number): unknown {
  switch (bytes[start]) {
    case msgpackEncoding: return unpack(packr, bytes, start + 1)
    case shapedEncoding: {
      const { header, packr } = shapeIn(bytes, start)
      return unpack(packr, bytes, start + header.length)
    }
    // The bytes are copied because a typed array that v8 reads is a view of them. The value is copied to see that it can be:
    // damaged bytes may decode to something that can't, and so could be given to no reader.
    case v8Encoding: return copy(deserialize(Buffer.from(bytes.subarray(start + 1))))
    default: throw new TypeError(`unknown encoding ${bytes[start]}`)
  }
}

/** msgpackr is fastest on a source that it has seen before, and reads strings in one this short without native help. */
const reusedSource = Buffer.alloc(139)
const sourceRange = { start: 0, end: 0 }

function unpack (packr: Packr, bytes: Uint8Array, start: number): unknown {
  const length = bytes.length - start
  if (length <= reusedSource.length && length > 0) {
    for (let i = 0; i < length; i++) reusedSource[i] = bytes[start + i]!
    sourceRange.end = length
    return packr.unpack(reusedSource, sourceRange)
  }
  const body = bytes.subarray(start)
  // From a plain Uint8Array, msgpackr would unpack Uint8Arrays where Buffers were packed.
  return packr.unpack(Buffer.isBuffer(body) ? body : Buffer.from(body.buffer, body.byteOffset, body.byteLength))
}

// ─── rows with the same properties ───────────────────────────────────────────────────────────────

/**
 * Rows of a table have the same properties. When their names are written once, in front, msgpackr reads such a row (it says
 * record) three times as fast as a map.
 */
interface Shape {
  readonly names: readonly string[]
  /** The encoding, the length of the names, the names. */
  readonly header: Buffer
  readonly packr: Packr
}

const shapeless = { header: msgpackHeader, packr }

/** Shapes by their names, joined by commas. */
const shapes = new LRUCache<string, Shape>({ max: 100 })
/** Names that were seen once. A shape is made for the second time: an object that is used as a dictionary has names of its own. */
const seenOnce = new LRUCache<string, true>({ max: 1000 })
/** Most values have the shape of the one before. */
let lastShape: Shape = makeShape('id')

const shapeableName = /^[\w$]{1,50}$/
const mostNames = 40

/** `isShared`: otherwise damaged bytes could redefine the record in msgpackr, for all later values. */
function makeShape (text: string): Shape {
  const names = text.split(',')
  return {
    names,
    header: Buffer.from([shapedEncoding, text.length, ...Buffer.from(text, 'latin1')]),
    packr: new Packr({ ...options, structures: [Object.assign([...names], { isShared: true })], maxSharedStructures: 1, useRecords: value => hasNames(names, value) })
  }
}

/** The shape of a row, or of the first in a list of rows. */
function shapeOf (value: unknown): Shape | undefined {
  const row: unknown = Array.isArray(value) ? value[0] : value
  if (typeof row !== 'object' || row === null || Object.getPrototypeOf(row) !== Object.prototype) return undefined
  if (hasNames(lastShape.names, row)) return lastShape
  const names = Object.keys(row)
  if (names.length === 0 || names.length > mostNames || !names.every(name => shapeableName.test(name))) return undefined
  const text = names.join(',')
  if (text.length > 255) return undefined
  const known = shapes.get(text)
  if (known !== undefined) return (lastShape = known)
  if (seenOnce.delete(text)) return (lastShape = learn(text))
  seenOnce.set(text, true)
  return undefined
}

function learn (text: string): Shape {
  const shape = makeShape(text)
  shapes.set(text, shape)
  return shape
}

function hasNames (names: readonly string[], row: object): boolean {
  let at = 0
  for (const name in row) if (name !== names[at++]) return false
  return at === names.length
}

/** @throws TypeError for damaged names */
function shapeIn (bytes: Uint8Array, start: number): Shape {
  if (isHeader(lastShape.header, bytes, start)) return lastShape
  const length = bytes[start + 1]
  const text = Buffer.from(bytes.subarray(start + 2, start + 2 + length!)).toString('latin1')
  const names = text.split(',')
  if (text.length !== length || names.length > mostNames || !names.every(name => shapeableName.test(name))) throw new TypeError('damaged names of properties')
  return (lastShape = shapes.get(text) ?? learn(text))
}

function isHeader (header: Buffer, bytes: Uint8Array, start: number): boolean {
  for (let i = 1; i < header.length; i++) if (header[i] !== bytes[start + i]) return false
  return true
}

// ─── what msgpackr keeps ─────────────────────────────────────────────────────────────────────────

/** The object that a value is in, and its own parents: to find cycles. */
interface Parent { readonly value: object, readonly parent: Parent | undefined }

/** Whether msgpackr returns exactly what it was given. */
function isPlain (value: unknown, parent?: Parent): boolean {
  switch (typeof value) {
    case 'number': return value !== 0 || !Object.is(value, -0)
    case 'string': return value.isWellFormed()
    case 'object': return value === null || isPlainObject(value, parent)
    case 'function':
    case 'symbol': return false // v8 throws an error that names it
    default: return true
  }
}

function isPlainObject (value: object, parent: Parent | undefined): boolean {
  const prototype = Object.getPrototypeOf(value)
  if (prototype === Date.prototype) return !Number.isNaN((value as Date).getTime())
  if (prototype === Buffer.prototype) return true
  if (prototype !== Object.prototype && prototype !== Array.prototype) return false
  for (let one = parent; one !== undefined; one = one.parent) if (one.value === value) return false
  let self: Parent | undefined // made for the first child object: most rows are flat
  if (Array.isArray(value)) {
    for (let i = 0; i < value.length; i++) {
      const item: unknown = value[i]
      if (!(isObject(item) ? isPlainObject(item, self ??= { value, parent }) : isPlain(item))) return false
    }
  } else {
    for (const name in value) {
      const item = (value as Record<string, unknown>)[name]
      if (name === '__proto__' || !name.isWellFormed()) return false
      if (!(isObject(item) ? isPlainObject(item, self ??= { value, parent }) : isPlain(item))) return false
    }
  }
  return true
}

const isObject = (value: unknown): value is object => typeof value === 'object' && value !== null
