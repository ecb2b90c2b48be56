import { AsyncLocalStorage } from 'node:async_hooks'
import { randomUUID } from 'node:crypto'
import { Lock, Redlock } from '@sesamecare-oss/redlock'
import { InvalidOptionsError, show } from '../errors.js'
import { assertConnected, useRedis, type RedisLike } from '../tiers/redis-client.js'
import type { DivisibleLock, DogpileLock } from './lock.js'
import { RedisLock, acquireSome, extendSome } from './redis-lock.js'

type Clients = ConstructorParameters<typeof Redlock>[0]

/**
 * The Redlock algorithm over one Redis, one Redis Cluster, or an odd number of independent ones. The clients are handed
 * in and stay open.
 */
export function redlock (clients: readonly unknown[]): DogpileLock {
  if (!Array.isArray(clients) || clients.length % 2 === 0) {
    throw new InvalidOptionsError('redlock(clients)', 'an array of one ioredis client, or of an odd number of independent ones', show(clients))
  }
  const used = clients.map((client, i) => useRedis(client, `redlock(clients)[${i}]`))
  if (new Set(clients).size !== clients.length) throw new InvalidOptionsError('redlock(clients)', 'an array of different clients', 'the same one twice')
  if (used.length === 1) return new RedisLock(used[0]!)
  const databases = used.map(({ options: { db = 0 } }) => db)
  const beyond = databases.find(db => db > lastDatabase)
  if (beyond !== undefined) throw new InvalidOptionsError('redlock(clients)', `clients of a database up to ${lastDatabase}, which is as far as the Redlock library knows them`, `one of database ${beyond}`)
  return new RedlockElection(used, databases[0]!)
}

const lastDatabase = 15

/** How long a server that is silent is waited for, when a quorum of the others has answered. Milliseconds. */
const patience = 100

/** Of several servers: a quorum of them elects. */
class RedlockElection implements DogpileLock {
  readonly #redlock: Redlock
  readonly #clients: readonly RedisLike[]
  readonly #db: number
  readonly #quorum: number
  /** Of one call: what servers said against it, in their order. Followed only while there are calls, see Outside. */
  readonly #against = new AsyncLocalStorage<Error[]>()
  #calls = 0

