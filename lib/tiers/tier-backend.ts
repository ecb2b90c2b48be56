import { Breaker } from '../breaker.js'
import type { Logger } from '../logger.js'
import { isLeasing, isSpread, type Backend, type LeasingBackend } from '../backends/backend.js'

export interface TierBackendOptions {
  backend: Backend
  /** What it is called in logs and errors. Default: its own name. */
  name?: string | undefined
  region: string
  /** Milliseconds for one operation. */
  timeout: number
  logger: Logger
}

/**
 * A backend as one region calls it: an operation that exceeds its budget fails, all fail at once while the breaker is
 * open, and an answer of the wrong length is an error.
 */
export class TierBackend {
  readonly backend: Backend
  readonly name: string
  /** The same one, if it refuses stale fills. */
  readonly leasing: LeasingBackend | undefined
  readonly #region: string
  readonly #breaker: Breaker
  readonly #logger: Logger
  readonly #warnings = new Set<string>()

  constructor ({ backend, name = backend.name, region, timeout, logger }: TierBackendOptions) {
    this.backend = backend
    this.name = name
    this.leasing = isLeasing(backend) ? backend : undefined
    this.#region = region
    this.#breaker = new Breaker({ name: `${name} of region ${region}`, timeout, logger })
    this.#logger = logger
    if (isSpread(backend)) backend.allow?.(timeout, logger)
  }

  /** Whether it didn't answer when it was last asked. */
  get away (): boolean {
    return this.#breaker.failing
  }

  run<T> (operation: () => Promise<T>): Promise<T> {
    return this.#breaker.run(operation)
  }

  async getMany (keys: readonly string[]): Promise<readonly (Uint8Array | undefined)[]> {
    return this.checked(keys, await this.run(() => this.backend.getMany(keys)))
  }

  /** A backend of your own may say null for undefined. @throws TypeError */
  checked (keys: readonly string[], found: readonly (Uint8Array | undefined)[]): readonly (Uint8Array | undefined)[] {
    if (!Array.isArray(found) || found.length !== keys.length) throw new TypeError(`${this.name}.getMany must answer each of ${keys.length} keys`)
    return this.leasing === undefined ? found.map(bytes => bytes ?? undefined) : found
  }

  /** An operation that its caller does without. */
  logFailure (error: unknown, operation: string): void {
    this.#logger.debug({ tier: this.name, region: this.#region, operation, err: error }, 'a tier did not answer and counts as missing')
  }

  /** The first of its kind stands for all that may follow. */
  warnOnce (key: string, error: unknown, message: string): void {
    if (this.#warnings.has(message)) return
    this.#logger.warn({ tier: this.name, region: this.#region, key, err: error }, `${message}; further ones will not be logged`)
    this.#warnings.add(message)
  }
}
