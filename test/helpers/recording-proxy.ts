import { once } from 'node:events'
import { connect, createServer, type Server, type Socket } from 'node:net'
import { freePort, type Owner } from './server-process.js'

/**
 * Stands between a client and a Redis or a memcached, counts what passes, and interrupts it.
 *
 *     const redis = await startRedis(t)
 *     const proxy = await recordingProxy(t, redis.port)
 *     const client = new Redis(proxy.port)
 */
export interface RecordingProxy {
  readonly host: string
  readonly port: number
  /**
   * How often a client had to wait: bursts of bytes to the server, on one connection, that the server then answered.
   * Commands that are written together are one burst; what the server sends unasked counts for nothing.
   */
  readonly roundTrips: number
  /** The commands' names, in lower case, in the order in which they passed. */
  readonly commands: readonly string[]
  /** The same with their arguments; a value that memcached stores is not among them. */
  readonly calls: ReadonlyArray<readonly string[]>
  readonly bytesToServer: number
  readonly bytesToClient: number
  /** Open connections. */
  readonly connections: number
  /** Forgets what was counted so far, not what it has of a command that is under way. */
  reset (): void
  /** Holds back what comes from now on, in one direction or in both; connections stay open and nothing is lost. */
  pause (direction?: 'requests' | 'replies' | 'both'): void
  /** Lets it go on, with what was held back. */
  resume (): void
  /** Destroys all connections and refuses new ones. */
  cut (): Promise<void>
  /** Takes connections again, on the same port. */
  restore (): Promise<void>
}

export async function recordingProxy (t: Owner, serverPort: number): Promise<RecordingProxy> {
  const proxy = new TcpProxy(serverPort)
  for (;;) {
    try {
      await proxy.listen(await freePort())
      break
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EADDRINUSE') throw error
    }
  }
  t.teardown(async () => await proxy.cut())
  return proxy
}

class TcpProxy implements RecordingProxy {
  readonly host = '127.0.0.1'
  port = 0
  roundTrips = 0
  calls: string[][] = []
  bytesToServer = 0
  bytesToClient = 0

  readonly #serverPort: number
  readonly #links = new Set<{ client: Socket, upstream: Socket }>()
  #listener: Server | undefined
  #paused = { requests: false, replies: false }

  constructor (serverPort: number) {
    this.#serverPort = serverPort
  }

  get commands (): string[] {
    return this.calls.map(([name = '']) => name)
  }

  get connections (): number {
    return this.#links.size
  }

  async listen (port: number): Promise<void> {
    const listener = createServer(client => this.#link(client))
    listener.listen(port, this.host)
    await once(listener, 'listening')
    this.#listener = listener
    this.port = port
  }

  reset (): void {
    this.roundTrips = this.bytesToServer = this.bytesToClient = 0
    this.calls = []
  }

  pause (direction: 'requests' | 'replies' | 'both' = 'both'): void {
    if (direction !== 'replies') this.#paused.requests = true
    if (direction !== 'requests') this.#paused.replies = true
    for (const link of this.#links) this.#hold(link)
  }

  resume (): void {
    this.#paused = { requests: false, replies: false }
    for (const { client, upstream } of this.#links) {
      client.resume()
      upstream.resume()
    }
  }

  async cut (): Promise<void> {
    const listener = this.#listener
    this.#listener = undefined
    // Refuse before destroying: a client that is quick to come back must not get in between.
    const closed = listener === undefined ? undefined : once(listener, 'close')
    listener?.close()
    for (const { client, upstream } of this.#links) {
      client.destroy()
      upstream.destroy()
    }
    await closed
  }

  async restore (): Promise<void> {
    if (this.#listener === undefined) await this.listen(this.port)
  }

  #link (client: Socket): void {
    const upstream = connect(this.#serverPort, this.host)
    const link = { client, upstream }
    const reader = new CommandReader()
    let unanswered = false
    this.#links.add(link)

    client.on('data', chunk => {
      unanswered = true
      this.bytesToServer += chunk.length
      this.calls.push(...reader.read(chunk))
      upstream.write(chunk)
    })
    upstream.on('data', chunk => {
      if (unanswered) this.roundTrips++
      unanswered = false
      this.bytesToClient += chunk.length
      client.write(chunk)
    })
    for (const [socket, other] of [[client, upstream], [upstream, client]] as const) {
      socket.setNoDelay(true)
      socket.on('error', () => {})
      socket.on('end', () => other.end())
      socket.on('close', () => {
        other.destroy()
        this.#links.delete(link)
      })
    }
    this.#hold(link)
  }

  #hold ({ client, upstream }: { client: Socket, upstream: Socket }): void {
    if (this.#paused.requests) client.pause()
    if (this.#paused.replies) upstream.pause()
  }
}

/** memcached's commands that a block of data follows, and which of their words is its length. */
const lengthAt: Readonly<Record<string, number>> = { set: 4, add: 4, replace: 4, append: 4, prepend: 4, cas: 4, ms: 2 }

/** Takes the commands out of a stream of bytes: Redis's arrays of strings, or the lines of memcached's text protocol. */
class CommandReader {
  #unread: Buffer = Buffer.alloc(0)
  #toSkip = 0
  #foreign = false

  read (chunk: Buffer): string[][] {
    if (this.#foreign) return []
    this.#unread = this.#unread.length === 0 ? chunk : Buffer.concat([this.#unread, chunk])
    const calls: string[][] = []
    for (;;) {
      const skipped = Math.min(this.#toSkip, this.#unread.length)
      this.#toSkip -= skipped
      this.#unread = this.#unread.subarray(skipped)
      // Another protocol, PostgreSQL's or TLS: its bytes are counted, its commands are not read.
      this.#foreign = (this.#unread[0] ?? 0x20) < 0x20
      if (this.#foreign) return calls
      const call = this.#unread[0] === 0x2a /* '*' */ ? this.#array() : this.#line()
      if (call === undefined) return calls
      const [name = '', ...rest] = call
      calls.push([name.toLowerCase(), ...rest])
    }
  }

  #array (): string[] | undefined {
    const head = this.#lineAt(0)
    if (head === undefined) return undefined
    const call: string[] = []
    let at = head.next
    for (let left = Number(head.text.slice(1)); left > 0; left--) {
      const length = this.#lineAt(at)
      if (length === undefined) return undefined
      const end = length.next + Number(length.text.slice(1))
      if (this.#unread.length < end + 2) return undefined
      call.push(this.#unread.toString('utf8', length.next, end))
      at = end + 2
    }
    this.#unread = this.#unread.subarray(at)
    return call
  }

  #line (): string[] | undefined {
    const line = this.#lineAt(0)
    if (line === undefined) return undefined
    this.#unread = this.#unread.subarray(line.next)
    const words = line.text.split(' ')
    const length = lengthAt[words[0] ?? '']
    if (length !== undefined) this.#toSkip = Number(words[length]) + 2
    return words
  }

  #lineAt (start: number): { text: string, next: number } | undefined {
    const end = this.#unread.indexOf('\r\n', start)
    return end === -1 ? undefined : { text: this.#unread.toString('utf8', start, end), next: end + 2 }
  }
}
