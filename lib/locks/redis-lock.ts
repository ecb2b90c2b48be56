import { randomUUID } from 'node:crypto'
import { InvalidArgumentError, show } from '../errors.js'
import { assertConnected, isOne, orderedConnection, type RedisLike } from '../tiers/redis-client.js'
import type { DivisibleLock, DogpileLock } from './lock.js'

/** ARGV: token, ttl. Returns the places of those that somebody else holds. */
export const acquireSome = `
local others = {}
for i, key in ipairs(KEYS) do
  if not redis.call('SET', key, ARGV[1], 'PX', ARGV[2], 'NX') then
    -- Sent again, as below: then it is one's own.
    if redis.pcall('GET', key) == ARGV[1] then redis.call('PEXPIRE', key, ARGV[2]) else others[#others + 1] = i - 1 end
  end
end
return others`

/** ARGV: token, ttl. Returns the places of those that somebody else holds, or nobody. */
export const extendSome = `
local others = {}
for i, key in ipairs(KEYS) do
  if redis.pcall('GET', key) == ARGV[1] then redis.call('PEXPIRE', key, ARGV[2]) else others[#others + 1] = i - 1 end
end
return others`

// A name's key holds the token of its holder, as the Redlock library has it: each keeps the other out. A thousand keys at a
// time: Lua's unpack takes no more than some thousands.
const scripts = {
  // ARGV: token, ttl
  acquire: `
for first = 1, #KEYS, 1000 do
  if redis.call('EXISTS', unpack(KEYS, first, math.min(first + 999, #KEYS))) > 0 then
    -- A client sends again what it had no answer to when its connection was lost. Whose the first is, they all are.
    if redis.pcall('GET', KEYS[1]) ~= ARGV[1] then return 0 end
    break
  end
end
for _, key in ipairs(KEYS) do redis.call('SET', key, ARGV[1], 'PX', ARGV[2]) end
return 1`,

  // ARGV: token, ttl. Of one that was lost, the others are none the worse.
  extend: `
local own = 0
for first = 1, #KEYS, 1000 do
  for i, token in ipairs(redis.call('MGET', unpack(KEYS, first, math.min(first + 999, #KEYS)))) do
    if token == ARGV[1] then own = redis.call('PEXPIRE', KEYS[first + i - 1], ARGV[2]) end
  end
end
return own`,

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
    this.connection = orderedConnection(client)
  }

  /** A client may connect no sooner than it is used. */
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

  async acquire (ttl: number): Promise<boolean> {
    return isOne(await this.#run(scripts.acquire, this.#names, Math.round(ttl)))
  }

  /** Resolves to those that it holds. */
  async acquireSome (ttl: number): Promise<readonly string[]> {
    const others = new Set((await this.#run(acquireSome, this.#names, Math.round(ttl)) as unknown[]).map(Number))
    if (others.size > 0) this.#names = this.#names.filter((_, i) => !others.has(i))
    return this.#names
  }

  /** Without a connection it waits, as long as the client does: that one is lost is no reason to let go. */
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
      // It ends by itself when its time is over.
    }
  }

  #run (script: string, names: readonly string[], ...more: number[]): Promise<unknown> {
    return this.#client.eval(script, names.length, ...names, this.token, ...more)
  }
}

function assertTtl (ttl: number): void {
  if (!(Math.round(ttl) >= 1)) throw new InvalidArgumentError("A lock's ttl", 'at least a millisecond', show(ttl))
}
