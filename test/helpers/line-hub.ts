import { AsyncLocalStorage } from 'node:async_hooks'
import type { Test } from 'tap'
import type { Line } from '../../lib/line.js'

/** Whose code is running. */
const current = new AsyncLocalStorage<HubProcess>()

/** Until the test ends, what is called by `process.run` has the timers and the clock of that process. */
export function simulateTime (t: Pick<Test, 'teardown'>): void {
  const real = { setTimeout, setInterval, clearTimeout, clearInterval }
  const now = performance.now
  const set = (name: 'setTimeout' | 'setInterval') => (run: () => void, ms: number, ...args: []) =>
    current.getStore()?.setTimer(run, ms, name === 'setInterval') ?? real[name](run, ms, ...args)
  const clear = (name: 'clearTimeout' | 'clearInterval') => (timer: any) => {
    if (timer instanceof HubTimer) timer.stop()
    else real[name](timer)
  }
  // Not by t.intercept: that remembers every use.
  Object.assign(globalThis, {
    setTimeout: set('setTimeout'),
    setInterval: set('setInterval'),
    clearTimeout: clear('clearTimeout'),
    clearInterval: clear('clearInterval')
  })
  performance.now = () => current.getStore()?.now ?? now.call(performance)
  t.teardown(() => {
    Object.assign(globalThis, real)
    performance.now = now
  })
}

/** What can happen in no time, unless something goes round in circles. */
const mostAtOnce = 5000

interface Happening {
  at: number
  order: number
  readonly owner: HubProcess | undefined
  readonly isTimer: boolean
  readonly happen: () => void
}

/**
 * Processes around one server that carries messages between them, in a time that passes when the test says so. What they say
 * takes the ways that it takes in life: commands to the server and their answers on one connection, what is heard on
 * another. Each way keeps its order, can be held up, and loses nothing until it is cut. A process can be stopped, as by SIGSTOP.
 * Needs `simulateTime(t)`.
 */
export class LineHub {
  readonly processes: HubProcess[] = []
  /** Milliseconds that a message is on its way. */
  latency = (): number => 0
  /** Called whenever something has happened. */
  watch = (): void => {}
  #time = 1000
  #order = 0
  readonly #happenings = new Set<Happening>()

  get time (): number {
    return this.#time
  }

  /** How much is still to happen. */
  get planned (): number {
    return this.#happenings.size
  }

  join (clock?: Clock): HubProcess {
    const process = new HubProcess(this, clock)
    this.processes.push(process)
    return process
  }

  /** Lets so much time pass, or less if `until` becomes true, and everything happen that happens in it. */
  async pass (ms: number, until = (): boolean => false): Promise<void> {
    const end = this.#time + ms
    let atOnce = 0
    for (;;) {
      await new Promise(setImmediate)
      this.watch()
      if (until()) return
      const next = this.#next(end)
      if (next === undefined) break
      this.#happenings.delete(next)
      atOnce = next.at > this.#time ? 0 : atOnce + 1
      if (atOnce > mostAtOnce) throw new Error(`at ${this.#time} messages cause each other without end: ${this.#lastSaid()}`)
      this.#time = Math.max(this.#time, next.at)
      next.happen()
    }
    this.#time = end
    this.watch()
  }

  /** The server has executed it: whoever subscribes to the channel will hear it. */
  deliver (channel: string, message: string): void {
    for (const process of this.processes) process.send(channel, message)
  }

  /** It happens when that process, if it is one's, can take notice. Call what it returns to prevent it. */
  plan (at: number, happen: () => void, owner?: HubProcess, isTimer = false): () => void {
    const happening = { at, order: this.#order++, owner, isTimer, happen }
    this.#happenings.add(happening)
    return () => { this.#happenings.delete(happening) }
  }

  /** Its timers ring, before it hears of anything else. */
  resumed (process: HubProcess): void {
    const late = [...this.#happenings].filter(({ owner, at }) => owner === process && at <= this.#time)
    for (const one of [...late.filter(({ isTimer }) => isTimer), ...late.filter(({ isTimer }) => !isTimer)]) {
      one.at = this.#time
      one.order = this.#order++
    }
  }

  #lastSaid (): string {
    return this.processes.map(({ said }, i) => `process ${i} ${said.slice(-4).map(({ kind }) => kind).join(', ')}`).join('; ')
  }

  #next (end: number): Happening | undefined {
    let next: Happening | undefined
    for (const one of this.#happenings) {
      if (one.at > end || one.owner?.isStopped === true) continue
      if (next === undefined || one.at < next.at || (one.at === next.at && one.order < next.order)) next = one
    }
    return next
  }
}

/** As much of a timer of Node as is used. */
class HubTimer {
  stop!: () => void

  constructor (plan: (again: () => void) => () => void) {
    const set = () => { this.stop = plan(set) }
    set()
  }

  unref (): this {
    return this
  }
}

export interface Clock {
  /** How fast it runs. Default 1. */
  rate?: number
  /** Milliseconds that timers ring too early. Default 0. */
  early?: number
}

/** One direction of a connection. */
export class Way {
  readonly #hub: LineHub
  readonly #to: HubProcess | undefined
  #held: (() => void)[] | undefined
  #last = 0
  #life = 0

  constructor (hub: LineHub, to: HubProcess | undefined) {
    this.#hub = hub
    this.#to = to
  }

