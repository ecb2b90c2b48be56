import { randomUUID } from 'node:crypto'
import { setTimeout as pause } from 'node:timers/promises'
import { assertConnected, isOne, type RedisLike } from '../backends/redis-client.js'
import { assertTtl, type DivisibleLock, type DogpileLock } from './lock.js'
import * as scripts from './scripts.js'

/** How long a silent server is waited for, once a quorum of the others has answered; and then asked nothing more. Milliseconds. */
const longestSilence = 100

/** How long a release waits for a quorum. Milliseconds. */
const longestRelease = 1000

/** An election that nobody has won is repeated. The delay is random, so that the candidates don't meet again. Milliseconds. */
const mostRetries = 3
const longestDelay = 40

/** The votes for each name, of the servers that have answered. `error`: of the last one that has failed. */
interface Count { readonly votes: readonly number[], readonly answers: number, readonly error: unknown }

/** A question to a server that it has not answered. */
interface Question { readonly since: number }

/** Sends a script to a server. Resolves to whether it votes for each name. */
type Ask = (client: RedisLike) => Promise<readonly boolean[]>

/**
 * Redlock over several servers: a name is held by the token that a quorum of them has. Each name is counted by itself, since
 * different servers may vote for each; and no server that is away is waited for, nor sent what would wait for its return.
 */
export class QuorumLock implements DogpileLock {
  readonly #clients: readonly RedisLike[]
  readonly #quorum: number
  /** What each server has not answered yet, the oldest first. */
  readonly #questions: ReadonlyMap<RedisLike, Set<Question>>

  constructor (clients: readonly RedisLike[]) {
    this.#clients = clients
    this.#questions = new Map(clients.map(client => [client, new Set()]))
    this.#quorum = Math.floor(clients.length / 2) + 1
  }

