import { createHash } from 'node:crypto'
import { InvalidArgumentError, InvalidOptionsError, show } from './errors.js'
import type { Stamp } from './stamp.js'

/*
 * The key of an entry is `namespace:region:kind:rest`. The first three can't hold a colon, so nothing in `rest` reaches
 * another region. Keys of anything else (stamps, tags, locks) start with `{`, which no entry does.
 */

/** What an entry is of: 'k', a caller's own key; 'f', a wrapped function; 'o', a cached object. */
export type KeyKind = 'k' | 'f' | 'o'

/** How deeply arguments may be nested: they may come from a request, and a deeper one could exhaust the stack. */
const deepest = 100

/** Longer keys are hashed: memcached takes 250 bytes, and namespace and region take up to 130 of them. */
const longestUnhashed = 100
const safe = /^[!-z|~]+$/ // printable ASCII without blanks and braces: braces choose a slot in a Redis Cluster

/** Whether it can be the name of a namespace, a region, a cached object, or a method: names are part of keys. */
export const isName = (value: unknown): value is string => typeof value === 'string' && /^[\w.$@/-]{1,64}$/.test(value)
/** The same in words. */
export const nameRule = '1 to 64 letters, digits and . $ @ / - _'

/** @throws InvalidOptionsError */
export function assertName (value: unknown, path: string): asserts value is string {
  if (!isName(value)) throw new InvalidOptionsError(path, `a name of ${nameRule} (no colon, no blank)`, show(value))
}

/** `rest` as part of a backend's key: itself where that is safe, otherwise `#` and its SHA-256. */
export function safeKey (rest: string): string {
  const startsAsHash = rest.charCodeAt(0) === 35 // '#'
  if (rest.length <= longestUnhashed && !startsAsHash && safe.test(rest)) return rest
  // UTF-16, since in UTF-8 all lone surrogates become the same replacement character.
  return '#' + createHash('sha256').update(rest, 'utf16le').digest('base64url')
}

/**
 * Where a cache object keeps a property: `name.id.property`. Within `id` and `property` points are escaped, so that only the
 * last two points separate; so are colons, which every key of a region has, and `#`, which a hash begins with.
 */
export function propertyKey (object: string, id: string, property: string): string {
  return `${object}.${safeKey(`${escaped(id)}.${escaped(property)}`)}`
}

const escaped = (part: string): string => part.replace(/[%.:#]/g, char => `%${char.charCodeAt(0).toString(16).toUpperCase()}`)

/** The `rest` of a key that a caller chose. @throws InvalidArgumentError */
export function callerKey (key: unknown): string {
  if (typeof key !== 'string') throw new InvalidArgumentError('A key', 'a string', show(key))
  return safeKey(key)
}

/**
 * Arguments as a string that tells them apart by type and position: 1, '1' and 1n; ['a', 'b'] and ['ab']; null and
 * absent. The order of an object's properties does not matter.
 * @throws InvalidArgumentError for functions, symbols, cycles, and instances of classes other than Date.
 */
export function encodeArguments (args: readonly unknown[], where: string): string {
  let encoded = ''
  for (let i = 0; i < args.length; i++) {
    const arg = args[i]
    if (i > 0) encoded += ','
    encoded += typeof arg === 'number' ? String(arg) : encode(arg, `${where}[${i}]`, [])
  }
  return encoded
}

function encode (value: unknown, where: string, parents: object[]): string {
  switch (typeof value) {
    case 'string': return JSON.stringify(value) // which escapes lone surrogates
    case 'number': return String(value) // -0 is 0, as in a Map
    case 'bigint': return `${value}n`
    case 'boolean':
    case 'undefined': return String(value)
    case 'object': return value === null ? 'null' : encodeObject(value, where, parents)
    default: throw refusal(where, value)
  }
}

function encodeObject (value: object, where: string, parents: object[]): string {
  if (parents.includes(value)) throw new InvalidArgumentError(where, 'free of cycles', 'one')
  if (parents.length === deepest) throw new InvalidArgumentError('Arguments', `nested no deeper than ${deepest}`, 'more')
  if (value instanceof Date) return `@${value.getTime()}`
  parents.push(value)
  let encoded: string
  if (Array.isArray(value)) {
    encoded = `[${Array.from(value, (item, i) => encode(item, `${where}[${i}]`, parents)).join(',')}]`
  } else {
    const prototype = Object.getPrototypeOf(value)
    if (prototype !== Object.prototype && prototype !== null) throw refusal(where, value)
    const [symbol] = Object.getOwnPropertySymbols(value)
    if (symbol !== undefined) throw refusal(where, symbol)
    const properties = Object.entries(value).sort(([a], [b]) => a < b ? -1 : 1)
    encoded = `{${properties.map(([name, item]) => `${JSON.stringify(name)}:${encode(item, `${where}.${name}`, parents)}`).join(',')}}`
  }
  parents.pop()
  return encoded
}

function refusal (where: string, value: unknown) {
  return new InvalidArgumentError(where, 'made of strings, numbers, bigints, booleans, null, undefined, Dates, arrays and plain objects', show(value))
}

/** The channel on which the processes of a namespace tell each other of invalidations. */
export const coherenceChannel = (namespace: string): string => `${namespace}:coherence`

/** The keys of a region. Those with the same name in braces share a slot of a Redis Cluster. */
export class Keyspace {
  readonly region: string
  /** Every entry's key begins with it. */
  readonly prefix: string
  readonly stamp: string
  readonly #braced: string

  constructor (namespace: string, region: string) {
    this.region = region
    this.prefix = `${namespace}:${region}:`
    this.#braced = `{${namespace}:${region}}`
    this.stamp = `${this.#braced}:stamp`
  }

  entry (kind: KeyKind, rest: string): string {
    return `${this.prefix}${kind}:${rest}`
  }

  get wakeUps (): string { return `${this.#braced}:wake-ups` }

  /** Where a backend keeps one part of a stamp. */
  stampPart (part: keyof Stamp): string { return `${this.stamp}:${part}` }

  tag (tag: string): string { return `${this.#braced}:tag:${safeKey(tag)}` }

  lock (key: string): string { return `${this.#braced}:lock:${key.slice(this.prefix.length)}` }
}
