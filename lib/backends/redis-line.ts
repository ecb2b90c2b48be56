import { inspect } from 'node:util'
import type { Line } from '../line.js'
import { withTimeout } from '../with-timeout.js'
import { assertConnected, type RedisLike } from './redis-client.js'

/** A `Redis`, which can be copied. */
interface ServerLike { duplicate (override: object): ConnectionLike }

/** A `Cluster`, and what it knows of its nodes. */
interface ClusterLike {
  spublish (channel: string, message: string): Promise<number>
  cluster (subcommand: 'KEYSLOT', key: string): Promise<number>
  /** The nodes of each slot: `host:port` of its master, then those of replicas. */
  readonly slots: readonly (readonly string[] | undefined)[]
  nodes (role: 'master'): readonly (ServerLike & { readonly options: { readonly host?: string, readonly port?: number } })[]
  refreshSlotsCache (done: () => void): void
}

/** The connection that listens: a duplicate of the client that was handed in, or of one of its nodes. */
interface ConnectionLike {
  connect (): Promise<void>
  exists (key: string): Promise<unknown>
  subscribe (channel: string): Promise<unknown>
  ssubscribe (channel: string): Promise<unknown>
  unsubscribe (channel: string): Promise<unknown>
  sunsubscribe (channel: string): Promise<unknown>
  ping (): Promise<unknown>
  on (event: 'message' | 'smessage', listener: (channel: string, message: string) => void): unknown
  on (event: 'error', listener: (error: Error) => void): unknown
  on (event: 'end' | 'moved', listener: () => void): unknown
  disconnect (): void
}

interface Listener {
  readonly hear: (message: string) => void
  readonly interrupted: () => void
  /** Settle `listen`. */
  readonly ready: () => void
  readonly refused: (error: unknown) => void
}

interface Channel {
  readonly listeners: Set<Listener>
  /** The connection that it was last subscribed over, perhaps lost since. Undefined: it was never subscribed. */
  subscribedOver: ConnectionLike | undefined
}

/** Milliseconds. */
const answerTimeout = 2000
/** The pause before the next attempt to connect. Milliseconds. */
const shortestPause = 20
const longestPause = 500

/** The client's own options, except that the line itself sees to failures and new attempts. */
const connectionOptions = {
  lazyConnect: true,
  keyPrefix: '',
  retryStrategy: null,
  reconnectOnError: null,
  sentinelCommandTimeout: answerTimeout
}

/**
 * Redis publish and subscribe. A channel is subscribed to for as long as it has listeners. All processes publish and
 * subscribe at the same server, so that all hear messages in the same order: in a Cluster at the master of one slot, by
 * sharded channels (Redis 7), since between the nodes of a Cluster messages overtake each other.
 */
export class RedisLine implements Line {
  readonly #client: RedisLike
  readonly #prefix: string
  readonly #channels = new Map<string, Channel>()
  /** Connecting, or connected. */
  #connection: ConnectionLike | undefined
  /** The same, once it is connected: channels can be subscribed to. */
  #open: ConnectionLike | undefined
  /** The slot of all channels, in a Cluster. */
  #slot: number | undefined
  /** A session lasts from one opening to the next close. Undefined while closed. */
  #session: { started: boolean } | undefined = { started: false }
  #pause = shortestPause
  #timer: NodeJS.Timeout | undefined

  constructor (client: RedisLike, prefix = '') {
    // Redis keeps channels apart neither by database nor by key prefix, and two applications that these keep apart must
    // not hear each other. The braces put all channels into one slot of a Cluster.
    const { db = 0, keyPrefix = '' } = client.options
    this.#client = client
    this.#prefix = `{line@${db}:${keyPrefix}${prefix}}`
  }

