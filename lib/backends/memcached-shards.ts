import { groupBy } from '../group-by.js'
import type { Logger } from '../logger.js'
import { isRefusal, isUnstorable, storageCommand } from './memcached-protocol.js'
import type { Item, MemcachedServer } from './memcached-server.js'

/** One server, or several that each have their share of the keys. */
export class MemcachedShards {
  readonly #servers: readonly [MemcachedServer, ...MemcachedServer[]]
  /** The hash of each server's address. */
  readonly #seeds: readonly number[]

  constructor (servers: readonly [MemcachedServer, ...MemcachedServer[]]) {
    this.#servers = servers
    this.#seeds = servers.map(server => mix(hash(server.address)))
  }

  get count (): number {
    return this.#servers.length
  }

  /** A single server has no breaker of its own: the tier has one. */
  allow (milliseconds: number, logger?: Logger): void {
    if (this.count > 1) for (const server of this.#servers) server.allow(milliseconds, logger)
  }

  /** Rendezvous hashing: when a server is added or taken away, only its own keys move. */
  serverOf (key: string): MemcachedServer {
    let best = this.#servers[0]
    if (this.count === 1) return best
    const hashed = hash(key)
    let highest = -1
    for (let i = 0; i < this.#servers.length; i++) {
      const score = mix(hashed ^ this.#seeds[i]!)
      if (score <= highest) continue
      best = this.#servers[i]!
      highest = score
    }
    return best
  }

  /** One command to each server. What `before` makes of a key is sent ahead of it, on the same connection. */
  async gets (keys: readonly string[], before?: (key: string) => Buffer): Promise<(Item | undefined)[]> {
    const found = await Promise.all([...this.#byServer(keys)].map(([server, own]) => server.gets(own, before === undefined ? [] : own.map(before))))
    const [only] = found
    if (found.length === 1) return keys.map(key => only!.get(key))
    const items = new Map(found.flatMap(some => [...some]))
    return keys.map(key => items.get(key))
  }

  /** One round trip to each server. */
  async deleteMany (keys: readonly string[]): Promise<void> {
    await Promise.all([...this.#byServer(keys)].map(([server, own]) => server.delete(own)))
  }

  /** Resolves to an error where the server can't keep the value, as `add` and `cas` do. */
  async set (key: string, value: Uint8Array, exptime: number): Promise<boolean | Error> {
    return await this.#store('set', key, value, exptime)
  }

  /** False: something is there. */
  async add (key: string, value: Uint8Array, exptime: number): Promise<boolean | Error> {
    return await this.#store('add', key, value, exptime)
  }

  /** False: the item has another `cas unique`, or there is none. */
  async cas (key: string, value: Uint8Array, exptime: number, unique: string): Promise<boolean | Error> {
    return await this.#store('cas', key, value, exptime, ` ${unique}`)
  }

  async #store (command: 'set' | 'add' | 'cas', key: string, value: Uint8Array, exptime: number, more?: string): Promise<boolean | Error> {
    try {
      await this.serverOf(key).send(storageCommand(command, key, value, exptime, more))
      return true
    } catch (error) {
      if (isRefusal(error as Error)) return false
      if (isUnstorable(error as Error)) return error as Error
      throw error
    }
  }

  #byServer (keys: readonly string[]): Map<MemcachedServer, readonly string[]> {
    if (this.count === 1) return new Map(keys.length === 0 ? [] : [[this.#servers[0], keys]])
    return groupBy(keys, key => this.serverOf(key))
  }
}

/** FNV-1a. */
function hash (text: string): number {
  let hashed = 0x811c9dc5
  for (let i = 0; i < text.length; i++) hashed = Math.imul(hashed ^ text.charCodeAt(i), 0x01000193)
  return hashed
}

/** MurmurHash's last steps: numbers that are close come out far apart. */
function mix (hashed: number): number {
  hashed = Math.imul(hashed ^ (hashed >>> 16), 0x85ebca6b)
  hashed = Math.imul(hashed ^ (hashed >>> 13), 0xc2b2ae35)
  return (hashed ^ (hashed >>> 16)) >>> 0
}
