import { randomUUID } from 'node:crypto'
import { Breaker } from '../breaker.js'
import type { Line } from '../line.js'
import type { Logger } from '../logger.js'
import { withTimeout } from '../with-timeout.js'
import { Acknowledgements } from './acknowledgements.js'
import { readMessage, type Invalidation, type Message, type MessageBody } from './messages.js'
import { Outbox, split } from './outbox.js'
import { Receipts } from './receipts.js'
import { Trust } from './trust.js'

export interface CoherenceOptions {
  line: Line
  /** All processes that share it, and nobody else. */
  channel: string
  /** How long a process believes its memory without hearing from the line. Milliseconds. */
  lease: number
  /** How long one message may take. Milliseconds. */
  timeout: number
  logger: Logger
}

/** One region of this process. */
export interface CoherentRegion {
  invalidated (what: Invalidation): void
  /** Messages may have been missed: nothing that is in memory can be believed. `isFirst`: memory was never believed until now. */
  startEmpty (isFirst: boolean): void
}

/**
 * Keeps the memories of all processes coherent: what one invalidates, all drop, and acknowledge. A process believes its
 * memory only while it knows that it hears of everything, see Trust; so an invalidation waits for one that hangs, or is cut
 * off, for no longer than the lease. All processes hear messages in the order in which the line published them.
 */
export class Coherence {
  readonly #options: CoherenceOptions
  /** This process, to the others. */
  readonly #id = randomUUID()
  readonly #regions = new Map<string, CoherentRegion>()
  readonly #trust: Trust
  readonly #acknowledgements: Acknowledgements
  readonly #outbox: Outbox
  readonly #receipts: Receipts
  readonly #breaker: Breaker
  /** Resolves when memory is believed for the first time, or won't be. Never rejects. */
  readonly joined: Promise<void>
  #resolveJoined!: () => void
  /** Messages were missed since memory was last emptied. */
  #missed = true
  /** Memory was never believed until now. */
  #isFirst = true
  /** Our hello was heard, here as well, since trust last ended: all others wait for this process. */
  #helloHeard = false
  /** Answers to greetings that are being sent. */
  #answering = 0
  #beating = false
  #beatAgain = false
  /** When the line first failed to answer, by performance.now(). */
  #silentSince: number | undefined
  #timer: NodeJS.Timeout | undefined
  readonly #stopListening: (() => void)[] = []
  #closed = false
  #warned = false

