/** A promise that a request was given, and what it resolved to: `undefined` until then. */
export interface Remembered { readonly promise: Promise<unknown>, value: unknown }

interface Seen { readonly plain: Map<unknown, Remembered>, keyed: Map<string, Remembered> | undefined }

/**
 * What a request has seen, by method and arguments. It dies with the request. A single argument that is no object is
 * looked up as it is, so that a second read makes no key; Map tells 1, '1' and 1n apart as keys do.
 */
export class RequestMemory<Method extends object> {
  readonly #seen = new Map<Method, Seen>()

  /** `keyOf` is asked only where the arguments need a key. */
  get (method: Method, args: readonly unknown[], keyOf: (method: Method, args: readonly unknown[]) => string): Remembered | undefined {
    const seen = this.#seen.get(method)
    if (seen === undefined) return undefined
    return isPlain(args) ? seen.plain.get(args[0]) : seen.keyed?.get(keyOf(method, args))
  }

  set (method: Method, args: readonly unknown[], key: string, remembered: Remembered): void {
    let seen = this.#seen.get(method)
    if (seen === undefined) this.#seen.set(method, seen = { plain: new Map(), keyed: undefined })
    if (isPlain(args)) seen.plain.set(args[0], remembered)
    else (seen.keyed ??= new Map()).set(key, remembered)
  }

  /** With `remembered`: only if it is that. */
  delete (method: Method, args: readonly unknown[], key: string, remembered?: Remembered): void {
    const seen = this.#seen.get(method)
    const map: Map<unknown, Remembered> | undefined = isPlain(args) ? seen?.plain : seen?.keyed
    const at = isPlain(args) ? args[0] : key
    if (remembered === undefined || map?.get(at) === remembered) map?.delete(at)
  }
}

const isPlain = (args: readonly unknown[]): boolean => args.length === 1 && typeof args[0] !== 'object'
