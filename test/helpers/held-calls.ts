export interface HeldCallOptions<T> {
  /** Says which one it is. */
  what: string
  execute: () => T
  /** What its caller is told if it fails. Default: an error of no meaning. */
  error?: Error
  /** Whether it may be carried out when its caller has been told that it has failed. */
  mayBeLate: boolean
  /** How soon it is to go on, compared to others. */
  weight: number
}

/** A call on its way: it gets to where it is carried out, and its answer gets back, when the test says so. */
export class HeldCall {
  readonly what: string
  readonly error: Error | undefined
  readonly mayBeLate: boolean
  readonly weight: number
  /** Its caller has been told how it ended. */
  isAnswered = false
  readonly #execute: () => unknown
  readonly #settle: Settle
  #answer: (() => void) | undefined

  constructor ({ what, execute, error, mayBeLate, weight }: HeldCallOptions<unknown>, settle: Settle) {
    this.what = what
    this.error = error
    this.mayBeLate = mayBeLate
    this.weight = weight
    this.#execute = execute
    this.#settle = settle
  }

  get isCarriedOut (): boolean {
    return this.#answer !== undefined
  }

  carryOut (): void {
    try {
      const result = this.#execute()
      this.#answer = () => this.#settle.resolve(result)
    } catch (error) {
      this.#answer = () => this.#settle.reject(error)
    }
  }

  /** Carries it out first, if it isn't yet. */
  answer (): void {
    if (!this.isCarriedOut) this.carryOut()
    this.isAnswered = true
    this.#answer!()
  }

  /** Whether it was carried out or not, which it may still be where it `isLate`. */
  fail (isLate = false): void {
    this.isAnswered = true
    this.#settle.reject(this.error ?? new Error('the call has failed'))
    if (!isLate) this.#answer ??= () => {}
  }
}

interface Settle { resolve (result: any): void, reject (error: unknown): void }

/** Calls that overtake each other as the test likes. */
export class HeldCalls {
  #calls: HeldCall[] = []

  /** Those to which something is still to happen, the oldest first. */
  get pending (): readonly HeldCall[] {
    return (this.#calls = this.#calls.filter(call => !call.isAnswered || !call.isCarriedOut))
  }

  hold<T> (options: HeldCallOptions<T>): Promise<T> {
    return new Promise((resolve, reject) => { this.#calls.push(new HeldCall(options, { resolve, reject })) })
  }
}