  constructor (options: CoherenceOptions) {
    const { lease, timeout, logger } = this.#options = options
    this.#trust = new Trust(lease)
    this.#breaker = new Breaker({ name: 'the line between processes', timeout, logger })
    this.#acknowledgements = new Acknowledgements(lease, async member => await this.#tell(member, { kind: 'doubt' }))
    this.#outbox = new Outbox(message => this.#publish(message), this.#acknowledgements)
    this.#receipts = new Receipts((member, message) => this.#tell(member, message))
    this.joined = new Promise(resolve => { this.#resolveJoined = resolve })
  }

  /** Whether everything that others have invalidated, and that was acknowledged, is forgotten here. */
  get isTrusted (): boolean {
    return this.#trust.isHeld
  }

  /** Whether no other process shares the channel. */
  get alone (): boolean {
    return this.#acknowledgements.alone
  }

  attach (name: string, region: CoherentRegion): void {
    this.#regions.set(name, region)
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
      await Promise.all([channel, this.#channelOf(this.#id)].map(async name => {
        const stop = await line.listen(name, hear, () => this.#interrupted())
        if (this.#closed) stop()
        else this.#stopListening.push(stop)
      }))
    } catch (err) {
      if (!this.#closed) logger.warn({ err }, 'invalidations of other processes can not be heard: memory is not used in front of shared tiers')
      this.#resolveJoined()
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
  async push (region: string, what: Invalidation, eventual: boolean): Promise<void> {
    await Promise.all(split({ region, ...what }).map(async push => {
      const { forgotten } = await this.#outbox.add(push, !eventual)
      if (!eventual) await forgotten
    }))
  }

  /** Nobody waits for this process any longer. Never rejects. */
  async close (): Promise<void> {
    this.#closed = true
    clearInterval(this.#timer)
    this.#distrust()
    this.#acknowledgements.close()
    this.#resolveJoined()
    for (const stop of this.#stopListening) stop() // others may go on to use the line
    if (this.#timer !== undefined) await this.#publish({ kind: 'bye' }).catch(() => {})
  }

  // ─── what others say ───────────────────────────────────────────────────────────────────────────

  #hear (message: Message): void {
    if (this.#closed) return
    const { from } = message
    if (from === this.#id) return this.#hearEcho(message)
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

  #hearEcho (message: Message): void {
    if (message.kind === 'hello') this.#helloHeard = true
    else if (message.kind === 'push') this.#acknowledgements.echoed(message.number)
  }

  #greeted (from: string, lease: number): void {
    this.#acknowledgements.greeted(from, lease)
    if (lease === this.#options.lease || this.#warned) return
    this.#warned = true
    this.#options.logger.warn({ ours: this.#options.lease, theirs: lease }, 'another process has another lineLease: while either starts, invalidations may resolve before it has dropped the value')
  }

  /** A newcomer that doesn't hear this won't wait for us: so nothing renews our trust until it is published. */
  async #answer (to: string): Promise<void> {
    if (this.#timer === undefined) return // our own hello is still to come
    this.#trust.discard()
    this.#answering++
    const answered = await this.#tell(to, { kind: 'present', lease: this.#options.lease }).then(() => true, () => false)
    this.#answering--
    if (answered) void this.#beat()
    else this.#distrust() // our next regular beat says hello; if we did so now, two that can't answer would greet each other without end
  }

  #obey ({ from, number, previous, pushes }: Message & { kind: 'push' }): void {
    const { missed, upTo } = this.#receipts.hear(from, number, previous)
    if (missed) this.#startEmpty()
    for (const push of pushes) this.#regions.get(push.region)?.invalidated(push)
    this.#receipts.acknowledge(from, upTo)
  }

  /** The others may not wait for this process: until it has said hello once more, it doesn't believe its memory. */
  #distrust (): void {
    this.#trust.end()
    this.#helloHeard = false
  }

  #interrupted (): void {
    this.#missed = true
    this.#distrust()
    this.#acknowledgements.interrupted()
    this.#receipts.interrupted()
    this.#startEmpty()
  }

  #startEmpty (): void {
    for (const region of this.#regions.values()) region.startEmpty(this.#isFirst)
  }

  // ─── what this process says ────────────────────────────────────────────────────────────────────

  /** Renews trust, or begins it. One at a time. */
  async #beat (): Promise<void> {
    void this.#receipts.send()
    if (this.#closed || this.#answering > 0) return
    this.#beatAgain = this.#beating
    if (this.#beating) return
    this.#beating = true
    await this.#renewTrust().catch(() => {}) // the next beat tries again
    this.#beating = false
    if (this.#beatAgain) void this.#beat()
  }

  async #renewTrust (): Promise<void> {
    const { lease, line } = this.#options
    // 1. Hello, so that all others wait for this process.
    if (!this.#helloHeard) await this.#publish({ kind: 'hello', lease })
    if (this.#answering > 0) return // a newcomer doesn't wait for us yet
    // 2. A question to the line. Its answer comes after everything that was published before.
    const question = this.#trust.ask()
    try {
      await withTimeout(lease, line.catchUp(), 'the line')
    } catch {
      return this.#reconnectIfSilent()
    }
    this.#silentSince = undefined
    // 3. Our hello must have been heard by now, unless the line was interrupted, or isn't the one that we publish to.
    if (!this.#helloHeard || !this.#trust.renew(question)) return
    this.#acknowledgements.asked()
    // While nothing was missed, all pushes were obeyed in their order, believed or not.
    if (this.#missed) this.#startEmpty()
    this.#missed = this.#isFirst = false
    this.#resolveJoined()
  }

  /** Perhaps only this connection is broken, without an error. */
  #reconnectIfSilent (): void {
    const { lease, line } = this.#options
    this.#silentSince ??= performance.now()
    if (performance.now() - this.#silentSince < 3 * lease) return
    this.#silentSince = undefined
    line.reconnect()
  }

  #publish (message: MessageBody): Promise<void> {
    return this.#send(this.#options.channel, message)
  }

  #tell (member: string, message: MessageBody): Promise<void> {
    return this.#send(this.#channelOf(member), message)
  }

  #send (channel: string, message: MessageBody): Promise<void> {
    return this.#breaker.run(() => this.#options.line.publish(channel, JSON.stringify({ from: this.#id, ...message })))
  }

  #channelOf (member: string): string {
    return `${this.#options.channel}:${member}`
  }
}
