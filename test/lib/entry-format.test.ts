import { isDeepStrictEqual } from 'node:util'
import fc from 'fast-check'
import t from 'tap'
import type { Entry } from '../../lib/entry.js'
import { decodeEntry, encodeEntry, identityLength, isMark, newMark } from '../../lib/entry-format.js'
import { msgpackSerializer } from '../../lib/serializer.js'
import type { Stamp } from '../../lib/stamp.js'
import { copyIn } from '../../lib/values.js'

const stamp: Stamp = { epoch: 123456789012345, softened: 1, tagged: 2, deleted: 3 }
const entryOf = (value: unknown, more: Partial<Entry> = {}): Entry =>
  ({ ...copyIn(value), loadedAt: 1000, freshUntil: 2000, staleUntil: 2500, tags: [], stamp, ...more })
const encode = (entry: Entry) => encodeEntry(entry, msgpackSerializer)
const decode = (bytes: Uint8Array) => plain(decodeEntry(bytes, msgpackSerializer))
/** Its properties, of whatever class it is. */
const plain = (entry: Entry | undefined): Entry | undefined => entry && { ...entry }

t.test('an entry comes back as it went', async t => {
  const cases = [
    entryOf({ id: 1, at: new Date(5) }),
    entryOf(null),
    entryOf('a', { tags: ['city', 'country:DE', '日本', ''] }),
    entryOf('a', { loadedAt: 1.7e12 + 0.25, freshUntil: 1.8e12 + 0.5, staleUntil: Infinity }),
    entryOf('a', { loadedAt: -1, freshUntil: -0.5, staleUntil: -5e-324 }),
    entryOf('a', { loadedAt: NaN, freshUntil: -Infinity, staleUntil: -0 }),
    entryOf('a', { stamp: { epoch: 0, softened: 0, tagged: 2 ** 40, deleted: Number.MAX_SAFE_INTEGER } })
  ]
  for (const entry of cases) t.ok(isDeepStrictEqual(decode(encode(entry)), entry))
  fc.assert(fc.property(fc.jsonValue(), fc.array(fc.string({ unit: 'binary' })), fc.nat(), (value, tags, time) => {
    const entry = entryOf(value, { tags, loadedAt: time, freshUntil: time + 1, staleUntil: time + 2 })
    return isDeepStrictEqual(decode(encode(entry)), entry)
  }))
})

t.test('what a decoded entry holds is ready to be shared', async t => {
  const entry = decode(encode(entryOf({ frozen: { a: 1 }, at: new Date(5) })))!
  t.strictSame(entry.loose, ['at'])
  t.ok(Object.isFrozen((entry.value as { frozen: object }).frozen))
})

t.test('that an entry was softened is said by its stamp, not by its bytes', async t => {
  t.equal(decode(encode(entryOf('a', { softened: true })))!.softened, undefined)
})

t.test('two entries of one value are told apart, by as many bytes as a compare looks at', async t => {
  const identity = () => encode(entryOf('a')).toString('hex', 0, identityLength)
  t.not(identity(), identity())
  t.not(newMark().toString('hex'), newMark().toString('hex'))
})

t.test('a mark is no entry, and an entry is no mark', async t => {
  const mark = newMark()
  t.equal(mark.length, identityLength)
  t.ok(isMark(mark))
  t.ok(isMark(new Uint8Array(mark)))
  t.equal(decode(mark), undefined)
  const entry = encode(entryOf('a'))
  t.notOk(isMark(entry))
  t.notOk(isMark(entry.subarray(0, identityLength)))
  for (const at of [0, 1, 3]) {
    const foreign = Buffer.from(mark)
    foreign[at]! ^= 0xff
    t.notOk(isMark(foreign))
    t.throws(() => decode(foreign), TypeError)
  }
})

t.test('bytes of another format, or of somebody else, are refused', async t => {
  const whole = encode(entryOf({ id: 1 }, { tags: ['a'] }))
  for (const at of [0, 1, 2, 3]) {
    const other = Buffer.from(whole)
    other[at]! ^= 0xff
    t.throws(() => decode(other), { name: 'TypeError', message: 'not an entry of this format' })
  }
  for (const foreign of [Buffer.alloc(0), Buffer.from('{"id":1}'), Buffer.alloc(200), Buffer.from('a'.repeat(200))]) {
    t.throws(() => decode(foreign), { name: 'TypeError', message: 'not an entry of this format' })
  }
})

t.test('an entry that a serializer makes nothing of is refused', async t => {
  t.throws(() => decodeEntry(encode(entryOf(1)), { encode: () => Buffer.alloc(0), decode: () => undefined }), { name: 'TypeError', message: /^serializer\.decode returned undefined/ })
})

