import type { AsyncResource } from 'node:async_hooks'
import type { BoundMethod } from '../bound-object.js'
import type { CachingApi } from '../caching-api.js'
import type { Landed, Waiter } from '../read-path/landed.js'
import { Reading, type Read } from './request-read.js'
import { copy } from '../values.js'

/** A read whose value is on its way. */
export class Fetching extends Reading implements Waiter {
  /** Its own, which no caller changes. */
  readonly args: readonly unknown[]
  readonly key: string | undefined
  /** The reader's async context, which `postCache` is to be called in. */
  context: AsyncResource | undefined = undefined
  /** What had been read before it was read again: until that is done. */
  previous: Read | undefined
  /** What the request's other readers get while this refreshes what was read before. Undefined: it doesn't, or nothing was. */
  sharedRefresh: SharedRefresh | undefined = undefined
  readonly #api: CachingApi

  constructor (api: CachingApi, bound: BoundMethod, args: readonly unknown[], key: string | undefined, previous?: Read) {
    super(bound, args[0])
    this.previous = previous
    this.#api = api
    this.args = args
    this.key = key
  }

  override get held (): unknown {
    return this.isDone ? this.value : this.previous?.held
  }

  override resolve (value: unknown): void {
    this.previous = undefined
    super.resolve(value)
    this.sharedRefresh?.resolve(value)
  }

  override reject (error: unknown): void {
    super.reject(error)
    this.sharedRefresh?.fallBack()
  }

  land (landed: Landed): void {
    this.#api.landed(this, landed)
  }

  fail (error: unknown): void {
    this.#api.failed(this, error)
  }
}

/** A refresh, for those who didn't ask for it: where it fails, what was read before. */
export class SharedRefresh extends Reading {
  readonly key: string | undefined
  /** What had been read before, until this is done. */
  previous: Read | undefined
  /** It has failed: what was read before stands. */
  isOver = false

  constructor ({ method, arg, key }: Fetching, previous: Read) {
    super(method, arg)
    this.key = key
    this.previous = previous
  }

  override get held (): unknown {
    return this.isDone ? this.value : this.previous?.held
  }

  override resolve (value: unknown): void {
    this.previous = undefined
    super.resolve(value)
  }

  fallBack (): void {
    this.isOver = true
    this.previous!.promise.then(value => super.resolve(value), error => super.reject(error))
  }
}

/** The loader gets them in a later tick: what the caller has made of its own by then belongs under another key. */
export const ownArguments = (args: readonly unknown[]): readonly unknown[] =>
  args.length === 1 && typeof args[0] !== 'object' ? [args[0]] : copy(args) as readonly unknown[]