  /** Clients with `lazyConnect` connect when they are first used. Rejects where no quorum has answered. */
  async prepare (): Promise<void> {
    this.#assertQuorum(await this.#count([], async client => {
      await client.eval('return 1', 0)
      return []
    }))
  }

  async acquire (names: readonly string[], ttl: number): Promise<DivisibleLock | undefined> {
    const own = [...names]
    const taken = await this.#take(own, ttl, (token, duration) => async client => {
      const isGiven = isOne(await client.eval(scripts.acquire, own.length, ...own, token, duration))
      return own.map(() => isGiven)
    })
    return taken?.held
  }

  async acquireSome (names: readonly string[], ttl: number): Promise<{ held: DivisibleLock, names: readonly string[] } | undefined> {
    const own = [...names]
    return await this.#take(own, ttl, (token, duration) => this.#allBut(scripts.acquireSome, own, token, duration))
  }

  async #take (names: readonly string[], ttl: number, askFor: (token: string, duration: number) => Ask, retries = mostRetries): Promise<{ held: DivisibleLock, names: readonly string[] } | undefined> {
    assertTtl(ttl)
    const token = randomUUID()
    const duration = Math.round(ttl)
    const until = performance.now() + duration - Math.round(0.01 * duration) - 2 // Redlock's allowance for clocks that differ
    const asked = new Set<RedisLike>()
    const count = await this.#count(names, this.#unlessSilent(askFor(token, duration), asked))
    const { votes, answers } = count
    const isInTime = performance.now() < until
    const isWon = (i: number) => isInTime && votes[i]! >= this.#quorum
    const won = names.filter((_, i) => isWon(i))
    // What a minority has given, or a silent server may yet give, is nobody's until it is released.
    const lost = names.filter((_, i) => !isWon(i) && (votes[i]! > 0 || answers < this.#clients.length))
    const released = this.release(lost, token, asked)
    this.#assertQuorum(count)
    if (won.length > 0) return { held: new QuorumHeld(this, won, token, asked), names: won }
    if (retries === 0 || !isInTime || votes.every(some => some === 0)) return undefined
    // Each candidate may have got a minority: then others don't hold it either.
    await released
    await pause(longestDelay * Math.random())
    return await this.#take(names, ttl, askFor, retries - 1)
  }

  /**
   * Resolves to the names that may still be held: a server that doesn't answer is no reason to give them up. Rejects where no
   * quorum has answered.
   */
  async extend (names: readonly string[], token: string, ttl: number): Promise<readonly string[]> {
    assertTtl(ttl)
    const count = await this.#count(names, this.#unlessSilent(this.#allBut(scripts.extendSome, names, token, Math.round(ttl))))
    this.#assertQuorum(count)
    const unknown = this.#clients.length - count.answers
    return names.filter((_, i) => count.votes[i]! + unknown >= this.#quorum)
  }

  /**
   * `asked`: the servers that may have given them, also those that are silent now. Resolves when a quorum has released them;
   * others will, or they expire. It waits a second at most. Never rejects.
   */
  async release (names: readonly string[], token: string, asked: ReadonlySet<RedisLike>): Promise<void> {
    if (names.length === 0) return
    await this.#count(names, async client => {
      if (!asked.has(client)) throw new Error('the server was not asked')
      await client.eval(scripts.release, names.length, ...names, token)
      return names.map(() => true)
    }, longestRelease)
  }

  #assertQuorum ({ answers, error }: Count): void {
    if (answers < this.#quorum) throw new Error(`no quorum of ${this.#clients.length} Redis servers has answered`, { cause: error })
  }

  /** Asks by a script that returns the places of the names that the server doesn't give. */
  #allBut (script: string, names: readonly string[], token: string, duration: number): Ask {
    return async client => {
      const refused = new Set((await client.eval(script, names.length, ...names, token, duration) as unknown[]).map(Number))
      return names.map((_, i) => !refused.has(i))
    }
  }

  /**
   * What a silent server is asked, it would do when it is back: too late for anybody. But where no quorum would be left, all
   * are asked: perhaps it is this process that was busy, and their answers wait to be read. `asked` gets those that are asked.
   */
  #unlessSilent (ask: Ask, asked?: Set<RedisLike>): Ask {
    return async client => {
      if (this.#isSilent(client) && this.#clients.filter(one => !this.#isSilent(one)).length >= this.#quorum) throw new Error('the server is silent')
      asked?.add(client)
      const questions = this.#questions.get(client)!
      const question = { since: performance.now() }
      questions.add(question)
      return await ask(client).finally(() => questions.delete(question))
    }
  }

  #isSilent (client: RedisLike): boolean {
    const [oldest] = this.#questions.get(client)!
    return oldest !== undefined && performance.now() - oldest.since > longestSilence
  }

  /**
   * Asks the servers that are connected. Resolves as soon as the remaining ones could change nothing, or are silent; for a quorum
   * it waits for `timeout`. Never rejects.
   */
  async #count (names: readonly string[], ask: Ask, timeout?: number): Promise<Count> {
    const votes = new Array<number>(names.length).fill(0)
    let answers = 0
    let failures = 0
    let error: unknown
    let timer: NodeJS.Timeout | undefined
    let deadline: NodeJS.Timeout | undefined
    await new Promise<void>(resolve => {
      if (timeout !== undefined) deadline = setTimeout(resolve, timeout)
      const counted = () => {
        const left = this.#clients.length - answers - failures
        if (left === 0 || answers + left < this.#quorum) return resolve()
        if (answers < this.#quorum) return
        const isDecided = votes.every(some => some >= this.#quorum || some + left < this.#quorum)
        if (isDecided) resolve()
        else timer ??= setTimeout(resolve, longestSilence)
      }
      const send = async (client: RedisLike) => {
        assertConnected(client)
        return await ask(client)
      }
      for (const client of this.#clients) {
        send(client).then(
          gives => { answers++; gives.forEach((isGiven, i) => { if (isGiven) votes[i]!++ }); counted() },
          (reason: unknown) => { failures++; error = reason; counted() }
        )
      }
    })
    clearTimeout(timer)
    clearTimeout(deadline)
    return { votes: [...votes], answers, error } // a copy: a late answer is still counted
  }
}

class QuorumHeld implements DivisibleLock {
  readonly token: string
  readonly #lock: QuorumLock
  readonly #asked: ReadonlySet<RedisLike>
  #names: readonly string[]

  constructor (lock: QuorumLock, names: readonly string[], token: string, asked: ReadonlySet<RedisLike>) {
    this.token = token
    this.#lock = lock
    this.#asked = asked
    this.#names = names
  }

  async extend (ttl: number): Promise<boolean> {
    if (this.#names.length === 0) return false
    const kept = new Set(await this.#lock.extend(this.#names, this.token, ttl))
    void this.releaseSome(this.#names.filter(name => !kept.has(name)))
    return this.#names.length > 0
  }

  async release (): Promise<void> {
    await this.releaseSome(this.#names)
  }

  async releaseSome (names: readonly string[]): Promise<void> {
    const released = new Set(names)
    this.#names = this.#names.filter(name => !released.has(name))
    await this.#lock.release(names, this.token, this.#asked)
  }
}