t.test('a truncated entry is refused, wherever it ends', async t => {
  for (const value of [{ id: 1, name: 'a' }, new Map([['a', 1]]), null, 'text', 1.5, Buffer.from('abc')]) {
    const whole = encode(entryOf(value, { tags: ['city', 'country'] }))
    t.ok(decode(whole))
    for (let length = 0; length < whole.length; length++) {
      if (length === identityLength) continue // what a take-over leaves of nothing
      t.throws(() => decode(whole.subarray(0, length)), `${length} of ${whole.length} bytes`)
    }
    t.throws(() => decode(whole.subarray(0, identityLength)), TypeError)
  }
})

t.test('a length of tags that lies is refused, and so are tags that are none', async t => {
  const withTags = (json: string) => {
    const bytes = encode(entryOf('a', { tags: ['x'.repeat(json.length - 4)] }))
    bytes.write(json, bytes.indexOf('["xxx'))
    return bytes
  }
  t.strictSame(decode(withTags('["abcdef"]'))!.tags, ['abcdef'])
  for (const json of ['{"a": 1234}', '["a", 12345]', '"abcdefghi"', 'abcdefghijk']) t.throws(() => decode(withTags(json)), Error, json)
  const lying = encode(entryOf('a'))
  lying.writeUInt32LE(0xffffffff, 68)
  t.throws(() => decode(lying), { name: 'TypeError', message: 'a truncated entry' })
})

t.test('damaged bytes never crash: they are an entry, a mark or an error', async t => {
  const whole = encode(entryOf({ id: 1, list: [1, 'a', null], at: new Date(5) }, { tags: ['a'] }))
  fc.assert(fc.property(fc.nat(whole.length - 1), fc.integer({ min: 0, max: 255 }), (at, byte) => {
    const damaged = Buffer.from(whole)
    damaged[at] = byte
    try { decode(damaged) } catch (error) { return error instanceof Error }
    return true
  }), { numRuns: 3000 })
})

t.test('an entry is read where it lies in a larger buffer, whatever its class', async t => {
  const entry = entryOf({ id: 1, photo: Buffer.from('abc') }, { tags: ['a'] })
  const whole = encode(entry)
  const around = new Uint8Array(whole.length + 10).fill(0xee)
  around.set(whole, 3)
  t.ok(isDeepStrictEqual(decode(around.subarray(3, 3 + whole.length)), entry))
})

t.test('a serializer that gives no bytes, or throws, is found out', async t => {
  const entry = entryOf('a')
  t.throws(() => encodeEntry(entry, { encode: () => 'text' as unknown as Uint8Array, decode: () => 1 }), { code: 'FST_CACHING_API_INVALID_ARGUMENT', message: "What serializer.encode returns must be a Uint8Array, got 'text'" })
  const error = new Error('not today')
  t.throws(() => encodeEntry(entry, { encode: () => { throw error }, decode: () => 1 }), error)
  t.throws(() => decodeEntry(encode(entry), { encode: () => Buffer.alloc(0), decode: () => { throw error } }), error)
})

t.test('a serializer of one’s own gets just the bytes that it gave', async t => {
  const json = { encode: (value: unknown) => new TextEncoder().encode(JSON.stringify(value)), decode: (bytes: Uint8Array) => JSON.parse(new TextDecoder().decode(bytes)) }
  const entry = entryOf({ id: 1 }, { tags: ['a'] })
  t.ok(isDeepStrictEqual(plain(decodeEntry(encodeEntry(entry, json), json)), entry))
})

t.test('entries that are parts of one buffer, and those that have a large one to themselves', async t => {
  const values = ['a', 'b'.repeat(100_000), { c: 1 }]
  const bytes = values.map(value => encode(entryOf(value)))
  const together = Buffer.concat(bytes)
  let at = 0
  for (const [i, { length }] of bytes.entries()) {
    t.equal(isDeepStrictEqual(decode(together.subarray(at, at += length))?.value, values[i]), true)
    t.equal(isDeepStrictEqual(decode(Uint8Array.from(bytes[i]!))?.value, values[i]), true)
  }
})

t.test('what a serializer makes that no reader can get a copy of is no entry', async t => {
  const bytes = encode(entryOf({ url: 'https://example.org' }))
  t.throws(() => decodeEntry(bytes, { ...msgpackSerializer, decodeAt: undefined, decode: () => ({ url: new URL('https://example.org') }) } as never), { message: /can't be cached/ })
})
