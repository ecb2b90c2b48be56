import type { Line } from '../line.js'
import type { DogpileLock } from '../locks/lock.js'
import type { Logger } from '../logger.js'
import { Elections, type Election } from './elections.js'
import { Following, type Follower } from './following.js'
import { NewsChannel } from './news-channel.js'

export interface DogpileOptions {
  lock: DogpileLock
  /** Carries the news. Without one, followers look for results from time to time. */
  line: Pick<Line, 'publish' | 'listen'> | undefined
  /** The line's channel for these news. */
  channel: string
  /** How long a process that was elected, and is heard of no more, may hold the others up. Milliseconds. */
  ttl: number
  /** How long the others wait before they do the work themselves. Milliseconds. */
  wait: number
  /** How long one operation of the lock or the line may take. Milliseconds. */
  timeout: number
  /** How long a lock is renewed. Milliseconds. */
  renewFor: number
  logger: Logger
}

/**
 * Election: which process does a piece of work, and how the others learn that it is done. It knows names, and nothing of
 * caches. The idea is dogpile.cache's; that a message wakes those who wait, rather than the end of a lock, is ours.
 */
export class Dogpile {
  readonly #channel: NewsChannel
  readonly #elections: Elections
  readonly #poll: number
  readonly #wait: number

  constructor ({ lock, line, channel, ttl, wait, timeout, renewFor, logger }: DogpileOptions) {
    this.#poll = Math.min(250, Math.max(10, ttl / 20))
    this.#wait = wait
    this.#channel = new NewsChannel({ line, channel, timeout, logger })
    this.#elections = new Elections({
      lock,
      name: `the lock for ${channel}`,
      ttl: Math.max(1, ttl - 2 * this.#poll), // it ends early enough for a poll before `ttl` is over
      renewFor,
      timeout,
      publish: async news => await this.#channel.publish(news),
      logger
    })
  }

  /** See `Elections.hold`. Never rejects. */
  async elect (names: readonly string[]): Promise<Election> {
    return await this.#elections.hold(names)
  }

  /** Waits for the work of others. Resolves when each name was found, has failed, or was led here to its end. */
  async follow (names: readonly string[], follower: Follower): Promise<void> {
    await new Following(names, follower, { elections: this.#elections, channel: this.#channel, poll: this.#poll, wait: this.#wait }).run()
  }
}
