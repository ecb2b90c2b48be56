import { randomUUID } from 'node:crypto'
import type { Logger } from './caching-manager.js'
import type { Line } from './line.js'
import { within } from './within.js'

/** What is to be forgotten: keys, everything with one of the tags, or the whole region. */
export interface Invalidation {
  readonly keys?: readonly string[]
  readonly tags?: readonly string[]
  readonly kind?: 'hard' | 'soft'
}

export interface CoherenceOptions {
  line: Line
  channel: string
  /** For one message. Milliseconds. */
  budget: number
  region: string
  logger: Logger
}

export interface Heard {
  invalidated (what: Invalidation): void
  /** Messages may have been missed: nothing that is in memory can be trusted. */
  interrupted (): void
}

/** Invalidations of one region, between the memories of processes. */
export class Coherence {
  readonly #options: CoherenceOptions
  /** Tells this process's own messages from others. */
  readonly #self = randomUUID()
  #closed = false

  constructor (options: CoherenceOptions) {
    this.#options = options
  }

  /** To other processes. Never rejects: one that can't be told drops all it has when it can again. */
  async push (what: Invalidation): Promise<void> {
    const { line, channel, budget, region, logger } = this.#options
    try {
      await within(budget, line.publish(channel, JSON.stringify({ from: this.#self, ...what })), 'the line')
    } catch (error) {
      logger.debug({ region, err: error }, 'other processes could not be told of an invalidation')
    }
  }

  /** Resolves when others are heard. Never rejects. */
  async listen ({ invalidated, interrupted }: Heard): Promise<void> {
    const { line, channel, region, logger } = this.#options
    try {
      await line.listen(channel, message => {
        const pushed = readPush(message)
        if (pushed !== undefined && pushed.from !== this.#self) invalidated(pushed)
      }, interrupted)
    } catch (error) {
      if (!this.#closed) logger.warn({ region, err: error }, 'invalidations of other processes can not be heard: memory keeps values for their ttl')
    }
  }

  close (): void {
    this.#closed = true
  }
}

/** Undefined for what is no invalidation of ours. */
function readPush (message: string): Invalidation & { from: string } | undefined {
  try {
    const push = JSON.parse(message)
    const areStrings = (list: unknown) => list === undefined || (Array.isArray(list) && list.every(item => typeof item === 'string'))
    return areStrings(push.keys) && areStrings(push.tags) && [undefined, 'hard', 'soft'].includes(push.kind) ? push : undefined
  } catch {
    return undefined
  }
}
