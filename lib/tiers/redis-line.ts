import { inspect } from 'node:util'
import type { Line } from '../line.js'
import { within } from '../within.js'
import { assertConnected, type RedisLike } from './redis-client.js'

/** A `Redis`, which can be copied. */
interface ServerLike { duplicate (override: object): ConnectionLike }

/** A `Cluster`, and what it knows of its nodes. */
interface ClusterLike {
  spublish (channel: string, message: string): Promise<number>
  cluster (subcommand: 'KEYSLOT', key: string): Promise<number>
  /** By slot: `host:port` of its master, then those of replicas. */
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
  /** These settle `listen`, and do nothing once it is settled. */
  readonly ready: () => void
  readonly refused: (error: unknown) => void
}

interface Channel {
  readonly listeners: Set<Listener>
  /** What it was subscribed over last, perhaps lost since. Without one nobody has heard it yet. */
  over: ConnectionLike | undefined
}

/** For an answer. Milliseconds. */
const patience = 2000
/** After a failure. Milliseconds. */
const shortestPause = 20
const longestPause = 500

/** How to connect is the client's to say. That it failed is seen here, and here it is tried again. */
const connectionOptions = {
  lazyConnect: true,
  keyPrefix: '',
  retryStrategy: null,
  reconnectOnError: null,
  sentinelCommandTimeout: patience
}

/**
 * Redis publish and subscribe. It subscribes to a channel for as long as somebody listens to it. Everybody publishes and
 * subscribes at the same server, so that messages have one order for all who hear them: in a Cluster at the master of
 * one slot, by sharded channels (Redis 7), since between the nodes of a Cluster messages overtake each other.
 */
export class RedisLine implements Line {
  readonly #client: RedisLike
  readonly #prefix: string
  readonly #channels = new Map<string, Channel>()
  #connection: ConnectionLike | undefined
  /** Connected; channels can be subscribed to. */
  #open: ConnectionLike | undefined
  /** Of a Cluster: all channels are in it. */
  #slot: number | undefined
  /** From one opening to the next close. */
  #life: { started: boolean } | undefined = { started: false }
  #pause = shortestPause
  #timer: NodeJS.Timeout | undefined

  constructor (client: RedisLike, prefix = '') {
    // Channels know no databases and no prefixes: two applications that these keep apart must not hear each other. The
    // braces put all of them into one slot of a Cluster.
    const { db = 0, keyPrefix = '' } = client.options
    this.#client = client
    this.#prefix = `{line@${db}:${keyPrefix}${prefix}}`
  }

