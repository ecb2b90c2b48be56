import type { BoundMethod } from '../bound-object.js'
import type { Read } from './request-read.js'

interface Seen { readonly method: BoundMethod, readonly plain: Map<unknown, Read>, keyed: Map<string, Read> | undefined }

/**
 * What a request has seen, by method and arguments. It dies with the request. A single argument that is no object is
 * looked up as it is, so that a second read makes no key; Map tells 1, '1' and 1n apart as keys do.
 */
export class RequestMemory {
  /** The first read needs no Map: many requests have no second one. */
  #first: Read | undefined
  /** Most requests use few methods: a list is smaller than a Map. */
  #all: Seen[] | undefined

  /** `keyOf` is asked only where the arguments need a key. */
  get (method: BoundMethod, args: readonly unknown[], keyOf: (method: BoundMethod, args: readonly unknown[]) => string): Read | undefined {
    if (hasPlainArgument(args)) return this.getPlain(method, args[0])
    return this.#all === undefined ? undefined : this.#find(method)?.keyed?.get(keyOf(method, args))
  }

  /** What was read by a single argument that is no object. */
  getPlain (method: BoundMethod, arg: unknown): Read | undefined {
    if (this.#isFirst(method, arg)) return this.#first
    return this.#all === undefined ? undefined : this.#find(method)?.plain.get(arg)
  }

  /** Keeps a read by its method and its argument, or by `key` where it has several arguments, or an object. */
  set (args: readonly unknown[], key: string | undefined, read: Read): void {
    if (hasPlainArgument(args)) return this.setPlain(read)
    const seen = this.#find(read.method) ?? this.#add(read.method)
    ;(seen.keyed ??= new Map()).set(key!, read)
  }

  setPlain (read: Read): void {
    const { method, arg } = read
    if (this.#isFirst(method, arg) || (this.#first === undefined && this.#all === undefined && !Number.isNaN(arg))) this.#first = read
    else (this.#find(method) ?? this.#add(method)).plain.set(arg, read)
  }

  /** If `read` is given, only that one. Returns whether there was something to delete. */
  delete (method: BoundMethod, args: readonly unknown[], key: string | undefined, read?: Read): boolean {
    const plain = hasPlainArgument(args)
    if (plain && this.#isFirst(method, args[0])) {
      if (read !== undefined && read !== this.#first) return false
      this.#first = undefined
      return true
    }
    const seen = this.#find(method)
    const map: Map<unknown, Read> | undefined = plain ? seen?.plain : seen?.keyed
    const at = plain ? args[0] : key
    return map !== undefined && (read === undefined || map.get(at) === read) && map.delete(at)
  }

  #isFirst (method: BoundMethod, arg: unknown): boolean {
    return this.#first !== undefined && this.#first.arg === arg && this.#first.method === method
  }

  #add (method: BoundMethod): Seen {
    const seen: Seen = { method, plain: new Map(), keyed: undefined }
    ;(this.#all ??= []).push(seen)
    return seen
  }

  #find (method: BoundMethod): Seen | undefined {
    if (this.#all !== undefined) for (const seen of this.#all) if (seen.method === method) return seen
    return undefined
  }
}

/** Whether there is a single argument, and it is no object. False for what is no array: then `keyOf` is asked, and throws. */
export const hasPlainArgument = (args: readonly unknown[]): boolean => Array.isArray(args) && args.length === 1 && typeof args[0] !== 'object'
