import type { Read } from './request-read.js'

interface Seen<Method> { readonly method: Method, readonly plain: Map<unknown, Read>, keyed: Map<string, Read> | undefined }

/**
 * What a request has seen, by method and arguments. It dies with the request. A single argument that is no object is
 * looked up as it is, so that a second read makes no key; Map tells 1, '1' and 1n apart as keys do.
 */
export class RequestMemory<Method extends object> {
  /** The first read needs no Map: many requests have no second one. */
  #firstMethod: Method | undefined
  #firstArg: unknown
  #first: Read | undefined
  /** Most requests use few methods: a list is smaller than a Map. */
  #all: Seen<Method>[] | undefined

  /** `keyOf` is asked only where the arguments need a key. */
  get (method: Method, args: readonly unknown[], keyOf: (method: Method, args: readonly unknown[]) => string): Read | undefined {
    if (hasPlainArgument(args)) return this.getPlain(method, args[0])
    return this.#all === undefined ? undefined : this.#find(method)?.keyed?.get(keyOf(method, args))
  }

  /** Of a single argument that is no object. */
  getPlain (method: Method, arg: unknown): Read | undefined {
    if (arg === this.#firstArg && method === this.#firstMethod && this.#first !== undefined) return this.#first
    return this.#all === undefined ? undefined : this.#find(method)?.plain.get(arg)
  }

  set (method: Method, args: readonly unknown[], key: string | undefined, read: Read): void {
    if (hasPlainArgument(args)) return this.setPlain(method, args[0], read)
    const seen = this.#find(method) ?? this.#add(method)
    ;(seen.keyed ??= new Map()).set(key!, read)
  }

  setPlain (method: Method, arg: unknown, read: Read): void {
    if (this.#all === undefined && (this.#first === undefined || this.#isFirst(method, arg)) && !Number.isNaN(arg)) {
      this.#firstMethod = method
      this.#firstArg = arg
      this.#first = read
    } else this.#setOther(method, arg, read)
  }

  #setOther (method: Method, arg: unknown, read: Read): void {
    if (this.#isFirst(method, arg)) this.#first = read
    else (this.#find(method) ?? this.#add(method)).plain.set(arg, read)
  }

  /** With `read`: only if it is that. Returns whether something was. */
  delete (method: Method, args: readonly unknown[], key: string | undefined, read?: Read): boolean {
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

  #isFirst (method: Method, arg: unknown): boolean {
    return method === this.#firstMethod && arg === this.#firstArg && this.#first !== undefined
  }

  #add (method: Method): Seen<Method> {
    const seen: Seen<Method> = { method, plain: new Map(), keyed: undefined }
    ;(this.#all ??= []).push(seen)
    return seen
  }

  #find (method: Method): Seen<Method> | undefined {
    if (this.#all !== undefined) for (const seen of this.#all) if (seen.method === method) return seen
    return undefined
  }
}

/** Only one, which is no object. What is no array of arguments is left to `keyOf`, which says so. */
export const hasPlainArgument = (args: readonly unknown[]): boolean => Array.isArray(args) && args.length === 1 && typeof args[0] !== 'object'