  async publish (channel: string, message: string): Promise<void> {
    const name = this.#prefix + channel
    assertConnected(this.#client)
    // The client adds its `keyPrefix` to the channel of SPUBLISH, but not to that of PUBLISH.
    if (this.#client.isCluster) await this.#cluster.spublish(name, message)
    else await this.#client.publish(name, message)
  }

  async listen (channel: string, hear: (message: string) => void, interrupted = () => {}): Promise<() => void> {
    if (this.#session === undefined) throw new Error('the line is closed')
    const name = this.#nameOf(channel)
    const entry = this.#channels.get(name) ?? this.#addChannel(name)
    return await new Promise((resolve, reject) => {
      const listener = { hear, interrupted, ready: () => resolve(() => this.#stopListening(name, entry, listener)), refused: reject }
      entry.listeners.add(listener)
      if (this.#open !== undefined && entry.subscribedOver === this.#open) listener.ready()
    })
  }

  /** Sends a PING on the connection that listens: its answer comes after all messages that were published before. */
  async catchUp (): Promise<void> {
    if (this.#open === undefined) throw new Error('the line is not open')
    await this.#open.ping()
  }

  reconnect (): void {
    if (this.#connection !== undefined) this.#dropConnection(this.#connection)
  }

  async close (): Promise<void> {
    this.#session = undefined
    clearTimeout(this.#timer)
    this.#connection?.disconnect()
    this.#connection = this.#open = undefined
    for (const [name, channel] of this.#channels) this.#rejectListeners(name, channel, new Error('the line is closed'))
  }

  reopen (): void {
    if (this.#session === undefined) this.#session = { started: false }
  }

  get #cluster (): ClusterLike {
    return this.#client as unknown as ClusterLike
  }

  #nameOf (channel: string): string {
    return this.#client.isCluster ? (this.#client.options.keyPrefix ?? '') + this.#prefix + channel : this.#prefix + channel
  }

  #addChannel (name: string): Channel {
    const channel: Channel = { listeners: new Set(), subscribedOver: undefined }
    this.#channels.set(name, channel)
    if (this.#open !== undefined) void this.#subscribe(this.#open, name, channel)
    const session = this.#session!
    if (!session.started) {
      session.started = true
      void this.#connect()
    }
    return channel
  }

  #stopListening (name: string, channel: Channel, listener: Listener): void {
    channel.listeners.delete(listener)
    if (channel.listeners.size > 0 || this.#channels.get(name) !== channel) return
    this.#channels.delete(name)
    // Without a connection there is no subscription.
    if (this.#open !== undefined) (this.#client.isCluster ? this.#open.sunsubscribe(name) : this.#open.unsubscribe(name)).catch(() => {})
  }

  async #connect (): Promise<void> {
    let connection: ConnectionLike | undefined
    const session = this.#session
    try {
      const made = connection = await this.#duplicate()
      if (this.#session !== session) return
      this.#connection = made
      this.#observe(made)
      await withTimeout(answerTimeout, made.connect(), 'the line')
      if (this.#connection !== made) return // lost in the meantime
      this.#open = made
      await Promise.all([...this.#channels].map(async ([name, channel]) => await this.#subscribe(made, name, channel)))
      if (this.#open === made) this.#pause = shortestPause
    } catch (error) {
      if (connection !== undefined) return this.#dropConnection(connection)
      if (this.#session !== session) return
      if (isPermanentError(error)) for (const [name, channel] of this.#channels) this.#rejectListeners(name, channel, error)
      this.#reconnectLater()
    }
  }

  #observe (connection: ConnectionLike): void {
    connection.on('error', () => {}) // 'end' follows
    connection.on('end', () => this.#dropConnection(connection))
    connection.on('moved', () => this.#dropConnection(connection)) // the slot has another master now
    connection.on(this.#client.isCluster ? 'smessage' : 'message', (name, message) => {
      const channel = this.#channels.get(name)
      // What a lost connection still brings would come after what was missed, or twice.
      if (this.#open === connection && channel !== undefined) notify(channel, listener => listener.hear(message))
    })
  }

  /** A connection to the server that all processes publish at, not open yet. */
  async #duplicate (): Promise<ConnectionLike> {
    if (!this.#client.isCluster) return (this.#client as unknown as ServerLike).duplicate(connectionOptions)
    const cluster = this.#cluster
    this.#slot ??= await withTimeout(answerTimeout, cluster.cluster('KEYSLOT', this.#nameOf('')), 'the cluster')
    // The client may not know the nodes yet; or, after a failover, still the old master, until one of its own commands fails.
    if (cluster.slots.length === 0 || this.#pause > shortestPause) {
      await withTimeout(answerTimeout, new Promise<void>(resolve => { cluster.refreshSlotsCache(() => resolve()) }), 'the cluster')
    }
    const master = cluster.slots[this.#slot]?.[0]
    const node = cluster.nodes('master').find(({ options: { host, port } }) => `${host}:${port}` === master)
    if (node === undefined) throw new Error('nobody knows the node of the line')
    return node.duplicate(connectionOptions)
  }

  async #subscribe (connection: ConnectionLike, name: string, channel: Channel): Promise<void> {
    try {
      await withTimeout(answerTimeout, this.#client.isCluster ? subscribeAtMaster(connection, name) : connection.subscribe(name), 'the line')
    } catch (error) {
      // A permanent error ends a new channel, but not one that was heard before: its listeners can't be told that it is over.
      // Any other error is temporary, as when the slot has moved or the server is busy or silent.
      if (isPermanentError(error) && channel.subscribedOver === undefined) this.#rejectListeners(name, channel, error)
      else this.#dropConnection(connection)
      return
    }
    if (this.#open !== connection) return // lost in the meantime
    const isBack = channel.subscribedOver !== undefined
    channel.subscribedOver = connection
    if (isBack) notify(channel, listener => listener.interrupted()) // what came while there was no connection is lost
    for (const { ready } of channel.listeners) ready()
  }

  #rejectListeners (name: string, channel: Channel, error: unknown): void {
    this.#channels.delete(name)
    for (const { refused } of channel.listeners) refused(error)
  }

  #dropConnection (connection: ConnectionLike): void {
    if (this.#connection !== connection) return
    this.#connection = this.#open = undefined
    connection.disconnect()
    for (const channel of this.#channels.values()) {
      if (channel.subscribedOver === connection) notify(channel, listener => listener.interrupted())
    }
    this.#reconnectLater()
  }

  #reconnectLater (): void {
    this.#timer = setTimeout(() => { void this.#connect() }, this.#pause)
    this.#timer.unref()
    this.#pause = Math.min(longestPause, 2 * this.#pause)
  }
}

/**
 * A replica accepts subscriptions too, and doesn't tell when it loses its master. But when asked for a key, it answers
 * MOVED. Any other error, such as that keys may not be read, says nothing about that.
 */
async function subscribeAtMaster (connection: ConnectionLike, channel: string): Promise<void> {
  const asked = connection.exists(channel).catch((error: Error) => { if (error.message.startsWith('MOVED ')) throw error })
  await Promise.all([asked, connection.ssubscribe(channel)])
}

/** One that throws keeps neither the others nor the line from going on; one that stops meanwhile is left out. */
function notify ({ listeners }: Channel, what: (listener: Listener) => void): void {
  for (const listener of [...listeners]) {
    try {
      if (listeners.has(listener)) what(listener)
    } catch (error) {
      process.emitWarning(`a listener of the line threw ${inspect(error)}`)
    }
  }
}

/** Whether the error lasts until the server is reconfigured, unlike those while a slot moves or a script runs. */
const isPermanentError = (error: unknown): boolean => /^(?:NOPERM|ERR) /.test((error as Error).message)
