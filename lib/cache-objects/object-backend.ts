import { afterTick } from '../read-path/after-tick.js'
import { groupBy } from '../group-by.js'
import { UnstorableError, isOpening, isSpread, type Backend, type BackendEntry } from '../backends/backend.js'
import { promiseTry } from '../promise-try.js'
import { withTimeout } from '../with-timeout.js'

interface Read {
  readonly promise: Promise<Uint8Array | undefined>
  readonly resolve: (bytes: Uint8Array | undefined) => void
  readonly reject: (error: unknown) => void
}

/** All that were made, by backend and timeout. */
const all = new WeakMap<Backend, Map<number, ObjectBackend>>()

/**
 * A backend as cache objects use it: every operation has a timeout, and the reads of one tick, of all properties of all
 * objects, are one getMany, or one for each server where the backend is spread over several.
 */
export class ObjectBackend {
  readonly backend: Backend
  readonly #timeout: number
  /** The reads of this tick, by key. */
  #batch = new Map<string, Read>()

  /** The same one for all classes that give a backend the same timeout: their reads share batches. */
  static of (backend: Backend, timeout: number): ObjectBackend {
    let byTimeout = all.get(backend)
    if (byTimeout === undefined) all.set(backend, byTimeout = new Map())
    let one = byTimeout.get(timeout)
    if (one === undefined) byTimeout.set(timeout, one = new ObjectBackend(backend, timeout))
    return one
  }

  private constructor (backend: Backend, timeout: number) {
    this.backend = backend
    this.#timeout = timeout
    if (isSpread(backend)) backend.allow?.(timeout)
  }

  read (key: string): Promise<Uint8Array | undefined> {
    if (this.#batch.size === 0) afterTick(this.#depart)
    let read = this.#batch.get(key)
    if (read === undefined) this.#batch.set(key, read = newRead())
    return read.promise
  }

  /** Identifies the server that a key is on: the keys of one server fail together. */
  fateOf (key: string): object {
    return isSpread(this.backend) ? this.backend.serverOf(key) : this
  }

  /**
   * Not batched with the writes of other objects: if the backend refused one, the others would fail as well.
   * @throws UnstorableError where everything was written but what the backend can't keep
   */
  async write (entries: readonly BackendEntry[], deletions: readonly string[]): Promise<void> {
    // Both before anything is awaited: on one connection they are one round trip.
    const done = await this.#run(() => Promise.allSettled([
      entries.length === 0 ? undefined : promiseTry(() => this.backend.setMany(entries)),
      deletions.length === 0 ? undefined : promiseTry(() => this.backend.deleteMany(deletions))
    ]))
    const errors = done.flatMap(one => one.status === 'rejected' ? [one.reason as unknown] : [])
    if (errors.length > 0) throw errors.find(error => !(error instanceof UnstorableError)) ?? errors[0]
  }

  readonly #depart = (): void => {
    const groups = groupBy(this.#batch, ([key]) => this.fateOf(key))
    this.#batch = new Map()
    for (const group of groups.values()) void this.#ask(group)
  }

  async #ask (reads: readonly (readonly [key: string, read: Read])[]): Promise<void> {
    try {
      const found = await this.#run(() => this.backend.getMany(reads.map(([key]) => key)))
      // A missing answer would be taken for "nothing is stored", and the value would be written over.
      if (!Array.isArray(found) || found.length !== reads.length) throw new TypeError(`${this.backend.name}.getMany must answer each of ${reads.length} keys`)
      reads.forEach(([, read], i) => read.resolve(found[i]))
    } catch (error) {
      for (const [, read] of reads) read.reject(error)
    }
  }

  async #run<T> (operation: () => Promise<T>): Promise<T> {
    if (isOpening(this.backend)) await this.backend.loadLibrary()
    return await withTimeout(this.#timeout, operation(), this.backend.name)
  }
}

function newRead (): Read {
  let resolve!: Read['resolve']
  let reject!: Read['reject']
  const promise = new Promise<Uint8Array | undefined>((_resolve, _reject) => {
    resolve = _resolve
    reject = _reject
  })
  return { promise, resolve, reject }
}
