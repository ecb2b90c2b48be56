import { mock } from 'node:test'
import type { Test } from 'tap'
import { Dogpile, type DogpileOptions } from '../../lib/dogpile/dogpile.js'
import type { Elected } from '../../lib/dogpile/elected.js'
import type { Outcome } from '../../lib/dogpile/news.js'
import type { Line } from '../../lib/line.js'
import type { DogpileLock, HeldLock } from '../../lib/locks/lock.js'
import { gate, silentLogger } from './doubles.js'

/** Time that passes when the test says so, for whoever asks for it and whoever waits for it. */
function passingTime (t: Test) {
  let now = 1000
  t.intercept(performance, 'now', { value: () => now })
  mock.timers.enable({ apis: ['setTimeout', 'setInterval'] })
  t.teardown(() => mock.timers.reset())
  const settle = async () => { for (let i = 0; i < 5; i++) await new Promise(setImmediate) }
  return {
    settle,
    pass: async (ms: number) => {
      await settle()
      now += ms
      mock.timers.tick(ms)
      await settle()
    }
  }
}

/** Locks that all processes share, and what was asked of them. */
export class FakeLocks implements DogpileLock {
  readonly holders = new Map<string, string>()
  readonly asked: { names: readonly string[], ttl: number }[] = []
  extended = 0
  released = 0
  /** Whether some names of several can be released. */
  partial = true
  extend = async (): Promise<boolean> => true

  async acquire (names: readonly string[], ttl: number): Promise<HeldLock | undefined> {
    this.asked.push({ names: [...names], ttl })
    if (names.some(name => this.holders.has(name))) return undefined
    return this.hold(names)
  }

  hold (names: readonly string[]): HeldLock {
    const token = `token-${this.asked.length}`
    for (const name of names) this.holders.set(name, token)
    return {
      token,
      extend: () => {
        this.extended++
        return this.extend()
      },
      release: async () => {
        this.released++
        this.#free(names, token)
      },
      ...this.partial && { releaseSome: async (some: readonly string[]) => this.#free(some, token) }
    }
  }

  #free (names: readonly string[], token: string): void {
    for (const name of names) if (this.holders.get(name) === token) this.holders.delete(name)
  }
}

/** A line between all processes. It loses what the test wants to be lost. */
class FakeLine implements Pick<Line, 'publish' | 'listen'> {
  readonly sent: { channel: string, message: any }[] = []
  readonly listeners = new Set<(message: string) => void>()
  stopped = 0
  lossy = false

  async publish (channel: string, message: string): Promise<void> {
    this.sent.push({ channel, message: JSON.parse(message) })
    if (!this.lossy) this.say(message)
  }

  say (message: string): void {
    for (const listener of this.listeners) listener(message)
  }

  async listen (_channel: string, listener: (message: string) => void): Promise<() => void> {
    this.listeners.add(listener)
    return () => {
      this.stopped++
      this.listeners.delete(listener)
    }
  }

  async close (): Promise<void> {}
}

export function dogpileOf (t: Test, more: Partial<DogpileOptions> = {}) {
  const time = passingTime(t)
  const locks = new FakeLocks()
  const line = new FakeLine()
  const logger = silentLogger()
  const options = { lock: locks, line, channel: 'wake-ups', ttl: 5000, wait: 4000, timeout: 200, renewFor: 60_000, logger, ...more }
  /** Two processes. */
  const [mine, theirs] = [new Dogpile(options), new Dogpile(options)]
  return { ...time, locks, line, logger, mine, theirs }
}

/** Over a lock that can take some of many. */
export function dogpileWith (locks: FakeLocks, lock: DogpileLock = someOf(locks)): Dogpile {
  return new Dogpile({ lock, line: undefined, channel: 'wake-ups', ttl: 5000, wait: 4000, timeout: 200, renewFor: 60_000, logger: silentLogger() })
}

function someOf (locks: FakeLocks): DogpileLock {
  return {
    acquire: async () => { throw new Error('there is no need') },
    acquireSome: async (names, ttl) => {
      locks.asked.push({ names: [...names], ttl })
      const own = names.filter(name => !locks.holders.has(name))
      return own.length === 0 ? undefined : { names: own, held: locks.hold(own) }
    }
  }
}

/** Follows, and writes down what came of it. */
export function following (dogpile: Dogpile, names: readonly string[], known: Set<string>) {
  const led: Elected[] = []
  const failures: [name: string, error: any][] = []
  let looks = 0
  let over = false
  const work = gate()
  const end = dogpile.follow(names, {
    look: async names => {
      looks++
      return names.filter(name => !known.has(name))
    },
    failed: (name, error) => failures.push([name, error]),
    lead: async elected => {
      led.push(elected)
      await work.opened
    }
  }).then(() => { over = true })
  return { led, failures, end, work, looks: () => looks, over: () => over }
}

/** A lock whose answer the test decides. */
export function lockThat (acquire: DogpileLock['acquire']) {
  const lock: DogpileLock & { calls: string[][] } = {
    calls: [],
    acquire: (names, ttl) => { lock.calls.push([...names]); return acquire(names, ttl) }
  }
  return lock
}

export const done: Outcome = { kind: 'done' }
