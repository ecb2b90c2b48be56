import fc from 'fast-check'
import t from 'tap'
import { Coherence } from '../../../lib/coherence/coherence.js'
import type { Invalidation } from '../../../lib/coherence/messages.js'
import { silentLogger } from '../../helpers/doubles.js'
import { LineHub, simulateTime, type Clock, type HubProcess } from '../../helpers/line-hub.js'

const lease = 300
const keys = ['k', 'l'] as const
type Key = typeof keys[number]
const ways = ['requests', 'replies', 'asking', 'hearing'] as const

/** Several processes with a memory each, in front of a tier that they share. */
class Application {
  readonly hub = new LineHub()
  readonly caches: Cache[] = []
  /** The version of each value in the shared tier, which an invalidation reaches before the others are told of it. */
  readonly shared: Record<Key, number> = { k: 0, l: 0 }
  /** Older versions have been invalidated, and the invalidation is over. */
  readonly oldest: Record<Key, number> = { k: 0, l: 0 }

  constructor (clocks: readonly Clock[]) {
    for (const clock of clocks) this.join(clock)
    this.hub.watch = () => { for (const cache of this.caches) cache.look() }
  }

  join (clock?: Clock): void {
    this.caches.push(new Cache(this, this.hub.join(clock)))
  }

  get open (): Cache[] {
    return this.caches.filter(cache => !cache.isClosed)
  }

  /** How often somebody has said, or asked, this. */
  count (what: string): number {
    return this.hub.processes.reduce((sum, process) => sum + (what === 'ask' ? process.asks : process.saidOf(what).length), 0)
  }
}

interface Flight { readonly key: Key, readonly version: number, revoked: boolean }

class Cache {
  readonly process: HubProcess
  isClosed = false
  /** Invalidations that are under way. */
  underWay = 0
  readonly #app: Application
  readonly #coherence: Coherence
  readonly #memory = new Map<string, number>()
  /** Those that may be joined. */
  readonly #flights = new Map<string, Flight>()
  readonly #all = new Set<Flight>()