  carry (arrive: () => void): void {
    if (this.#held !== undefined) {
      this.#held.push(arrive)
      return
    }
    const life = this.#life
    this.#last = Math.max(this.#last, this.#hub.time + this.#hub.latency())
    this.#hub.plan(this.#last, () => { if (life === this.#life) arrive() }, this.#to)
  }

  /** From now on, until `release()`. */
  hold (): void {
    this.#held ??= []
  }

  release (): void {
    const held = this.#held ?? []
    this.#held = undefined
    for (const arrive of held) this.carry(arrive)
  }

  /** What is under way does not arrive. */
  lose (): void {
    this.#life++
    if (this.#held !== undefined) this.#held = []
  }
}

export class HubProcess {
  readonly line: Line
  /** What it publishes, on its way to the server. */
  readonly requests: Way
  /** The answers to that. */
  readonly replies: Way
  /** To the server, on the connection that listens. */
  readonly asking: Way
  /** Messages, and the answers to what is asked on this connection. */
  readonly hearing: Way
  /** What it has tried to publish. */
  readonly said: { readonly channel: string, readonly kind: string, readonly [more: string]: unknown }[] = []
  /** What it fails to publish. */
  refuses: (message: { readonly kind: string }) => boolean = () => false
  /** How often it has asked whether it has heard everything. */
  asks = 0
  /** How often it was asked to connect anew, which takes it 20 ms. */
  reconnects = 0
  isStopped = false
  readonly #hub: LineHub
  readonly #clock: Clock
  /** Its listeners, and what the server knows of them. */
  readonly #listeners = new Map<string, Set<(message: string) => void>>()
  readonly #interrupted = new Set<() => void>()
  readonly #subscribed = new Set<string>()
  readonly #listening = new Set<() => void>()
  readonly #asked = new Set<(error: Error) => void>()
  #isOpen = true

  constructor (hub: LineHub, clock: Clock = {}) {
    this.#hub = hub
    this.#clock = clock
    this.requests = new Way(hub, undefined)
    this.replies = new Way(hub, this)
    this.asking = new Way(hub, undefined)
    this.hearing = new Way(hub, this)
    this.line = {
      publish: async (channel, text) => await this.#publish(channel, text),
      listen: async (channel, listener, interrupted) => await this.#listen(channel, listener, interrupted),
      catchUp: async () => await this.#ask(),
      reconnect: () => {
        this.reconnects++
        this.lose()
        hub.plan(hub.time + 20, () => this.restore(), this)
      },
      close: async () => {}
    }
  }

  run<T> (code: () => T): T {
    return current.run(this, code)
  }

  get now (): number {
    return this.#hub.time * (this.#clock.rate ?? 1)
  }

  setTimer (ring: () => void, ms: number, isRepeated: boolean): HubTimer {
    const { rate = 1, early = 0 } = this.#clock
    return new HubTimer(again => this.#hub.plan(this.#hub.time + Math.max(0, ms / rate - early), () => {
      if (isRepeated) again()
      this.run(ring)
    }, this, true))
  }

  /** The messages of this kind that it has tried to publish. */
  saidOf (kind: string) {
    return this.said.filter(message => message.kind === kind)
  }

  stop (): void {
    this.isStopped = true
  }

  resume (): void {
    this.isStopped = false
    this.#hub.resumed(this)
  }

  /** The server has lost the connection that listens; the process isn't told. */
  cut (): void {
    this.#subscribed.clear()
    this.asking.lose()
    this.#isOpen = false
  }

  /** Now it is. */
  lose (): void {
    this.cut()
    this.hearing.lose()
    for (const reject of this.#asked) reject(new Error('the line was lost'))
    this.#tellInterrupted()
  }

  /** Another connection. */
  restore (): void {
    this.lose()
    for (const channel of this.#listeners.keys()) this.#subscribed.add(channel)
    this.#isOpen = true
    for (const listening of this.#listening) this.hearing.carry(listening)
    this.#tellInterrupted()
  }

  send (channel: string, message: string): void {
    if (!this.#subscribed.has(channel)) return
    this.hearing.carry(() => {
      for (const listener of this.#listeners.get(channel)!) this.run(() => listener(message))
    })
  }

  async #publish (channel: string, text: string): Promise<void> {
    const message = { ...JSON.parse(text), channel }
    this.said.push(message)
    if (this.refuses(message)) throw new Error(`${message.kind} can not be published`)
    await new Promise<void>(resolve => this.requests.carry(() => {
      this.#hub.deliver(channel, text)
      this.replies.carry(resolve)
    }))
  }

  async #listen (channel: string, listener: (message: string) => void, interrupted?: () => void): Promise<() => void> {
    this.#listeners.set(channel, new Set([...this.#listeners.get(channel) ?? [], listener]))
    if (interrupted !== undefined) this.#interrupted.add(interrupted)
    await new Promise<void>(resolve => {
      this.#listening.add(resolve)
      this.asking.carry(() => {
        this.#subscribed.add(channel)
        this.hearing.carry(resolve)
      })
    })
    return () => {}
  }

  async #ask (): Promise<void> {
    this.asks++
    await new Promise<void>((resolve, reject) => {
      this.#asked.add(reject)
      if (this.#isOpen) this.asking.carry(() => this.hearing.carry(resolve))
    })
  }

  #tellInterrupted (): void {
    for (const interrupted of this.#interrupted) this.run(interrupted)
  }
}
