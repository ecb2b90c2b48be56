import type { Acknowledgements } from './acknowledgements.js'
import { chunksOf } from '../chunks.js'
import type { MessageBody, Push } from './messages.js'

/** Pushes, keys and tags in one message, about. */
const mostKeys = 1000

/** A push that waits for its message. */
interface Queued {
  readonly push: Push
  /** Somebody waits until it is obeyed. */
  readonly isAwaited: boolean
  readonly resolve: (this: void, published: { readonly forgotten: Promise<void> }) => void
  readonly reject: (this: void, error: unknown) => void
}

/** Publishes what this process invalidates, one message at a time: what comes meanwhile goes into the next one. */
export class Outbox {
  readonly #publish: (message: MessageBody) => Promise<void>
  readonly #acknowledgements: Acknowledgements
  #queue: Queued[] = []
  #sending = false
  #lastNumber = 0
  /** The last one that is known to have been published. */
  #lastPublished = 0

  constructor (publish: (message: MessageBody) => Promise<void>, acknowledgements: Acknowledgements) {
    this.#publish = publish
    this.#acknowledgements = acknowledgements
  }

  /**
   * Resolves when the push was published. `forgotten` resolves when no process believes any more what is to be forgotten; that is
   * found out where it `isAwaited`, and keeps this process alive.
   * @throws where it could not be published
   */
  add (push: Push, isAwaited: boolean): Promise<{ readonly forgotten: Promise<void> }> {
    return new Promise((resolve, reject) => {
      this.#queue.push({ push, isAwaited, resolve, reject })
      void this.#send()
    })
  }

  async #send (): Promise<void> {
    if (this.#sending) return
    this.#sending = true
    await Promise.resolve() // what else is invalidated in this tick
    while (this.#queue.length > 0) {
      const batch = this.#nextBatch()
      const number = ++this.#lastNumber
      const forgotten = batch.some(({ isAwaited }) => isAwaited) ? this.#acknowledgements.wait(number) : awaitedByNobody
      try {
        await this.#publish({ kind: 'push', number, previous: this.#lastPublished, pushes: batch.map(({ push }) => push) })
        this.#lastPublished = number
        this.#acknowledgements.published(number)
        for (const { resolve } of batch) resolve({ forgotten })
      } catch (error) {
        this.#acknowledgements.withdrawn(number)
        for (const { reject } of batch) reject(error)
      }
    }
    this.#sending = false
  }

  #nextBatch (): Queued[] {
    let size = 0
    const end = this.#queue.findIndex(({ push }) => (size += sizeOf(push)) > mostKeys)
    return this.#queue.splice(0, end === -1 ? this.#queue.length : Math.max(1, end))
  }
}

const awaitedByNobody = Promise.resolve()

const sizeOf = ({ keys, tags }: Push): number => 1 + (keys?.length ?? 0) + (tags?.length ?? 0)

/** One with many keys as several that each fit into a message. */
export function split (push: Push): Push[] {
  const { keys = [], region } = push
  if (keys.length <= mostKeys) return [push]
  return chunksOf(keys, mostKeys).map((chunk, i) => ({ ...i === 0 ? push : { region }, keys: chunk }))
}