  constructor (app: Application, process: HubProcess) {
    this.#app = app
    this.process = process
    this.#coherence = process.run(() => new Coherence({ line: process.line, channel: 'coherence', lease, timeout: 60, logger: silentLogger() }))
    this.#coherence.attach('people', { invalidated: what => this.#forget(what), startEmpty: () => this.#startEmpty() })
    process.run(() => this.#coherence.start()).catch(() => {})
  }

  get isTrusted (): boolean {
    return !this.isClosed && this.process.run(() => this.#coherence.isTrusted)
  }

  /** Reads everything. @throws if it finds what it must not */
  look (): void {
    if (this.process.isStopped) return
    for (const key of keys) if (!this.#memory.has(key)) this.#memory.set(key, this.#app.shared[key])
    if (!this.isTrusted) return
    const who = `at ${this.#app.hub.time} process ${this.#app.caches.indexOf(this)}`
    for (const key of keys) {
      const oldest = this.#app.oldest[key]
      if (this.#memory.get(key)! < oldest) throw new Error(`${who} serves ${key} ${this.#memory.get(key)}, though there is ${oldest}`)
      if ((this.#flights.get(key)?.version ?? oldest) < oldest) throw new Error(`${who} lets readers join a flight of before ${key} ${oldest}`)
    }
  }

  /** A load that takes its time. */
  load (key: Key, ms: number): void {
    if (this.process.isStopped || this.isClosed || (this.#flights.has(key) && this.isTrusted)) return
    const flight = { key, version: this.#app.shared[key], revoked: false }
    this.#flights.set(key, flight)
    this.#all.add(flight)
    this.#app.hub.plan(this.#app.hub.time + ms, () => {
      this.#all.delete(flight)
      if (this.#flights.get(key) === flight) this.#flights.delete(key)
      if (!flight.revoked) this.#memory.set(key, flight.version)
    }, this.process)
  }

  invalidate (key: Key): void {
    if (this.process.isStopped || this.isClosed) return
    const version = ++this.#app.shared[key]
    this.#forget({ keys: [key] })
    this.underWay++
    this.process.run(() => this.#coherence.push('people', { keys: [key] }, false)).then(() => {
      this.underWay--
      this.#app.oldest[key] = Math.max(version, this.#app.oldest[key])
    }, () => { this.underWay-- })
  }

  /** As a manager does, when nothing is under way. */
  close (): void {
    if (this.process.isStopped || this.isClosed || this.underWay > 0) return
    this.isClosed = true
    this.process.run(() => this.#coherence.close()).then(() => this.process.cut(), () => {})
  }

  #forget ({ keys = [] }: Invalidation): void {
    for (const key of keys) {
      this.#memory.delete(key)
      this.#flights.delete(key)
      for (const flight of this.#all) if (flight.key === key) flight.revoked = true
    }
  }

  #startEmpty (): void {
    this.#memory.clear()
    this.#flights.clear()
    for (const flight of this.#all) flight.revoked = true
  }
}

const who = fc.nat(3)
const key = fc.constantFrom(...keys)
const step = fc.oneof(
  { weight: 9, arbitrary: fc.record({ what: fc.constant('invalidate'), who, key }) },
  { weight: 8, arbitrary: fc.record({ what: fc.constant('pass'), ms: fc.oneof(fc.nat(5), fc.nat(40), fc.integer({ min: lease - 10, max: lease + 10 }), fc.nat(700)) }) },
  { weight: 8, arbitrary: fc.record({ what: fc.constant('until'), said: fc.constantFrom('hello', 'present', 'push', 'acknowledgement', 'doubt', 'ask', 'ask') }) },
  { weight: 3, arbitrary: fc.record({ what: fc.constant('hold'), who, way: fc.constantFrom(...ways) }) },
  { weight: 3, arbitrary: fc.record({ what: fc.constant('release'), who }) },
  { weight: 2, arbitrary: fc.record({ what: fc.constant('load'), who, key, ms: fc.nat(400) }) },
  { weight: 4, arbitrary: fc.record({ what: fc.constantFrom('stop', 'resume'), who }) },
  { weight: 2, arbitrary: fc.record({ what: fc.constant('refuse'), who, said: fc.constantFrom('hello', 'present', 'push', 'acknowledgement', 'doubt', 'nothing') }) },
  { weight: 5, arbitrary: fc.record({ what: fc.constantFrom('cut', 'restore', 'lose', 'close', 'join'), who }) }
)

interface Step { what: string, who?: number, key?: Key, ms?: number, way?: typeof ways[number], said?: string }

async function take ({ what, who, key, ms, way, said }: Step, app: Application): Promise<void> {
  switch (what) {
    case 'pass': return await app.hub.pass(ms!)
    case 'until': {
      const before = app.count(said!)
      return await app.hub.pass(700, () => app.count(said!) > before)
    }
    case 'join': if (app.caches.length < 4) app.join()
  }
  const cache = app.caches[who!]
  if (cache === undefined) return
  const { process } = cache
  switch (what) {
    case 'invalidate': return cache.invalidate(key!)
    case 'load': return cache.load(key!, ms!)
    case 'hold': return process[way!].hold()
    case 'release': return ways.forEach(way => process[way].release())
    case 'stop': return process.stop()
    case 'resume': return process.resume()
    case 'refuse': process.refuses = ({ kind }) => kind === said; break
    case 'cut': return process.cut()
    case 'restore': return process.isStopped || cache.isClosed ? undefined : process.restore()
    case 'lose': return process.requests.lose()
    case 'close': return cache.close()
  }
}

t.test('whatever happens to processes and their lines, none of them serves what was invalidated; afterwards all is well', async t => {
  simulateTime(t)
  const clock = fc.record({ rate: fc.constantFrom(1, 1.002, 0.998), early: fc.constantFrom(0, 1.9) })
  await fc.assert(fc.asyncProperty(
    fc.array(clock, { minLength: 2, maxLength: 3 }),
    fc.array(step, { minLength: 10, maxLength: 80, size: 'max' }),
    fc.array(fc.oneof(fc.constant(0), fc.double({ min: 0, max: 4, noNaN: true })), { minLength: 1, maxLength: 20 }),
    async (clocks, steps, latencies) => {
      const app = new Application(clocks)
      let messages = 0
      app.hub.latency = () => latencies[messages++ % latencies.length]!
      for (const step of steps) {
        await take(step, app)
        await app.hub.pass(0)
      }

      app.hub.latency = () => 1
      for (const { process, isClosed } of app.caches) {
        process.refuses = () => false
        for (const way of ways) process[way].release()
        if (process.isStopped) process.resume()
        if (!isClosed) process.restore()
      }
      await app.hub.pass(3000) // the longest pause of a breaker, and a lease or two
      for (let i = 0; i < 3; i++) {
        for (const cache of app.open) cache.invalidate('k') // those who have left unheard are missed
        await app.hub.pass(1.1 * lease)
      }
      for (const cache of app.open) {
        cache.invalidate('k')
        await app.hub.pass(20)
        if (!cache.isTrusted || cache.underWay > 0) throw new Error(`process ${app.caches.indexOf(cache)} ${cache.isTrusted ? 'waits' : 'is not trusted'}`)
      }
      for (const cache of app.open) cache.close()
      await app.hub.pass(0)
    }
  ), {
    numRuns: Number(process.env['COHERENCE_RUNS'] ?? 100),
    // What a failure says of itself gives it again.
    ...process.env['COHERENCE_SEED'] !== undefined && { seed: Number(process.env['COHERENCE_SEED']), path: process.env['COHERENCE_PATH'] ?? '' }
  })
})
