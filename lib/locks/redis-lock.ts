import { randomUUID } from 'node:crypto'
import { assertConnected, type RedisLike } from '../tiers/redis-client.js'
import type { DivisibleLock, DogpileLock } from './lock.js'

// As in all scripts of Redlock, a name's key holds its holder's token. A command takes no more than some thousand keys of a script.
const scripts = {
  // ARGV: token, ttl
  acquire: `
for first = 1, #KEYS, 1000 do
  if redis.call('EXISTS', unpack(KEYS, first, math.min(first + 999, #KEYS))) > 0 then return 0 end
end
for _, key in ipairs(KEYS) do redis.call('SET', key, ARGV[1], 'PX', ARGV[2]) end
return 1`,

  // ARGV: token, ttl
  extend: `
for first = 1, #KEYS, 1000 do
  for _, token in ipairs(redis.call('MGET', unpack(KEYS, first, math.min(first + 999, #KEYS)))) do
    if token ~= ARGV[1] then return 0 end
  end
end
for _, key in ipairs(KEYS) do redis.call('PEXPIRE', key, ARGV[2]) end
return 1`,

  // ARGV: token
  release: `
for first = 1, #KEYS, 1000 do
  local own = {}
  for i, token in ipairs(redis.call('MGET', unpack(KEYS, first, math.min(first + 999, #KEYS)))) do
    if token == ARGV[1] then own[#own + 1] = KEYS[first + i - 1] end
  end
  if #own > 0 then redis.call('DEL', unpack(own)) end
end`
}

/** Redlock's form for one Redis, or one Redis Cluster: there is no quorum to be had, so each step is one script. */
export class RedisLock implements DogpileLock {
  readonly connection: unknown
  readonly #client: RedisLike

  constructor (client: RedisLike) {
    this.#client = client
    this.connection = client.isCluster ? undefined : client
  }

  async acquire (names: readonly string[], ttl: number): Promise<DivisibleLock | undefined> {
    assertConnected(this.#client)
    const held = new RedisHeld(this.#client, names)
    try {
      const acquired = await this.#client.eval(scripts.acquire, names.length, ...names, held.token, Math.round(ttl))
      return acquired === 1 ? held : undefined
    } catch (error) {
      void held.release() // it may have been taken, and only the answer was lost
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

  async extend (ttl: number): Promise<boolean> {
    if (this.#names.length === 0) return false
    try {
      assertConnected(this.#client)
      return await this.#client.eval(scripts.extend, this.#names.length, ...this.#names, this.token, Math.round(ttl)) === 1
    } catch {
      return false
    }
  }

  async release (): Promise<void> {
    await this.releaseSome(this.#names)
  }

  async releaseSome (names: readonly string[]): Promise<void> {
    if (names.length === 0) return
    this.#names = names === this.#names ? [] : this.#names.filter(name => !names.includes(name))
    try {
      await this.#client.eval(scripts.release, names.length, ...names, this.token)
    } catch {
      // It ends by itself when its time is over.
    }
  }
}
