import { LRUCache } from 'lru-cache'
import type { MessageBody } from './messages.js'

/** Processes whose last push is remembered. */
const mostSenders = 1000

/** Which pushes of others this process has heard, and what it has yet to acknowledge of them. */
export class Receipts {
  readonly #tell: (member: string, message: MessageBody) => Promise<void>
  /** The last push of each sender. */
  readonly #heard = new LRUCache<string, number>({ max: mostSenders })
  /** The push of each sender up to which an acknowledgement is due. */
  readonly #due = new Map<string, number>()
  #sending = false

  constructor (tell: (member: string, message: MessageBody) => Promise<void>) {
    this.#tell = tell
  }

  /** `missed`: there were others before it that were not heard. `upTo` is what to acknowledge when the push was obeyed. */
  hear (from: string, number: number, previous: number): { readonly missed: boolean, readonly upTo: number } {
    const last = this.#heard.get(from)
    // A push that its sender has given up may arrive late, after its successor.
    const upTo = Math.max(number, last ?? 0)
    this.#heard.set(from, upTo)
    return { missed: last !== undefined && previous > last, upTo }
  }

  /** Pushes may have been missed, of anybody. */
  interrupted (): void {
    this.#heard.clear()
  }

  acknowledge (from: string, upTo: number): void {
    this.#due.set(from, upTo)
    // Not at once: the pushes that arrived together are acknowledged together.
    queueMicrotask(() => { void this.send() })
  }

  /** What is due. Never rejects: what can't be sent stays due. */
  async send (): Promise<void> {
    if (this.#sending) return
    this.#sending = true
    let failed = false
    while (this.#due.size > 0 && !failed) {
      const due = [...this.#due]
      this.#due.clear()
      await Promise.all(due.map(async ([to, upTo]) => {
        try {
          await this.#tell(to, { kind: 'acknowledgement', upTo })
        } catch {
          failed = true
          if (!this.#due.has(to)) this.#due.set(to, upTo)
        }
      }))
    }
    this.#sending = false
  }
}
