import { randomUUID } from 'node:crypto'
import { LRUCache } from 'lru-cache'
import { Breaker } from '../breaker.js'
import type { Line } from '../line.js'
import type { Logger } from '../logger.js'
import { within } from '../within.js'
import { Acknowledgements } from './acknowledgements.js'
import { readMessage, type Invalidations, type Message, type Push } from './messages.js'
import { Trust } from './trust.js'

export interface CoherenceOptions {
  line: Line
  /** All processes that share it, and nobody else. */
  channel: string
  /** How long a process believes its memory without hearing from the line. Milliseconds. */
  lease: number
  /** For one message. Milliseconds. */
  budget: number
  logger: Logger
}

/** One region of this process. */
export interface Heard {
  invalidated (what: Invalidations): void
  /** Messages may have been missed: nothing that is in memory can be believed. */
  startEmpty (): void
}

/** Keys in one message. */
const mostKeys = 1000
/** Processes whose last push is remembered, to see that none was missed. */
const mostSenders = 1000

/** A message without its sender. Of each kind by itself: a plain Omit would leave what all kinds have in common. */
type Said = Message extends infer M ? M extends Message ? Omit<M, 'from'> : never : never

/** A push that waits for its message, and what becomes of it. */
interface Outgoing {
  readonly push: Push
  /** `forgotten` resolves when nobody believes any more what is to be forgotten. */
  readonly sent: (this: void, sent: { readonly forgotten: Promise<void> }) => void
  readonly failed: (this: void, error: unknown) => void
}

/**
 * Keeps the memories of all processes coherent: what one invalidates, all drop, and acknowledge. A process believes its memory
 * only while it knows that it hears of everything, see Trust; so an invalidation waits for one that hangs, or is cut off,
 * for no longer than the lease. The order of messages is the line's own: everybody hears them in the order in which they were
 * published.
 */
export class Coherence {
  readonly #options: CoherenceOptions
  readonly #self = randomUUID()
  readonly #regions = new Map<string, Heard>()
  readonly #trust: Trust
  readonly #acknowledgements: Acknowledgements
  readonly #breaker: Breaker
  /** Resolves when memory is believed for the first time, or won't be. Never rejects. */
  readonly joined: Promise<void>
  #begin!: () => void
  /** Something was missed since memory was last emptied. */
  #missed = true
  /** Our hello was heard, here as well, since trust last ended: all others wait for this process. */
  #introduced = false
  #pushes = 0
  /** The last push that is known to have been published. */
  #published = 0
  #outbox: Outgoing[] = []
  #sending = false
  /** By sender: the push that was heard last. */
  readonly #heard = new LRUCache<string, number>({ max: mostSenders })
  /** By sender: the push up to which an acknowledgement is due. */
  readonly #due = new Map<string, number>()
  #acknowledging = false
  #beating = false
  #beatAgain = false
  #answering = 0
  #silentSince: number | undefined
  #timer: NodeJS.Timeout | undefined
  readonly #stops: (() => void)[] = []
  #closed = false
  #warned = false

