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
  /** Most requests use few methods: a list is smaller than a Map, and the last one used is asked first. */
  #all: Seen<Method>[] | undefined
  #last: Seen<Method> | undefined

  /** `keyOf` is asked only where the arguments need a key. */
  get (method: Method, args: readonly unknown[], keyOf: (method: Method, args: readonly unknown[]) => string): Read | undefined {
    const plain = hasPlainArgument(args)
    if (plain && this.#isFirst(method, args)) return this.#first
    if (this.#all === undefined) return undefined
    const seen = this.#find(method)
    if (seen === undefined) return undefined
    return plain ? seen.plain.get(args[0]) : seen.keyed?.get(keyOf(method, args))
  }

  set (method: Method, args: readonly unknown[], key: string | undefined, read: Read): void {
    const plain = hasPlainArgument(args)
    if (plain && (this.#isFirst(method, args) || (this.#isEmpty() && !Number.isNaN(args[0])))) {
      this.#firstMethod = method
      this.#firstArg = args[0]
      this.#first = read
      return
    }
    let seen = this.#find(method)
    if (seen === undefined) (this.#all ??= []).push(this.#last = seen = { method, plain: new Map(), keyed: undefined })
    if (plain) seen.plain.set(args[0], read)
    else (seen.keyed ??= new Map()).set(key!, read)
  }

  /** With `read`: only if it is that. Returns whether something was. */
  delete (method: Method, args: readonly unknown[], key: string | undefined, read?: Read): boolean {
    const plain = hasPlainArgument(args)
    if (plain && this.#isFirst(method, args)) {
      if (read !== undefined && read !== this.#first) return false
      this.#first = undefined
      return true
    }
    const seen = this.#find(method)
    const map: Map<unknown, Read> | undefined = plain ? seen?.plain : seen?.keyed
    const at = plain ? args[0] : key
    return map !== undefined && (read === undefined || map.get(at) === read) && map.delete(at)
  }

  #isEmpty (): boolean {
    return this.#all === undefined && this.#first === undefined
  }

  #isFirst (method: Method, args: readonly unknown[]): boolean {
    return method === this.#firstMethod && args[0] === this.#firstArg && this.#first !== undefined
  }

  #find (method: Method): Seen<Method> | undefined {
    if (this.#last?.method === method) return this.#last
    if (this.#all !== undefined) for (const seen of this.#all) if (seen.method === method) return (this.#last = seen)
    return undefined
  }
}

/** Only one, which is no object. What is no array of arguments is left to `keyOf`, which says so. */
export const hasPlainArgument = (args: readonly unknown[]): boolean => Array.isArray(args) && args.length === 1 && typeof args[0] !== 'object'
