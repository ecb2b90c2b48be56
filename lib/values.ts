import { InvalidArgumentError } from './errors.js'

/*
 * Isolation: no request can change what another one sees. The cache keeps a copy of its own, frozen below its top level. A
 * reader gets a top level of its own, and a copy of whatever freezing doesn't protect.
 */

/** Thrown for a value that can't be copied faithfully, since it holds a function, a symbol, a promise … */
export class UncacheableValue extends TypeError {
  readonly what: string

  constructor (what: string) {
    super(`a value that holds ${what} can't be cached`)
    this.name = 'UncacheableValue'
    this.what = what
  }
}

/** A value that readers share. */
export interface Shared {
  readonly value: unknown
  /** What each reader needs a deep copy of: these properties, all of it, or nothing. 'uncopied': it can't be copied, and is shared below the top level. */
  readonly loose: readonly (string | number)[] | 'all' | 'uncopied' | undefined
}

/** A copy of `value` that the cache alone holds. @throws UncacheableValue */
export function copyIn (value: unknown): Shared {
  return share(copy(value))
}

/** The same, of a value that a caller wants cached. @throws InvalidArgumentError */
export function copyGiven (value: unknown): Shared {
  try {
    return copyIn(value)
  } catch (error) {
    if (error instanceof UncacheableValue) throw new InvalidArgumentError('value', 'one that can be cached', error.what)
    throw error
  }
}

/** Shares `value` itself: for one that nobody else holds, fresh from a decoder. */
export function share (value: unknown): Shared {
  if (typeof value !== 'object' || value === null) return { value, loose: undefined }
  if (!isFreezable(value)) return { value, loose: 'all' }
  return freezeBelow(value) ? { value, loose: undefined } : shareDeep(value)
}

/** Freezes a value with no more than one level below its top level, as most rows are. False: it has more, or what can't be frozen. */
function freezeBelow (value: object): boolean {
  for (const name in value) {
    const item = (value as Record<string, unknown>)[name]
    if (typeof item !== 'object' || item === null) continue
    if (!isFreezable(item) || !isFlat(item)) return false
    Object.freeze(item)
  }
  return true
}

function isFlat (value: object): boolean {
  if (Array.isArray(value)) return value.every(isPrimitive)
  for (const name in value) if (!isPrimitive((value as Record<string, unknown>)[name])) return false
  return true
}

const isPrimitive = (value: unknown): boolean => typeof value !== 'object' || value === null

function shareDeep (value: object): Shared {
  const loose: (string | number)[] = []
  const done = new Map<object, boolean>()
  try {
    for (const name of Object.keys(value)) {
      const item = (value as Record<string, unknown>)[name]
      if (!freeze(item, value, done)) loose.push(name)
    }
  } catch (error) {
    if (error !== kLeadsToTop) throw error
    return { value, loose: 'all' }
  }
  return { value, loose: loose.length === 0 ? undefined : loose }
}

/** What one reader gets: its own at the top level, and wherever it isn't frozen. */
export const own = ({ value, loose }: Shared): unknown =>
  loose === undefined && typeof value === 'object' && value !== null && !Array.isArray(value) ? { ...value } : ownOther(value, loose)

/** The same for all other values: most rows are plain objects that are frozen below. */
function ownOther (value: unknown, loose: Shared['loose']): unknown {
  if (typeof value !== 'object' || value === null || (loose === 'uncopied' && !isFreezable(value))) return value
  if (loose === 'all') return copy(value)
  const mine = (Array.isArray(value) ? value.slice() : { ...value }) as Record<string | number, unknown>
  if (typeof loose === 'object') for (const at of loose) mine[at] = copy(mine[at])
  return mine
}

const kLeadsToTop = Symbol('a cycle through the top level, which only a copy of the whole preserves')

/** Freezes what can be frozen. False where something below can't. */
function freeze (value: unknown, top: object, done: Map<object, boolean>): boolean {
  if (typeof value !== 'object' || value === null) return true
  if (value === top) throw kLeadsToTop
  const known = done.get(value)
  if (known !== undefined) return known
  if (!isFreezable(value)) return false
  done.set(value, false) // until all of it is known to be frozen: whatever is part of a cycle is copied for each reader
  let whole = true
  for (const item of Object.values(value)) whole = freeze(item, top, done) && whole
  done.set(value, whole)
  Object.freeze(value)
  return whole
}

