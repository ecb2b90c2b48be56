import type { Line } from '../line.js'
import type { Logger } from '../logger.js'
import { withTimeout } from '../with-timeout.js'
import { parseNews, type News } from './news.js'

export interface NewsChannelOptions {
  /** Undefined: nothing is sent, and nothing is heard. */
  line: Pick<Line, 'publish' | 'listen'> | undefined
  channel: string
  /** How long one operation of the line may take. Milliseconds. */
  timeout: number
  logger: Pick<Logger, 'debug'>
}

/** Carries news between processes. A line that fails or is silent costs no more than the news: its listeners also poll. */
export class NewsChannel {
  readonly #options: NewsChannelOptions
  /** An earlier attempt to listen is still unanswered: the next one would only wait behind it. */
  #isDeaf = false

  constructor (options: NewsChannelOptions) {
    this.#options = options
  }

  /** Never rejects. */
  async publish (news: News): Promise<void> {
    const { line, channel, timeout, logger } = this.#options
    if (line === undefined) return
    try {
      await withTimeout(timeout, line.publish(channel, JSON.stringify(news)), 'the line')
    } catch (error) {
      logger.debug({ err: error }, 'those who wait could not be woken: they will look by themselves')
    }
  }

  /** Posts all news from now on. Resolves to what ends that, whether or not the line can be heard. Never rejects. */
  async listen (mailbox: Mailbox): Promise<() => void> {
    const { line, channel, timeout, logger } = this.#options
    if (line === undefined || this.#isDeaf) return () => {}
    const listening = line.listen(channel, message => {
      const news = parseNews(message)
      if (news !== undefined) mailbox.post(news)
    })
    try {
      return await withTimeout(timeout, listening, 'the line')
    } catch (error) {
      logger.debug({ err: error }, 'the line can not be heard: looking from time to time')
      this.#isDeaf = true
      void listening.then(stop => stop(), () => {}).finally(() => { this.#isDeaf = false })
      return () => {}
    }
  }
}

/** Keeps news until they are read. */
export class Mailbox {
  #news: News[] = []
  #wake: (() => void) | undefined

  post (news: News): void {
    this.#news.push(news)
    this.#wake?.()
  }

  /** All news since the last call, as soon as there are any; none after `ms` milliseconds. */
  async next (ms: number): Promise<News[]> {
    if (this.#news.length === 0) {
      await new Promise<void>(resolve => {
        const timer = setTimeout(resolve, ms)
        this.#wake = () => { clearTimeout(timer); resolve() }
      })
      this.#wake = undefined
    }
    const news = this.#news
    this.#news = []
    return news
  }
}