  constructor (clients: readonly RedisLike[], db: number) {
    this.#clients = clients
    this.#db = db
    this.#quorum = Math.floor(clients.length / 2) + 1
    this.#redlock = new Redlock(clients as unknown as Clients, {
      // Whoever loses waits for a message, not for the lock: the library's own retries would take it when the value is
      // there already, and its retry window keeps an error object for each attempt.
      retryCount: 0,
      db // of all of them: its scripts select it
    })
    // A server that has started anew knows no scripts.
    for (const client of clients) client.on('ready', () => { this.prepare().catch(() => {}) })
    this.#redlock.on('error', (error: Error) => { this.#against.getStore()?.push(error) })
  }

  /** Servers learn a script when it is first used, which costs a round trip: better now than in a stampede. */
  async prepare (): Promise<void> {
    const held = await this.acquire([`caching-api:prepare:${randomUUID()}`], 1000)
    await held?.release()
  }

  async acquire (names: readonly string[], ttl: number): Promise<DivisibleLock | undefined> {
    const against: Error[] = []
    let lock: Lock
    this.#calls++
    try {
      lock = await this.#against.run(against, () => this.#redlock.acquire([...names], Math.round(ttl)))
    } catch (error) {
      // Somebody else holds it; or else no quorum of servers answered, or took it, and nobody was elected. The error tells
      // as well, but only when the last server has answered, and one of them may be silent. What comes after a quorum may
      // be about the release of what the others took: there was nothing, which sounds as if somebody else held it.
      if (against.slice(0, this.#quorum).some(isLocked)) return undefined
      throw error
    } finally {
      if (--this.#calls === 0) this.#against.disable()
    }
    return new RedlockHeld(this, lock.resources, lock.value)
  }

  /** The library takes all or none. Its steps, for each name by itself: what a quorum of servers gives is held. */
  async acquireSome (names: readonly string[], ttl: number): Promise<{ held: DivisibleLock, names: readonly string[] } | undefined> {
    const token = randomUUID()
    const duration = Math.round(ttl)
    const until = Date.now() + duration - Math.round(0.01 * duration) - 2 // less what clocks may differ by, as the library has it
    const votes = await this.#vote(inDatabase(acquireSome), names, token, duration)
    const isInTime = Date.now() < until
    const own = names.filter((_, i) => isInTime && votes.given[i]! >= this.#quorum)
    // What some have given, or may yet give.
    const lost = names.filter((_, i) => (!isInTime || votes.given[i]! < this.#quorum) && (votes.given[i]! > 0 || votes.answers < this.#clients.length))
    if (lost.length > 0) void this.releaseSome(lost, token)
    if (votes.answers < this.#quorum) throw votes.error
    return own.length === 0 ? undefined : { held: new RedlockHeld(this, own, token), names: own }
  }

  /** Of names that are held with `token`: those that still are, for so much longer. Rejects where no quorum could be asked. */
  async extendSome (names: readonly string[], token: string, duration: number): Promise<readonly string[]> {
    const { given, answers, error } = await this.#vote(inDatabase(extendSome), names, token, duration)
    if (answers < this.#quorum) throw error
    return names.filter((_, i) => given[i]! >= this.#quorum)
  }

  /** Never rejects. */
  async releaseSome (names: readonly string[], token: string): Promise<void> {
    try {
      await new Lock(this.#redlock, [...names], token, [], 0).release()
    } catch {
      // It ends by itself when its time is over.
    }
  }

  /**
   * How many servers give each of the names, as soon as the rest of them could change nothing, or is silent. `script` tells the
   * places of those that one doesn't give. Never rejects.
   */
  async #vote (script: string, names: readonly string[], token: string, duration: number): Promise<{ given: readonly number[], answers: number, error: unknown }> {
    const ask = async (client: RedisLike): Promise<readonly boolean[]> => {
      assertConnected(client)
      const others = new Set((await client.eval(script, names.length, ...names, token, duration, this.#db) as unknown[]).map(Number))
      return names.map((_, i) => !others.has(i))
    }
    const given = new Array<number>(names.length).fill(0)
    let [answers, failures] = [0, 0]
    let error: unknown
    let timer: NodeJS.Timeout | undefined
    await new Promise<void>(resolve => {
      const counted = () => {
        const left = this.#clients.length - answers - failures
        if (left === 0 || answers + left < this.#quorum) return resolve()
        if (answers < this.#quorum) return
        if (given.every(votes => votes >= this.#quorum || votes + left < this.#quorum)) resolve()
        else timer ??= setTimeout(resolve, patience)
      }
      for (const client of this.#clients) {
        ask(client).then(
          gives => { answers++; gives.forEach((gift, i) => { if (gift) given[i]!++ }); counted() },
          (reason: unknown) => { failures++; error = reason; counted() }
        )
      }
    })
    clearTimeout(timer)
    return { given: [...given], answers, error }
  }
}

/** The library's keys are in one database of all servers. */
const inDatabase = (script: string): string => `redis.pcall('SELECT', tonumber(ARGV[3]))${script}`

const isLocked = (error: Error): boolean => error.name === 'ResourceLockedError'

class RedlockHeld implements DivisibleLock {
  readonly token: string
  readonly #election: RedlockElection
  #names: readonly string[]

  constructor (election: RedlockElection, names: readonly string[], token: string) {
    this.token = token
    this.#election = election
    this.#names = names
  }

  /** Each name by itself, as they were taken: of two, other servers may have given each. */
  async extend (ttl: number): Promise<boolean> {
    if (this.#names.length === 0) return false
    const kept = new Set(await this.#election.extendSome(this.#names, this.token, Math.round(ttl)))
    void this.releaseSome(this.#names.filter(name => !kept.has(name)))
    return this.#names.length > 0
  }

  async release (): Promise<void> {
    await this.releaseSome(this.#names)
  }

  async releaseSome (names: readonly string[]): Promise<void> {
    if (names.length === 0) return
    const released = new Set(names)
    this.#names = this.#names.filter(name => !released.has(name))
    await this.#election.releaseSome(names, this.token)
  }
}