function isFreezable (value: object): boolean {
  if (Array.isArray(value)) return true
  const prototype = Object.getPrototypeOf(value)
  return prototype === Object.prototype || prototype === null
}

/**
 * A deep copy: of plain objects, arrays, Date, Map, Set, RegExp, Error, buffers and typed arrays, with the cycles and
 * repetitions they have. Instances of other classes become plain objects, as they would on their way through a shared
 * tier, so that a value is the same wherever it comes from.
 * @throws UncacheableValue
 */
export function copy (value: unknown): unknown {
  if (!isComposite(value)) return value
  return isRow(value) ? { ...value } : copyObject(value, { copies: new Map(), gaps: 0, level: 1 })
}

/**
 * The copies so far, by their originals; the gaps of all arrays so far, since an array may have four billion of them and no
 * items; and the level of the object that is being copied, 1 at the top.
 */
interface CopyState { readonly copies: Map<object, object>, gaps: number, level: number }

const mostGaps = 1000
/** What goes through a value later must not exhaust the stack: msgpackr does so from about a thousand levels on. */
const mostLevels = 500

/** A plain object of primitives only, as most rows are. Not with symbols, which are not copied. */
function isRow (value: object): boolean {
  if (Object.getPrototypeOf(value) !== Object.prototype || Object.getOwnPropertySymbols(value).length > 0) return false
  for (const name in value) {
    if (name === '__proto__') return false
    const item = (value as Record<string, unknown>)[name]
    if (typeof item === 'object' ? item !== null : typeof item === 'function' || typeof item === 'symbol') return false
  }
  return true
}

/** @throws UncacheableValue for what is neither a primitive nor an object that holds its own state. */
function isComposite (value: unknown): value is object {
  if (typeof value === 'function') throw new UncacheableValue(`a function${value.name ? ` (${value.name})` : ''}`)
  if (typeof value === 'symbol') throw new UncacheableValue('a symbol')
  return typeof value === 'object' && value !== null
}

function copyObject (value: object, state: CopyState): object {
  const known = state.copies.get(value)
  if (known !== undefined) return known
  const item = (inner: unknown) => {
    if (!isComposite(inner)) return inner
    if (++state.level > mostLevels) throw new UncacheableValue(`more than ${mostLevels} levels`)
    const made = copyObject(inner, state)
    state.level--
    return made
  }
  const keep = <T extends object>(made: T) => { state.copies.set(value, made); return made }

  if (Array.isArray(value)) {
    const made: unknown[] = keep([])
    for (let i = 0; i < value.length; i++) {
      if (value[i] === undefined && !(i in value) && ++state.gaps > mostGaps) throw new UncacheableValue(`an array with more than ${mostGaps} gaps`)
      made.push(item(value[i]))
    }
    return made
  }
  if (value instanceof Date) return keep(new Date(value.getTime()))
  if (value instanceof Map) {
    const made = keep(new Map())
    for (const [key, inner] of value) made.set(item(key), item(inner))
    return made
  }
  if (value instanceof Set) {
    const made = keep(new Set())
    for (const inner of value) made.add(item(inner))
    return made
  }
  if (Buffer.isBuffer(value)) return keep(Buffer.from(value))
  if (ArrayBuffer.isView(value)) return keep(structuredClone(trimmed(value)))
  if (isStructured(value)) return keep(structuredClone(value))
  if (isBound(value)) throw new UncacheableValue(`an instance of ${value.constructor.name}`)
  const made: Record<string, unknown> = keep({})
  for (const name of Object.keys(value)) {
    const inner = item((value as Record<string, unknown>)[name])
    if (name === '__proto__') Object.defineProperty(made, name, { value: inner, enumerable: true, configurable: true, writable: true })
    else made[name] = inner
  }
  return made
}

/** A copy without the rest of its buffer, which may be large, part of a pool, or memory that threads share. */
function trimmed (view: ArrayBufferView): ArrayBufferView {
  if (!(view instanceof DataView)) return (view as Uint8Array).slice()
  return new DataView(view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength))
}

function isStructured (value: object): boolean {
  return value instanceof ArrayBuffer || value instanceof RegExp || value instanceof Error
}

/** Whether the state of an object is not in its properties: a copy would be an empty shell. */
function isBound (value: object): boolean {
  return value instanceof Promise || value instanceof WeakMap || value instanceof WeakSet || value instanceof WeakRef ||
    value instanceof SharedArrayBuffer || value instanceof URL || value instanceof AbortSignal ||
    value instanceof Number || value instanceof String || value instanceof Boolean
}