  constructor (options: CoherenceOptions) {
    const { lease, budget, logger } = this.#options = options
    this.#trust = new Trust(lease)
    this.#acknowledgements = new Acknowledgements(lease, async member => await this.#tell(member, { kind: 'doubt' }))
    this.#breaker = new Breaker({ name: 'the line between processes', timeout: budget, logger })
    this.joined = new Promise(resolve => { this.#begin = resolve })
  }

  /** Whether everything that others have invalidated, and that was acknowledged, is forgotten here. */
  get trusted (): boolean {
    return this.#trust.held
  }

  /** Whether no other process shares the channel. */
  get alone (): boolean {
    return this.#acknowledgements.alone
  }

  attach (region: string, heard: Heard): void {
    this.#regions.set(region, heard)
  }

  /** Resolves when memory is believed for the first time. Never rejects. */
  async start (): Promise<void> {
    const { line, channel, lease, logger } = this.#options
    const hear = (text: string) => {
      const message = readMessage(text)
      if (message !== undefined) this.#hear(message)
    }
    try {
      // Both: greetings and acknowledgements come over the second.
      await Promise.all([channel, this.#channelOf(this.#self)].map(async name => {
        const stop = await line.listen(name, hear, () => this.#interrupted())
        if (this.#closed) stop()
        else this.#stops.push(stop)
      }))
    } catch (err) {
      if (!this.#closed) logger.warn({ err }, 'invalidations of other processes can not be heard: memory is not used in front of shared tiers')
      this.#begin()
      return
    }
    if (this.#closed) return
    this.#timer = setInterval(() => { void this.#beat() }, lease / 3)
    this.#timer.unref()
    void this.#beat()
    await this.joined
  }

  /**
   * Resolves when no process believes any more what is to be forgotten; with `eventual`, when the message was sent.
   * @throws where it could not be sent
   */
  async push (region: string, what: Invalidations, eventual: boolean): Promise<void> {
    await Promise.all(split({ region, ...what }).map(async push => {
      const { forgotten } = await new Promise<{ forgotten: Promise<void> }>((resolve, reject) => {
        this.#outbox.push({ push, sent: resolve, failed: reject })
        void this.#send()
      })
      if (!eventual) await forgotten
    }))
  }

  /** Nobody waits for this process any longer. Never rejects. */
  async close (): Promise<void> {
    this.#closed = true
    clearInterval(this.#timer)
    this.#distrust()
    this.#acknowledgements.close()
    this.#begin()
    for (const stop of this.#stops) stop() // others may go on to use the line
    if (this.#timer !== undefined) await this.#publish({ kind: 'bye' }).catch(() => {})
  }

  // ─── what others say ───────────────────────────────────────────────────────────────────────────

  #hear (message: Message): void {
    if (this.#closed) return
    const { from } = message
    if (from === this.#self) {
      if (message.kind === 'hello') this.#introduced = true
      else if (message.kind === 'push') this.#acknowledgements.echoed(message.number)
      return
    }
    switch (message.kind) {
      case 'hello':
        this.#greeted(from, message.lease)
        void this.#answer(from)
        break
      case 'present': return this.#greeted(from, message.lease)
      case 'push': return this.#obey(message)
      case 'acknowledgement': return this.#acknowledgements.acknowledged(from, message.upTo)
      case 'doubt':
        this.#distrust()
        void this.#beat()
        break
      case 'bye': return this.#acknowledgements.left(from)
    }
  }

  #greeted (from: string, lease: number): void {
    this.#acknowledgements.greeted(from, lease)
    if (lease === this.#options.lease || this.#warned) return
    this.#warned = true
    this.#options.logger.warn({ ours: this.#options.lease, theirs: lease }, 'another process has another lineLease: while either starts, invalidations may resolve before it has dropped the value')
  }

  /** Whoever doesn't hear this won't wait for us: until it is published nothing renews our trust, and if it can't be, we say hello. */
  async #answer (to: string): Promise<void> {
    if (this.#timer === undefined) return // our own hello is still to come
    this.#trust.discard()
    this.#answering++
    const answered = await this.#tell(to, { kind: 'present', lease: this.#options.lease }).then(() => true, () => false)
    this.#answering--
    if (answered) void this.#beat()
    else this.#distrust() // the next beat says hello, not this one: two that can't answer would greet each other without end
  }

  #obey ({ from, number, previous, pushes }: Message & { kind: 'push' }): void {
    const last = this.#heard.get(from)
    if (last !== undefined && previous > last) this.#startEmpty()
    // One that its sender has given up may arrive late, after its successor.
    const upTo = Math.max(number, last ?? 0)
    this.#heard.set(from, upTo)
    for (const push of pushes) this.#regions.get(push.region)?.invalidated(push)
    this.#due.set(from, upTo)
    // Not at once: the pushes that arrived together are acknowledged together.
    queueMicrotask(() => { void this.#acknowledge() })
  }

  /** The others may not wait for this process: until it has said hello once more, it doesn't believe its memory. */
  #distrust (): void {
    this.#trust.end()
    this.#introduced = false
  }

  #interrupted (): void {
    this.#missed = true
    this.#distrust()
    this.#acknowledgements.interrupted()
    this.#heard.clear()
    this.#startEmpty()
  }

  #startEmpty (): void {
    for (const region of this.#regions.values()) region.startEmpty()
  }

  // ─── what this process says ────────────────────────────────────────────────────────────────────

  /** What is to be pushed while a message is under way goes into the next one. */
  async #send (): Promise<void> {
    if (this.#sending) return
    this.#sending = true
    await Promise.resolve() // what else is invalidated in this tick
    while (this.#outbox.length > 0) {
      const batch = this.#nextBatch()
      const number = ++this.#pushes
      const forgotten = this.#acknowledgements.wait(number)
      try {
        await this.#publish({ kind: 'push', number, previous: this.#published, pushes: batch.map(({ push }) => push) })
        this.#published = number
        this.#acknowledgements.published(number)
        for (const { sent } of batch) sent({ forgotten })
      } catch (error) {
        this.#acknowledgements.withdrawn(number)
        for (const { failed } of batch) failed(error)
      }
    }
    this.#sending = false
  }

  #nextBatch (): Outgoing[] {
    let size = 0
    const end = this.#outbox.findIndex(({ push }) => (size += sizeOf(push)) > mostKeys)
    return this.#outbox.splice(0, end === -1 ? this.#outbox.length : Math.max(1, end))
  }

  async #acknowledge (): Promise<void> {
    if (this.#acknowledging) return
    this.#acknowledging = true
    let failed = false
    while (this.#due.size > 0 && !failed) {
      const due = [...this.#due]
      this.#due.clear()
      await Promise.all(due.map(async ([to, upTo]) => {
        try {
          await this.#tell(to, { kind: 'acknowledgement', upTo })
        } catch {
          failed = true // the next beat tries again
          if (!this.#due.has(to)) this.#due.set(to, upTo)
        }
      }))
    }
    this.#acknowledging = false
  }

  /** Renews trust, or begins it. */
  async #beat (): Promise<void> {
    void this.#acknowledge()
    if (this.#closed || this.#answering > 0) return
    this.#beatAgain = this.#beating
    if (this.#beating) return
    this.#beating = true
    await this.#renew().catch(() => {}) // the next beat tries again
    this.#beating = false
    if (this.#beatAgain) void this.#beat()
  }

  async #renew (): Promise<void> {
    const { lease, line } = this.#options
    if (!this.#introduced) await this.#publish({ kind: 'hello', lease })
    if (this.#answering > 0) return // who is answered doesn't wait for us yet
    const question = this.#trust.ask()
    try {
      await within(lease, line.catchUp(), 'the line')
    } catch {
      return this.#reconnectIfSilent()
    }
    this.#silentSince = undefined
    // Our hello came before the answer, unless the line was interrupted, or is not the one that we publish to.
    if (!this.#introduced || !this.#trust.renew(question)) return
    this.#acknowledgements.asked()
    // While nothing was missed, all pushes have been obeyed in their order, believed or not.
    if (this.#missed) this.#startEmpty()
    this.#missed = false
    this.#begin()
  }

  /** Perhaps only this connection is broken, and nobody has told. */
  #reconnectIfSilent (): void {
    const { lease, line } = this.#options
    this.#silentSince ??= performance.now()
    if (performance.now() - this.#silentSince < 3 * lease) return
    this.#silentSince = undefined
    line.reconnect()
  }

  #publish (message: Said): Promise<void> {
    return this.#say(this.#options.channel, message)
  }

  #tell (member: string, message: Said): Promise<void> {
    return this.#say(this.#channelOf(member), message)
  }

  #say (channel: string, message: Said): Promise<void> {
    return this.#breaker.run(() => this.#options.line.publish(channel, JSON.stringify({ from: this.#self, ...message })))
  }

  #channelOf (member: string): string {
    return `${this.#options.channel}:${member}`
  }
}

const sizeOf = ({ keys, tags }: Push): number => 1 + (keys?.length ?? 0) + (tags?.length ?? 0)

/** A message has no room for any number of keys. */
function split (push: Push): Push[] {
  const { keys = [], region } = push
  if (keys.length <= mostKeys) return [push]
  return Array.from({ length: Math.ceil(keys.length / mostKeys) }, (_, i) => ({
    ...i === 0 ? push : { region },
    keys: keys.slice(i * mostKeys, (i + 1) * mostKeys)
  }))
}
