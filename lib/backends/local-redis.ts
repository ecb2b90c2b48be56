import { assertObject, namesOf } from '../checks.js'
import { InvalidOptionsError, show } from '../errors.js'
import { withTimeout } from '../with-timeout.js'
import type { Backend, BackendEntry, OpeningBackend } from './backend.js'
import { redis } from './redis.js'
import type { RedisLike } from './redis-client.js'

export interface LocalRedisOptions {
  /** The server's port on 127.0.0.1. Default 6379. */
  port?: number
  /** The number of the database. Default 0. */
  db?: number
}

const optionNames = namesOf<LocalRedisOptions>({ port: true, db: true })

/** The part of ioredis that is called here. */
interface Library { Redis: new (options: object) => LocalClient }
interface LocalClient extends RedisLike {
  readonly stream: { unref (): void }
  connect (): Promise<void>
  quit (): Promise<unknown>
  disconnect (): void
  on (event: 'ready' | 'connect' | 'end', listener: () => void): unknown
  on (event: 'error', listener: (error: Error) => void): unknown
}

interface Connection {
  readonly client: LocalClient
  /** Rejects with the reason why there is no connection. */
  readonly backend: Promise<Backend>
}

/** Milliseconds in which the server has to answer what is under way, before the connection is cut. */
const longestQuit = 250

/**
 * The Redis server of this machine, connected to when it is first used. A connection that ended is made anew by the next
 * operation; an idle one doesn't keep the process alive. It needs ioredis: `npm install ioredis`.
 */
export function localRedis (options: LocalRedisOptions = {}): Backend {
  return new LocalRedisBackend(options)
}

export class LocalRedisBackend implements OpeningBackend {
  readonly name = 'redis'
  readonly #options: { readonly port: number, readonly db: number }
  readonly #import: () => Promise<Library>
  #library: Promise<Library> | undefined
  #connection: Connection | undefined

  constructor (options: LocalRedisOptions, load = (): Promise<unknown> => import('ioredis')) {
    assertObject(options, 'localRedis(options)', optionNames)
    const { port = 6379, db = 0 } = options as LocalRedisOptions
    if (!Number.isInteger(port) || port < 1 || port > 65_535) throw new InvalidOptionsError('localRedis(options).port', 'a port, such as 6379', show(port))
    if (!Number.isInteger(db) || db < 0) throw new InvalidOptionsError('localRedis(options).db', 'the number of a database, such as 0', show(db))
    this.#options = { port, db }
    this.#import = load as () => Promise<Library>
  }

  async getMany (keys: readonly string[]): Promise<(Uint8Array | undefined)[]> {
    return await (await this.#backend()).getMany(keys)
  }

  async setMany (entries: readonly BackendEntry[]): Promise<void> {
    await (await this.#backend()).setMany(entries)
  }

  async deleteMany (keys: readonly string[]): Promise<void> {
    await (await this.#backend()).deleteMany(keys)
  }

  /** Ends the connection, if there is one. The next operation opens another. */
  async close (): Promise<void> {
    const connection = this.#connection
    if (connection === undefined) return
    this.#connection = undefined
    try {
      await withTimeout(longestQuit, connection.client.quit(), this.name)
    } catch {
      connection.client.disconnect()
    }
  }

  /** @throws InvalidOptionsError where ioredis isn't installed */
  loadLibrary (): Promise<Library> {
    if (this.#library === undefined) {
      const library = this.#library = this.#import()
      library.catch(() => { this.#library = undefined })
    }
    return this.#library.catch((error: Error) => {
      throw new InvalidOptionsError('localRedis()', 'used where ioredis is installed (npm install ioredis)', error.message)
    })
  }

  async #backend (): Promise<Backend> {
    const library = await this.loadLibrary()
    this.#connection ??= this.#connect(library)
    return await this.#connection.backend
  }

  #connect ({ Redis }: Library): Connection {
    // Without retries: what can't be answered now is an error now, and the next operation connects anew.
    const client = new Redis({ host: '127.0.0.1', ...this.#options, lazyConnect: true, retryStrategy: () => null })
    let reason: Error | undefined
    client.on('error', error => { reason = error })
    client.on('connect', () => client.stream.unref())
    client.on('end', () => { if (this.#connection === connection) this.#connection = undefined })
    const backend = client.connect().then(
      () => redis(client),
      (error: Error) => { throw reason ?? error } // its own error only says that the connection is closed
    )
    const connection = { client, backend }
    return connection
  }
}
