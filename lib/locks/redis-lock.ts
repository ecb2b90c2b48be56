import { randomUUID } from 'node:crypto'
import { assertConnected, isOne, orderedConnection, type RedisLike } from '../backends/redis-client.js'
import { assertTtl, type DivisibleLock, type DogpileLock } from './lock.js'
import * as scripts from './scripts.js'

/** Redlock for one Redis, or one Redis Cluster: without a quorum, each step is one script. */
export class RedisLock implements DogpileLock {
  readonly connection: unknown
  readonly #client: RedisLike

  constructor (client: RedisLike) {
    this.#client = client
    this.connection = orderedConnection(client)
  }

  /** A client with `lazyConnect` connects when it is first used. */
  async prepare (): Promise<void> {
    await this.#client.eval('return 1', 0)
  }

  async acquire (names: readonly string[], ttl: number): Promise<DivisibleLock | undefined> {
    return await this.#hold(names, ttl, async held => await held.acquire(ttl) ? held : undefined)
  }

  async acquireSome (names: readonly string[], ttl: number): Promise<{ held: DivisibleLock, names: readonly string[] } | undefined> {
    return await this.#hold(names, ttl, async held => {
      const own = await held.acquireSome(ttl)
      return own.length === 0 ? undefined : { held, names: own }
    })
  }

  async #hold<T> (names: readonly string[], ttl: number, take: (held: RedisHeld) => Promise<T>): Promise<T> {
    assertConnected(this.#client)
    assertTtl(ttl)
    const held = new RedisHeld(this.#client, [...names])
    try {
      return await take(held)
    } catch (error) {
      void held.release() // perhaps it was taken, and only the answer was lost
      throw error
    }
  }
}

class RedisHeld implements DivisibleLock {
  readonly token = randomUUID()
  readonly #client: RedisLike
  #names: readonly string[]

  constructor (client: RedisLike, names: readonly string[]) {
    this.#client = client
    this.#names = names
  }

  async acquire (ttl: number): Promise<boolean> {
    return isOne(await this.#run(scripts.acquire, this.#names, Math.round(ttl)))
  }

  /** Resolves to the names that it holds now. */
  async acquireSome (ttl: number): Promise<readonly string[]> {
    const taken = new Set((await this.#run(scripts.acquireSome, this.#names, Math.round(ttl)) as unknown[]).map(Number))
    if (taken.size > 0) this.#names = this.#names.filter((_, i) => !taken.has(i))
    return this.#names
  }

  /** Without a connection it waits for as long as the client does: a lost connection is no reason to give the lock up. */
  async extend (ttl: number): Promise<boolean> {
    assertTtl(ttl)
    return this.#names.length > 0 && isOne(await this.#run(scripts.extend, this.#names, Math.round(ttl)))
  }

  async release (): Promise<void> {
    await this.releaseSome(this.#names)
  }

  async releaseSome (names: readonly string[]): Promise<void> {
    if (names.length === 0) return
    const released = new Set(names)
    this.#names = this.#names.filter(name => !released.has(name))
    try {
      await this.#run(scripts.release, names)
    } catch {
      // It expires.
    }
  }

  #run (script: string, names: readonly string[], ...more: number[]): Promise<unknown> {
    return this.#client.eval(script, names.length, ...names, this.token, ...more)
  }
}
