import { once } from 'node:events'
import { connect, createServer, type Server, type Socket } from 'node:net'
import { freePort, type Owner } from '../helpers/server-process.js'

/** A connection on its way. `holds`: how many hold back its bytes. */
interface Link { readonly client: Socket, readonly upstream: Socket, holds: number }

/**
 * The way from one process to one server, which can be interrupted. Interruptions add up: bytes pass when nobody holds
 * them back, and connections are taken when nobody cuts them.
 */
export class Proxy {
  readonly host = '127.0.0.1'
  port = 0
  readonly #serverPort: number
  readonly #links = new Set<Link>()
  #listener: Server | undefined
  #holds = 0
  #cuts = 0

  private constructor (serverPort: number) {
    this.#serverPort = serverPort
  }

  static async start (t: Owner, serverPort: number): Promise<Proxy> {
    const proxy = new Proxy(serverPort)
    t.teardown(() => proxy.#close())
    for (;;) {
      proxy.port = await freePort()
      try {
        await proxy.#listen()
        return proxy
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'EADDRINUSE') throw error
      }
    }
  }

  /** Silence: from now on what comes is held back, both ways; new connections seem to be made. */
  hold (): void {
    this.#holds++
    for (const link of this.#links) hold(link)
  }

  /** What was held back arrives. */
  release (): void {
    this.#holds--
    for (const link of this.#links) release(link)
  }

  /** The same for one connection, if there is any: `which` says for which one. Returns the end of it. */
  stall (which: number): () => void {
    const links = [...this.#links]
    const link = links[which % links.length]
    if (link === undefined) return () => {}
    hold(link)
    return () => release(link)
  }

  /** Ends all connections with a reset. What was held back is lost. */
  drop (): void {
    const links = [...this.#links]
    this.#links.clear()
    for (const { client, upstream } of links) {
      for (const socket of [client, upstream]) {
        // One that is ending can't be reset any more: Node would keep its handle for ever.
        if (socket.writableEnded) socket.destroy()
        else socket.resetAndDestroy()
      }
    }
  }

  /** Resets all connections and refuses new ones. */
  cut (): void {
    this.#cuts++
    this.#close()
  }

  async restore (): Promise<void> {
    if (--this.#cuts > 0) return
    await this.#listen()
  }

  async #listen (): Promise<void> {
    const listener = createServer({ noDelay: true }, client => this.#link(client))
    listener.listen(this.port, this.host)
    await once(listener, 'listening')
    this.#listener = listener
  }

  #close (): void {
    this.#listener?.close()
    this.#listener = undefined
    this.drop()
  }

  #link (client: Socket): void {
    if (this.#listener === undefined) {
      client.resetAndDestroy()
      return
    }
    const upstream = connect({ port: this.#serverPort, host: this.host, noDelay: true })
    const link = { client, upstream, holds: 0 }
    this.#links.add(link)
    for (const [from, to] of [[client, upstream], [upstream, client]] as const) {
      from.on('data', bytes => to.write(bytes))
      from.on('error', () => {})
      from.on('end', () => to.end())
      from.on('close', () => { if (this.#links.delete(link)) to.destroy() })
    }
    for (let i = 0; i < this.#holds; i++) hold(link)
  }
}

function hold (link: Link): void {
  link.holds++
  link.client.pause()
  link.upstream.pause()
}

function release (link: Link): void {
  if (--link.holds > 0) return
  link.client.resume()
  link.upstream.resume()
}
