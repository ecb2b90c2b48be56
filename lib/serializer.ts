import { deserialize, serialize } from 'node:v8'
import { Packr } from 'msgpackr'
import { copy } from './values.js'

/** Values to bytes and back. A value that `encode` throws for isn't cached; bytes that `decode` throws for are a miss. */
export interface Serializer {
  encode (value: unknown): Uint8Array
  decode (bytes: Uint8Array): unknown
}

/** One that decodes the end of some bytes faster than if it were cut off first. */
interface OffsetSerializer extends Serializer {
  decodeAt (bytes: Uint8Array, start: number): unknown
}

/** What the bytes from `start` on stand for. */
export function decodeFrom (serializer: Serializer, bytes: Uint8Array, start: number): unknown {
  const { decodeAt } = serializer as Partial<OffsetSerializer>
  return decodeAt === undefined ? serializer.decode(bytes.subarray(start)) : decodeAt(bytes, start)
}

const packr = new Packr({ useRecords: false, mapsAsObjects: true, variableMapSize: true, moreTypes: true, useBigIntExtension: true, copyBuffers: true })

const msgpackEncoding = 1
const v8Encoding = 2

/**
 * The default. msgpackr keeps dates, bigints, buffers, undefined and NaN at JSON's speed. What it would change (-0, Map,
 * Set, a `__proto__` property, lone surrogates, cycles …) goes through v8's structured clone, which keeps it and takes
 * three times as long. The first byte tells which.
 */
export const msgpackSerializer: OffsetSerializer = {
  encode (value) {
    const plain = isPlain(value, [])
    const body = plain ? packr.pack(value) : serialize(value)
    const bytes = Buffer.allocUnsafe(body.length + 1)
    bytes[0] = plain ? msgpackEncoding : v8Encoding
    bytes.set(body, 1)
    return bytes
  },

  decode: bytes => decodeAt(bytes, 0),
  decodeAt
}

function decodeAt (bytes: Uint8Array, start: number): unknown {
  const body = bytes.subarray(start + 1)
  // From bytes that are no Buffer it would make Buffers that are none.
  if (bytes[start] === msgpackEncoding) return packr.unpack(Buffer.isBuffer(body) ? body : Buffer.from(body.buffer, body.byteOffset, body.byteLength))
  // A copy of the bytes, since a typed array that v8 reads is a view of them; and of the value, which damaged bytes can make
  // of what no reader could get a copy of.
  if (bytes[start] === v8Encoding) return copy(deserialize(Buffer.from(body)))
  throw new TypeError(`unknown encoding ${bytes[start]}`)
}

/** Whether msgpackr gives back just what it was given. */
function isPlain (value: unknown, above: object[]): boolean {
  switch (typeof value) {
    case 'number': return !Object.is(value, -0)
    case 'string': return value.isWellFormed()
    case 'object': return value === null || isPlainObject(value, above)
    case 'function':
    case 'symbol': return false // v8 names it in the error that it throws
    default: return true
  }
}

function isPlainObject (value: object, above: object[]): boolean {
  const prototype = Object.getPrototypeOf(value)
  if (prototype === Date.prototype) return !Number.isNaN((value as Date).getTime())
  if (prototype === Buffer.prototype) return true
  if (prototype !== Object.prototype && prototype !== Array.prototype) return false
  if (above.includes(value)) return false
  above.push(value)
  let plain = true
  if (Array.isArray(value)) {
    for (let i = 0; plain && i < value.length; i++) plain = isPlain(value[i], above)
  } else {
    for (const name in value) {
      plain = name !== '__proto__' && name.isWellFormed() && isPlain((value as Record<string, unknown>)[name], above)
      if (!plain) break
    }
  }
  above.pop()
  return plain
}
