import { Breaker } from '../breaker.js'
import type { Logger } from '../logger.js'
import { isForeignValue, isReply } from './memcached-protocol.js'

/** The part of memcache-client's `MemcacheClient` that is called here. */
export interface MemcachedLike {
  readonly options: { readonly server: unknown }
  /** Bytes that the server answers once: other commands may stand before the last one, as long as they are 'noreply'. */
  send (data: string | Buffer): Promise<unknown>
}

/** What a server has under a key. `unique` is memcached's `cas unique`: another number after every change. */
export interface Item { readonly value: Buffer, readonly unique: string }

/**
 * One client, which talks to one server over one or more connections. As soon as it is told how long it may wait, a
 * server that is away is left alone for a while, and probed.
 */
export class MemcachedServer {
  readonly address: string
  readonly #client: MemcachedLike
  #breaker: Breaker | undefined
  #logger: Logger | undefined

  constructor (client: MemcachedLike, address: string) {
    this.#client = client
    this.address = address
  }

  allow (milliseconds: number, logger = this.#logger): void {
    this.#logger = logger
    this.#breaker ??= new Breaker({
      name: `memcached at ${this.address}`,
      timeout: milliseconds,
      logger: {
        info: (details, message) => this.#logger?.info(details, message),
        warn: (details, message) => this.#logger?.warn(details, message)
      }
    })
    this.#breaker.raiseTimeout(milliseconds)
  }

  async send (data: string | Buffer): Promise<unknown> {
    if (this.#breaker === undefined) return await this.#client.send(data)
    const reply = await this.#breaker.run(() => this.#replyTo(data))
    if (reply instanceof Error) throw reply
    return reply
  }

  /** Resolves to an error that is, or was made of, the server's reply: to the breaker that is a success. */
  async #replyTo (data: string | Buffer): Promise<unknown> {
    try {
      return await this.#client.send(data)
    } catch (error) {
      if (isReply(error as Error) || isForeignValue(error as Error)) return error
      throw error
    }
  }

  /** Sends `before` ahead of the question, in the same bytes. */
  async gets (keys: readonly string[], before: readonly Buffer[]): Promise<Map<string, Item>> {
    const command = Buffer.from(`gets ${keys.join(' ')}\r\n`)
    try {
      const found = await this.send(before.length === 0 ? command : Buffer.concat([...before, command])) as Record<string, { value: unknown, casUniq: string }>
      return new Map(Object.entries(found).map(([key, { value, casUniq }]) => {
        if (casUniq === '0') throw new Error(`memcached at ${this.address} was started with -C: nothing can be compared and swapped`)
        return [key, { value: Buffer.isBuffer(value) ? value : Buffer.from(String(value)), unique: casUniq }]
      }))
    } catch (error) {
      if (!isForeignValue(error as Error)) throw error
      return await this.#getsWithoutForeign(keys)
    }
  }

  /** Asks for each key by itself, and deletes what the client can't unpack. */
  async #getsWithoutForeign (keys: readonly string[]): Promise<Map<string, Item>> {
    if (keys.length > 1) {
      const found = await Promise.all(keys.map(key => this.gets([key], [])))
      return new Map(found.flatMap(one => [...one]))
    }
    await this.delete(keys)
    return new Map()
  }

  /** One command for each key, one answer for all of them. */
  async delete (keys: readonly string[]): Promise<void> {
    const others = keys.slice(0, -1).map(key => `delete ${key} noreply\r\n`).join('')
    try {
      await this.send(`${others}delete ${keys.at(-1)}\r\n`)
    } catch (error) {
      if ((error as Error).message !== 'NOT_FOUND') throw error
    }
  }
}