  async publish (channel: string, message: string): Promise<void> {
    const name = this.#prefix + channel
    assertConnected(this.#client)
    // Commands of a cluster are prefixed by its client, channels of a server are not.
    if (this.#client.isCluster) await this.#cluster.spublish(name, message)
    else await this.#client.publish(name, message)
  }

  async listen (channel: string, hear: (message: string) => void, interrupted = () => {}): Promise<() => void> {
    if (this.#life === undefined) throw new Error('the line is closed')
    const name = this.#nameOf(channel)
    const entry = this.#channels.get(name) ?? this.#add(name)
    return await new Promise((resolve, reject) => {
      const listener = { hear, interrupted, ready: () => resolve(() => this.#stop(name, entry, listener)), refused: reject }
      entry.listeners.add(listener)
      if (this.#open !== undefined && entry.over === this.#open) listener.ready()
    })
  }

  /** On the connection that listens, where the answer comes after all messages that were published before. */
  async catchUp (): Promise<void> {
    if (this.#open === undefined) throw new Error('the line is not open')
    await this.#open.ping()
  }

  reconnect (): void {
    if (this.#connection !== undefined) this.#lose(this.#connection)
  }

  async close (): Promise<void> {
    this.#life = undefined
    clearTimeout(this.#timer)
    this.#connection?.disconnect()
    this.#connection = this.#open = undefined
    for (const [name, channel] of this.#channels) this.#refuse(name, channel, new Error('the line is closed'))
  }

  reopen (): void {
    if (this.#life === undefined) this.#life = { started: false }
  }

  get #cluster (): ClusterLike {
    return this.#client as unknown as ClusterLike
  }

  #nameOf (channel: string): string {
    return this.#client.isCluster ? (this.#client.options.keyPrefix ?? '') + this.#prefix + channel : this.#prefix + channel
  }

  #add (name: string): Channel {
    const channel: Channel = { listeners: new Set(), over: undefined }
    this.#channels.set(name, channel)
    if (this.#open !== undefined) void this.#subscribe(this.#open, name, channel)
    const life = this.#life!
    if (!life.started) {
      life.started = true
      void this.#connect()
    }
    return channel
  }

  #stop (name: string, channel: Channel, listener: Listener): void {
    channel.listeners.delete(listener)
    if (channel.listeners.size > 0 || this.#channels.get(name) !== channel) return
    this.#channels.delete(name)
    // A lost connection has unsubscribed already.
    if (this.#open !== undefined) (this.#client.isCluster ? this.#open.sunsubscribe(name) : this.#open.unsubscribe(name)).catch(() => {})
  }

  async #connect (): Promise<void> {
    let connection: ConnectionLike | undefined
    const life = this.#life
    try {
      const made = connection = await this.#duplicate()
      if (this.#life !== life) return
      this.#connection = made
      made.on('error', () => {}) // it ends then
      made.on('end', () => this.#lose(made))
      made.on('moved', () => this.#lose(made)) // the slot has another master now
      made.on(this.#client.isCluster ? 'smessage' : 'message', (name, message) => {
        const channel = this.#channels.get(name)
        // What a lost connection still brings would come after what was missed, or twice.
        if (this.#open === made && channel !== undefined) tell(channel, listener => listener.hear(message))
      })
      await within(patience, made.connect(), 'the line')
      if (this.#connection !== made) return // lost in the meantime
      this.#open = made
      await Promise.all([...this.#channels].map(async ([name, channel]) => await this.#subscribe(made, name, channel)))
      if (this.#open === made) this.#pause = shortestPause
    } catch (error) {
      if (connection !== undefined) return this.#lose(connection)
      if (this.#life !== life) return
      if (isRefusal(error)) for (const [name, channel] of this.#channels) this.#refuse(name, channel, error)
      this.#later()
    }
  }

  /** A connection to where everybody publishes, not open yet. */
  async #duplicate (): Promise<ConnectionLike> {
    if (!this.#client.isCluster) return (this.#client as unknown as ServerLike).duplicate(connectionOptions)
    const cluster = this.#cluster
    this.#slot ??= await within(patience, cluster.cluster('KEYSLOT', this.#nameOf('')), 'the cluster')
    // It may not know its nodes yet. After a failure another one may be the master, which a client learns when a command
    // of its own fails.
    if (cluster.slots.length === 0 || this.#pause > shortestPause) {
      await within(patience, new Promise<void>(resolve => { cluster.refreshSlotsCache(() => resolve()) }), 'the cluster')
    }
    const master = cluster.slots[this.#slot]?.[0]
    const node = cluster.nodes('master').find(({ options: { host, port } }) => `${host}:${port}` === master)
    if (node === undefined) throw new Error('nobody knows the node of the line')
    return node.duplicate(connectionOptions)
  }

  async #subscribe (connection: ConnectionLike, name: string, channel: Channel): Promise<void> {
    try {
      await within(patience, this.#client.isCluster ? subscribeAtMaster(connection, name) : connection.subscribe(name), 'the line')
    } catch (error) {
      // For now: the slot has moved, the server is busy or silent. It is for now as well where it was heard before:
      // whoever relies on that can't be told that it is over.
      if (isRefusal(error) && channel.over === undefined) this.#refuse(name, channel, error)
      else this.#lose(connection)
      return
    }
    if (this.#open !== connection) return // lost in the meantime
    const isBack = channel.over !== undefined
    channel.over = connection
    if (isBack) tell(channel, listener => listener.interrupted()) // what came while there was no connection is lost
    for (const { ready } of channel.listeners) ready()
  }

  #refuse (name: string, channel: Channel, error: unknown): void {
    this.#channels.delete(name)
    for (const { refused } of channel.listeners) refused(error)
  }

  #lose (connection: ConnectionLike): void {
    if (this.#connection !== connection) return
    this.#connection = this.#open = undefined
    connection.disconnect()
    for (const channel of this.#channels.values()) {
      if (channel.over === connection) tell(channel, listener => listener.interrupted())
    }
    this.#later()
  }

  #later (): void {
    this.#timer = setTimeout(() => { void this.#connect() }, this.#pause)
    this.#timer.unref()
    this.#pause = Math.min(longestPause, 2 * this.#pause)
  }
}

/**
 * A replica takes subscriptions too, and doesn't tell when it loses its master. Asked for a key it says MOVED. Any other
 * answer, such as that keys may not be read, says nothing about it.
 */
async function subscribeAtMaster (connection: ConnectionLike, channel: string): Promise<void> {
  const asked = connection.exists(channel).catch((error: Error) => { if (error.message.startsWith('MOVED ')) throw error })
  await Promise.all([asked, connection.ssubscribe(channel)])
}

/** One who throws keeps nobody else from hearing, and the line from nothing; one who stops meanwhile is left out. */
function tell ({ listeners }: Channel, what: (listener: Listener) => void): void {
  for (const listener of [...listeners]) {
    try {
      if (listeners.has(listener)) what(listener)
    } catch (error) {
      process.emitWarning(`a listener of the line threw ${inspect(error)}`)
    }
  }
}

/** Not for now, as what is answered while a slot moves or a script runs, but until somebody changes the server. */
const isRefusal = (error: unknown): boolean => /^(?:NOPERM|ERR) /.test((error as Error).message)
