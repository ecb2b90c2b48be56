import type { BoundMethod } from '../bound-object.js'

/** The reads of one getMany: one promise for all of them. */
export class ReadsTogether {
  readonly promise: Promise<unknown[]>
  readonly #values: unknown[]
  #left: number
  #resolve!: (values: unknown[]) => void
  #reject!: (error: unknown) => void

  constructor (count: number) {
    this.#values = new Array(count)
    this.#left = count
    this.promise = new Promise((resolve, reject) => {
      this.#resolve = resolve
      this.#reject = reject
    })
    if (count === 0) this.#resolve(this.#values)
  }

  resolve (at: number, value: unknown): void {
    this.#values[at] = value
    if (--this.#left === 0) this.#resolve(this.#values)
  }

  reject (error: unknown): void {
    this.#reject(error)
  }
}

/** What a request has read. It gives everybody who asks for it the same promise, which the first of them makes. */
export class Read {
  value: unknown
  readonly method: BoundMethod
  /** The first, or only, argument. */
  readonly arg: unknown
  protected made: Promise<unknown> | undefined = undefined

  constructor (value: unknown, method: BoundMethod, arg: unknown) {
    this.value = value
    this.method = method
    this.arg = arg
  }

  get promise (): Promise<unknown> {
    return (this.made ??= Promise.resolve(this.value))
  }

  get isUnderWay (): boolean {
    return false
  }

  /** What the request can see without waiting: where it reads anew, what it had read before. */
  get held (): unknown {
    return this.value
  }

  /** Gives its value to several reads that end together, as the `at`th of them. */
  join (together: ReadsTogether, at: number): void {
    together.resolve(at, this.value)
  }
}

/** What a request is reading: `value` is undefined until it has been read. */
export class Reading extends Read {
  #state: 'under way' | 'done' | 'failed' = 'under way'
  #error: unknown
  #resolve: ((value: unknown) => void) | undefined
  #reject: ((error: unknown) => void) | undefined
  #together: ReadsTogether | undefined
  #at = 0

  constructor (method: BoundMethod, arg: unknown) {
    super(undefined, method, arg)
  }

  override get isUnderWay (): boolean {
    return this.#state === 'under way'
  }

  get isDone (): boolean {
    return this.#state === 'done'
  }

  get hasFailed (): boolean {
    return this.#state === 'failed'
  }

  override get promise (): Promise<unknown> {
    if (this.made !== undefined) return this.made
    if (this.#state === 'done') return super.promise
    this.made = new Promise((resolve, reject) => {
      this.#resolve = resolve
      this.#reject = reject
    })
    if (this.#state === 'failed') this.reject(this.#error)
    return this.made
  }

  override join (together: ReadsTogether, at: number): void {
    if (this.#state === 'done') together.resolve(at, this.value)
    else if (this.#state === 'failed') together.reject(this.#error)
    else if (this.#together === undefined) {
      this.#together = together
      this.#at = at
    } else this.promise.then(value => together.resolve(at, value), error => together.reject(error))
  }

  /** `value` is what it resolves to, which is not a promise. */
  resolve (value: unknown): void {
    this.#state = 'done'
    this.value = value
    this.#resolve?.(value)
    this.#together?.resolve(this.#at, value)
    this.#together = undefined
  }

  reject (error: unknown): void {
    this.#state = 'failed'
    this.#error = error
    this.made?.catch(() => {}) // a reader that has gone meanwhile is no reason to end the process
    this.#reject?.(error)
    this.#together?.reject(error)
    this.#together = undefined
  }
}
