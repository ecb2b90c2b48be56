import { execFile, spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { rmSync } from 'node:fs'
import { chown, mkdtemp } from 'node:fs/promises'
import { connect, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { promisify } from 'node:util'
import type { Test } from 'tap'
import { which } from './programs.js'

/** The test that a server, a proxy or a process belongs to: they end when it does. */
export type Owner = Pick<Test, 'teardown'>

export interface ServerDefinition {
  program: string
  args: (port: number, folder: string) => readonly string[]
  /** True once this very process answers on that port: somebody else's server may sit there. */
  isReady: (port: number, pid: number, folder: string) => Promise<boolean>
  /** Run before the first start, in the folder that the server will have. */
  prepare?: (folder: string, as: Identity) => Promise<void>
  /** For programs that refuse to run as root: they run as `postgres` or `nobody` then. */
  notAsRoot?: boolean
  /** Ends it at once. Default SIGKILL. */
  killSignal?: NodeJS.Signals
}

export interface Identity { uid?: number, gid?: number }

const startTimeout = 30_000
const portAttempts = 20

/** What ends with this process however it ends; `teardown` has usually been there before. */
const leftovers = new Map<ServerProcess, string>()
process.once('exit', () => {
  for (const [server, folder] of leftovers) {
    server.signal('SIGKILL')
    rmSync(folder, { recursive: true, force: true })
  }
})

/** A real server in a temporary folder of its own, on a port that was free. */
export class ServerProcess {
  readonly port: number
  readonly #definition: ServerDefinition
  readonly #folder: string
  readonly #identity: Identity
  #child: ChildProcess | undefined
  #output = ''

  private constructor (definition: ServerDefinition, port: number, folder: string, identity: Identity) {
    this.#definition = definition
    this.#folder = folder
    this.#identity = identity
    this.port = port
  }

  /** Starts it and ends it with `t`. A port that somebody took in the meantime is exchanged for another one. */
  static async launch (t: Owner, definition: ServerDefinition): Promise<ServerProcess> {
    const identity = definition.notAsRoot === true && process.getuid?.() === 0 ? await unprivileged() : {}
    const folder = await mkdtemp(join(tmpdir(), 'fastify-caching-api-'))
    if (identity.uid !== undefined && identity.gid !== undefined) await chown(folder, identity.uid, identity.gid)
    t.teardown(() => rmSync(folder, { recursive: true, force: true }))
    await definition.prepare?.(folder, identity)

    for (let attempt = 1; ; attempt++) {
      const server = new ServerProcess(definition, await freePort(), folder, identity)
      try {
        await server.start()
      } catch (error) {
        if (attempt < portAttempts && /in use/i.test(String(error))) continue
        throw error
      }
      leftovers.set(server, folder)
      t.teardown(async () => {
        await server.kill()
        leftovers.delete(server)
      })
      return server
    }
  }

  /** On its port, after `stop()` or `kill()`. What it held in memory is gone. */
  async start (): Promise<void> {
    if (this.#child !== undefined) return
    const { program, args, isReady } = this.#definition
    const [command, ...rest] = await dyingWithUs([program, ...args(this.port, this.#folder)])
    const child = spawn(command, rest, {
      cwd: this.#folder,
      stdio: ['ignore', 'pipe', 'pipe'],
      ...this.#identity
    })
    this.#child = child
    this.#output = ''
    // Not 'exit': what it said last has been read only when its streams are closed.
    child.once('close', () => { this.#child = undefined })
    child.once('error', error => {
      this.#child = undefined
      this.#output += error.message
    })
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding('utf8').on('data', (text: string) => { this.#output = (this.#output + text).slice(-10_000) })
    }

    const deadline = performance.now() + startTimeout
    while (!await isReady(this.port, child.pid ?? -1, this.#folder)) {
      if (this.#child === undefined) throw new Error(`${program} ended while starting:\n${this.#output}`)
      if (performance.now() > deadline) {
        await this.kill()
        throw new Error(`${program} is not ready after ${startTimeout} ms:\n${this.#output}`)
      }
      await pause(10)
    }
  }

  /** Asks it to end, and resolves when it has: connections are closed in an orderly way. */
  async stop (): Promise<void> {
    await this.#end('SIGTERM')
  }

  /** Ends it at once. */
  async kill (): Promise<void> {
    await this.#end(this.#definition.killSignal ?? 'SIGKILL')
  }

  async restart (): Promise<void> {
    await this.stop()
    await this.start()
  }

  /** Still there, connections open, but silent, until `resume()`. */
  pause (): void {
    this.signal('SIGSTOP')
  }

  resume (): void {
    this.signal('SIGCONT')
  }

  signal (name: NodeJS.Signals): void {
    this.#child?.kill(name)
  }

  async #end (signal: NodeJS.Signals): Promise<void> {
    const child = this.#child
    if (child === undefined) return
    const ended = once(child, 'close')
    child.kill(signal)
    // One that is stopped only hears of it when it goes on.
    child.kill('SIGCONT')
    await ended
  }
}

/**
 * Below the range that systems take the ports of outgoing connections from: there, a client that tries to reconnect to
 * a server that is down can be given the server's own port, and is then connected to itself.
 */
export async function freePort (): Promise<number> {
  for (;;) {
    const port = 10_000 + Math.floor(Math.random() * 22_000)
    if (await canListen(port)) return port
  }
}

async function canListen (port: number): Promise<boolean> {
  const server = createServer()
  return await new Promise(resolve => {
    server.once('error', () => resolve(false))
    server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)))
  })
}

/** Sends one line and resolves to what comes back up to `end`, or to undefined where nothing of that kind comes. */
export async function ask (port: number, line: string, end: RegExp): Promise<string | undefined> {
  return await new Promise(resolve => {
    let answer = ''
    const socket = connect(port, '127.0.0.1', () => socket.write(`${line}\r\n`))
    socket.setEncoding('utf8').setTimeout(1_000, () => socket.destroy())
    socket.on('data', (text: string) => {
      answer += text
      if (end.test(answer)) socket.destroy()
    })
    socket.on('error', () => {})
    socket.on('close', () => resolve(end.test(answer) ? answer : undefined))
  })
}

/**
 * No hook runs in a test process that is killed. On Linux, the kernel is asked to end the server then; elsewhere a
 * server may outlive such a process.
 */
export async function dyingWithUs (command: readonly string[]): Promise<[string, ...string[]]> {
  const setpriv = process.platform === 'linux' ? await which('setpriv') : undefined
  const full = setpriv === undefined ? command : [setpriv, '--pdeathsig', 'KILL', '--', ...command]
  return full as [string, ...string[]]
}

async function unprivileged (): Promise<Identity> {
  const run = promisify(execFile)
  for (const name of ['postgres', 'nobody']) {
    try {
      const [uid, gid] = await Promise.all(['-u', '-g'].map(async flag => Number((await run('id', [flag, name])).stdout)))
      if (uid !== undefined && gid !== undefined) return { uid, gid }
    } catch {}
  }
  throw new Error('There is neither a user postgres nor a user nobody to run the server as: it refuses to run as root')
}
