import { AsyncLocalStorage } from 'node:async_hooks'
import { randomUUID } from 'node:crypto'
import { Lock, Redlock } from '@sesamecare-oss/redlock'
import { InvalidOptionsError, show } from '../errors.js'
import { assertConnected, useRedis, type RedisLike } from '../tiers/redis-client.js'
import type { DivisibleLock, DogpileLock } from './lock.js'
import { RedisLock } from './redis-lock.js'
import * as scripts from './scripts.js'

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

/** How long a silent server is waited for, when a quorum of the others has answered. Milliseconds. */
const longestSilence = 100

/** Over several servers: a quorum of them elects. */
class RedlockElection implements DogpileLock {
  readonly #redlock: Redlock
  readonly #clients: readonly RedisLike[]
  readonly #db: number
  readonly #quorum: number
  /** Of one call: the servers' errors, in their order. Enabled only while there are calls, see Outside. */
  readonly #objections = new AsyncLocalStorage<Error[]>()
  #calls = 0

  constructor (clients: readonly RedisLike[], db: number) {
    this.#clients = clients
    this.#db = db
    this.#quorum = Math.floor(clients.length / 2) + 1
    this.#redlock = new Redlock(clients as unknown as Clients, {
      // A loser waits for the winner's message, not for the lock: the library's retries would take it when the value is there
      // already, and its retry window keeps an error object for each attempt.
      retryCount: 0,
      db // the library's scripts select it, on all servers
    })
    // A server that was restarted knows no scripts.
    for (const client of clients) client.on('ready', () => { this.prepare().catch(() => {}) })
    this.#redlock.on('error', (error: Error) => { this.#objections.getStore()?.push(error) })
  }

  /** A server learns a script when it is first used, which costs a round trip: better now than in a stampede. */
  async prepare (): Promise<void> {
    const held = await this.acquire([`caching-api:prepare:${randomUUID()}`], 1000)
    await held?.release()
  }

  async acquire (names: readonly string[], ttl: number): Promise<DivisibleLock | undefined> {
    const objections: Error[] = []
    let lock: Lock
    this.#calls++
    try {
      lock = await this.#objections.run(objections, () => this.#redlock.acquire([...names], Math.round(ttl)))
    } catch (error) {
      // Undefined where somebody else holds it; an error where no quorum of servers has answered. The library's error tells
      // them apart only when the last server has answered, and one may be silent. Errors after those of a quorum may come from
      // releasing what other servers gave: a server that gave nothing then answers as if somebody else held it.
      if (objections.slice(0, this.#quorum).some(isLocked)) return undefined
      throw error
    } finally {
      if (--this.#calls === 0) this.#objections.disable()
    }
    return new RedlockHeld(this, lock.resources, lock.value)
  }

  /** The library takes all names or none. This takes the library's steps for each name: what a quorum gives is held. */
  async acquireSome (names: readonly string[], ttl: number): Promise<{ held: DivisibleLock, names: readonly string[] } | undefined> {
    const token = randomUUID()
    const duration = Math.round(ttl)
    const until = Date.now() + duration - Math.round(0.01 * duration) - 2 // less the drift of clocks, as in the library
    const { given, answers, error } = await this.#vote(inDatabase(scripts.acquireSome), names, token, duration)
    const isInTime = Date.now() < until
    const isHeld = (i: number) => isInTime && given[i]! >= this.#quorum
    const own = names.filter((_, i) => isHeld(i))
    // What a minority has given, or what a silent server may yet give, is released.
    const split = names.filter((_, i) => !isHeld(i) && (given[i]! > 0 || answers < this.#clients.length))
    if (split.length > 0) void this.releaseSome(split, token)
    if (answers < this.#quorum) throw error
    return own.length === 0 ? undefined : { held: new RedlockHeld(this, own, token), names: own }
  }

  /** Of names that are held with `token`: resolves to those that still are. Rejects where no quorum has answered. */
  async extendSome (names: readonly string[], token: string, duration: number): Promise<readonly string[]> {
    const { given, answers, error } = await this.#vote(inDatabase(scripts.extendSome), names, token, duration)
    if (answers < this.#quorum) throw error
    return names.filter((_, i) => given[i]! >= this.#quorum)
  }

  /** Never rejects. */
  async releaseSome (names: readonly string[], token: string): Promise<void> {
    try {
      await new Lock(this.#redlock, [...names], token, [], 0).release()
    } catch {
      // It expires.
    }
  }

  /**
   * How many servers give each name, as soon as the remaining servers could change nothing, or are silent. `error` is that of
   * the last one that failed. Never rejects.
   */
  async #vote (script: string, names: readonly string[], token: string, duration: number): Promise<{ given: readonly number[], answers: number, error: unknown }> {
    const given = new Array<number>(names.length).fill(0)
    let [answers, failures] = [0, 0]
    let error: unknown
    let timer: NodeJS.Timeout | undefined
    await new Promise<void>(resolve => {
      const counted = () => {
        const left = this.#clients.length - answers - failures
        if (left === 0 || answers + left < this.#quorum) return resolve()
        if (answers < this.#quorum) return
        const isDecided = given.every(votes => votes >= this.#quorum || votes + left < this.#quorum)
        if (isDecided) resolve()
        else timer ??= setTimeout(resolve, longestSilence)
      }
      for (const client of this.#clients) {
        this.#ask(client, script, names, token, duration).then(
          gives => { answers++; gives.forEach((gift, i) => { if (gift) given[i]!++ }); counted() },
          (reason: unknown) => { failures++; error = reason; counted() }
        )
      }
    })
    clearTimeout(timer)
    return { given: [...given], answers, error } // a copy: a late answer is still counted
  }

  /** Whether one server gives each name. `script` returns the places of those that it doesn't give. */
  async #ask (client: RedisLike, script: string, names: readonly string[], token: string, duration: number): Promise<readonly boolean[]> {
    assertConnected(client)
    const refused = new Set((await client.eval(script, names.length, ...names, token, duration, this.#db) as unknown[]).map(Number))
    return names.map((_, i) => !refused.has(i))
  }
}

/** The library selects one database, the same on all servers. */
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

  /** Each name by itself, since different servers may have given each of them. */
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
