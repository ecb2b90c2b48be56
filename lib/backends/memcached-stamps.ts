import { formatStamp, parseStamp, type Stamp } from '../stamp.js'
import { withTimeout } from '../with-timeout.js'
import { never } from './memcached-protocol.js'
import type { Item } from './memcached-server.js'
import type { MemcachedShards } from './memcached-shards.js'

/** `fresh` is what a lost stamp starts from. */
export type StampChange = (stamp: Stamp, fresh: Stamp) => Stamp

/** Attempts at a change that other processes make at the same moment; each time one of them succeeds. */
const mostAttempts = 100
/** How long a change waits for an earlier one, which the client gives up after five seconds. Milliseconds. */
const longestWait = 10_000

/** Undefined where there is none, or something that is none of ours. */
export const stampIn = (item: Item | undefined): Stamp | undefined => item === undefined ? undefined : parseStamp(item.value.toString('latin1'))

/**
 * Changes stamps by `cas`, of each stamp one change at a time in this process. Those that come meanwhile are made together by
 * the next one: they must not count as made by one that began before them.
 */
export class MemcachedStamps {
  readonly #shards: MemcachedShards
  /** The change of each key that is under way. */
  readonly #running = new Map<string, Promise<void>>()
  /** The changes of each key that are made together when that is over. */
  readonly #next = new Map<string, { readonly changes: StampChange[], readonly done: Promise<void> }>()

  constructor (shards: MemcachedShards) {
    this.#shards = shards
  }

  /** `stamp` takes the place of one that was lost. */
  change (key: string, stamp: string, change: StampChange): Promise<void> {
    const next = this.#next.get(key)
    if (next !== undefined) {
      next.changes.push(change)
      return next.done
    }
    const changes = [change]
    const running = this.#running.get(key)
    const turn = running === undefined ? Promise.resolve() : withTimeout(longestWait, running, 'an earlier change of the stamp').catch(() => {})
    const done = turn
      .then(() => {
        this.#next.delete(key)
        return this.#changeNow(key, stamp, changes)
      })
      .finally(() => { if (this.#running.get(key) === done) this.#running.delete(key) })
    this.#next.set(key, { changes, done })
    this.#running.set(key, done)
    return done
  }

  async #changeNow (key: string, stamp: string, changes: readonly StampChange[]): Promise<void> {
    const fresh = parseStamp(stamp)!
    for (let attempt = 0; attempt < mostAttempts; attempt++) {
      const [item] = await this.#shards.gets([key])
      const changed = Buffer.from(formatStamp(changes.reduce((current, change) => change(current, fresh), stampIn(item) ?? fresh)))
      const stored = item === undefined ? await this.#shards.add(key, changed, never) : await this.#shards.cas(key, changed, never, item.unique)
      if (stored === true) return
      // No room for it: without a stamp nothing of the region is believed, which is more than any change asks for.
      if (stored instanceof Error) return await this.#shards.deleteMany([key])
    }
    throw new Error(`the stamp was changed by others ${mostAttempts} times`)
  }
}
