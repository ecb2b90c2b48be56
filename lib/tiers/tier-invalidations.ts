import type { Invalidation } from '../coherence/messages.js'
import type { Keyspace } from '../keys.js'
import type { Logger } from '../logger.js'
import { formatStamp, newStamp } from '../stamp.js'
import { ReplayQueue } from './replay-queue.js'
import type { LeasingBackend } from '../backends/backend.js'
import type { TierBackend } from './tier-backend.js'

export interface TierInvalidationsOptions {
  backend: TierBackend
  /** What revises the region's stamp on that backend. */
  revising: Pick<LeasingBackend, 'revise' | 'forgetMany'>
  keyspace: Keyspace
  /** Those of the shared tiers behind it: what these are still to forget may be copied from there. */
  farther: readonly TierInvalidations[]
  logger: Logger
  onReplayed: ((what: Invalidation) => void) | undefined
}

/** What a tier is told to forget. It keeps what the backend could not be told of, and repeats it until it could. */
export class TierInvalidations {
  readonly #backend: TierBackend
  readonly #revising: Pick<LeasingBackend, 'revise' | 'forgetMany'>
  readonly #keyspace: Keyspace
  readonly #farther: readonly TierInvalidations[]
  readonly #logger: Logger
  readonly #queue: ReplayQueue

  constructor ({ backend, revising, keyspace, farther, logger, onReplayed }: TierInvalidationsOptions) {
    this.#backend = backend
    this.#revising = revising
    this.#keyspace = keyspace
    this.#farther = farther
    this.#logger = logger
    this.#queue = new ReplayQueue({
      send: what => this.send(what),
      onKept: error => logger.warn({ tier: backend.name, region: keyspace.region, err: error }, 'a tier could not be told to forget something: it is told again until it has heard'),
      ...onReplayed !== undefined && { onReplayed },
      onEmpty: () => logger.info({ tier: backend.name, region: keyspace.region }, 'invalidations were replayed')
    })
  }

  /** Resolves to false where the backend could not be told yet. Never rejects. */
  forget (what: Invalidation): Promise<boolean> {
    return this.#queue.deliver(what)
  }

  /** One attempt, and nothing is kept. @throws what the backend throws */
  send (what: Invalidation): Promise<void> {
    return this.#backend.run(() => this.#revise(what))
  }

  async #revise ({ keys, tags, hard, soft }: Invalidation): Promise<void> {
    const stampKey = this.#keyspace.stamp
    const stamp = formatStamp(newStamp())
    if (hard === true) await this.#revising.revise(stampKey, { kind: 'hard', stamp })
    else if (soft === true) await this.#revising.revise(stampKey, { kind: 'soft', stamp })
    if (tags !== undefined && tags.length > 0) await this.#revising.revise(stampKey, { kind: 'tags', stamp, tagKeys: tags.map(tag => this.#keyspace.tag(tag)) })
    if (keys !== undefined && keys.length > 0) await this.#revising.forgetMany(stampKey, stamp, keys)
  }

  /** Whether something that this tier, or one behind it, may not know yet concerns an entry. */
  concerns (key: string, tags: readonly string[]): boolean {
    if (this.#queue.concerns(key, tags)) return true
    for (const tier of this.#farther) if (tier.concerns(key, tags)) return true // a loop: this is asked for every key
    return false
  }

  /** How often something was replayed, here and behind it. What was asked before then may have been answered from before. */
  get replays (): number {
    return this.#farther.reduce((sum, tier) => sum + tier.replays, this.#queue.replays)
  }

  /** These have new values: there is nothing to forget any more. */
  discard (keys: readonly string[]): void {
    this.#queue.discard(keys)
  }

  close (): void {
    if (!this.#queue.close()) return
    this.#logger.warn({ tier: this.#backend.name, region: this.#keyspace.region }, 'closed before a tier was back that is still to forget something: others may find it there until its time is over')
  }
}
