import { createHash } from 'node:crypto'
import { InvalidArgumentError, InvalidOptionsError, show } from './errors.js'

/*
 * Every key is `namespace:region:kind:rest`. The first three can't hold a colon, so nothing in `rest` reaches another
 * region; what is not an entry (stamps, tags, locks) starts with `{`, which no entry does.
 */

/** Kinds of entries: what was given as a key, what a wrapped function keeps, what a cached object keeps. */
export type KeyKind = 'k' | 'f' | 'o'

/** How deeply arguments may be nested, which a request may bring. */
const deepest = 100

/** Longer ones are hashed: memcached takes 250 bytes, and namespace and region take up to 130 of them. */
const longestRaw = 100
const safe = /^[!-z|~]+$/ // printable ASCII without blanks and braces: braces choose a slot in a Redis Cluster

/** A name that is part of keys: of a namespace, a region, a cached object, a method. */
export const validName = /^[\w.$@/-]{1,64}$/

export function assertName (value: unknown, path: string): asserts value is string {
  if (typeof value !== 'string' || !validName.test(value)) {
    throw new InvalidOptionsError(path, 'a name of 1 to 64 letters, digits and . $ @ / - _ (no colon, no blank)', show(value))
  }
}

/** `rest` as it may stand in a backend's key: itself where that is safe, its SHA-256 otherwise. */
export function safeKey (rest: string): string {
  if (rest.length <= longestRaw && rest.charCodeAt(0) !== 35 && safe.test(rest)) return rest
  // UTF-16: as UTF-8, every lone surrogate would be the same replacement character.
  return '#' + createHash('sha256').update(rest, 'utf16le').digest('base64url')
}

/**
 * Where a cache object keeps a property: `name.id.property`. Points within the last two are escaped, so that these are what
 * follows the last two points; and colons, which every key of a region has; and what a hash begins with.
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

function encode (value: unknown, where: string, above: object[]): string {
  switch (typeof value) {
    case 'string': return JSON.stringify(value) // well-formed: it escapes lone surrogates
    case 'number': return String(value) // -0 is 0, as for Map
    case 'bigint': return `${value}n`
    case 'boolean':
    case 'undefined': return String(value)
    case 'object': return value === null ? 'null' : encodeObject(value, where, above)
    default: throw refusal(where, value)
  }
}

function encodeObject (value: object, where: string, above: object[]): string {
  if (above.includes(value)) throw new InvalidArgumentError(where, 'free of cycles', 'one')
  if (above.length === deepest) throw new InvalidArgumentError('Arguments', `nested no deeper than ${deepest}`, 'more')
  if (value instanceof Date) return `@${value.getTime()}`
  above.push(value)
  let encoded: string
  if (Array.isArray(value)) {
    encoded = `[${Array.from(value, (item, i) => encode(item, `${where}[${i}]`, above)).join(',')}]`
  } else {
    const prototype = Object.getPrototypeOf(value)
    if (prototype !== Object.prototype && prototype !== null) throw refusal(where, value)
    const [symbol] = Object.getOwnPropertySymbols(value)
    if (symbol !== undefined) throw refusal(where, symbol)
    const properties = Object.entries(value).sort(([a], [b]) => a < b ? -1 : 1)
    encoded = `{${properties.map(([name, item]) => `${JSON.stringify(name)}:${encode(item, `${where}.${name}`, above)}`).join(',')}}`
  }
  above.pop()
  return encoded
}

function refusal (where: string, value: unknown) {
  return new InvalidArgumentError(where, 'made of strings, numbers, bigints, booleans, null, undefined, Dates, arrays and plain objects', show(value))
}

/** Where the processes of a namespace keep their memories coherent. */
export const coherenceChannel = (namespace: string): string => `${namespace}:coherence`

/** Where a region keeps what. Names in braces share a slot of a Redis Cluster, and can't be entries. */
export class Keyspace {
  readonly region: string
  /** Of every entry. */
  readonly prefix: string
  readonly stamp: string
  readonly #own: string

  constructor (namespace: string, region: string) {
    this.region = region
    this.prefix = `${namespace}:${region}:`
    this.#own = `{${namespace}:${region}}`
    this.stamp = `${this.#own}:stamp`
  }

  entry (kind: KeyKind, rest: string): string {
    return `${this.prefix}${kind}:${rest}`
  }

  get wakeUps (): string { return `${this.#own}:wake-ups` }

  tag (tag: string): string { return `${this.#own}:tag:${safeKey(tag)}` }

  lock (key: string): string { return `${this.#own}:lock:${key.slice(this.prefix.length)}` }
}
