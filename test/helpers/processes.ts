import { fork, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { dyingWithUs, type Owner } from './server-process.js'

/** What a child process answers to: a name, one argument, a result. All of it passes a structured clone. */
export type Handlers = Record<string, (arg: any) => unknown>

export interface Worker<H extends Handlers = Handlers> {
  readonly pid: number
  /** Runs a handler over there. Its error is thrown here, with its name, message, code and stack. */
  call<N extends keyof H & string> (name: N, ...arg: Parameters<H[N]>): Promise<Awaited<ReturnType<H[N]>>>
  /** Resolves when it is gone. Calls that it has not answered reject. */
  kill (signal?: NodeJS.Signals): Promise<void>
  /** As if it hung: SIGSTOP, until `resume()`. */
  pause (): void
  resume (): void
}

interface Request { id: number, name: string, args: unknown[] }
type Reply = { id: number, result: unknown } | { id: number, error: CarriedError }
interface CarriedError { name: string, message: string, stack?: string | undefined, code?: unknown }

/**
 * Starts `count` processes from a TypeScript module that calls `serve()`, and resolves when all of them serve. They end
 * with the test, and with this process however it ends.
 *
 *     const [a, b] = await startProcesses<FillHandlers>(t, new URL('./fill.worker.ts', import.meta.url), 2)
 *     await a.call('fill', { key: 'k' })
 */
export async function startProcesses<H extends Handlers = Handlers> (t: Owner, module: URL, count: 2, env?: NodeJS.ProcessEnv): Promise<[Worker<H>, Worker<H>]>
export async function startProcesses<H extends Handlers = Handlers> (t: Owner, module: URL, count: 3, env?: NodeJS.ProcessEnv): Promise<[Worker<H>, Worker<H>, Worker<H>]>
export async function startProcesses<H extends Handlers = Handlers> (t: Owner, module: URL, count: number, env?: NodeJS.ProcessEnv): Promise<Array<Worker<H>>>
export async function startProcesses<H extends Handlers> (t: Owner, module: URL, count: number, env: NodeJS.ProcessEnv = {}): Promise<Array<Worker<H>>> {
  return await Promise.all(Array.from({ length: count }, async () => await startProcess<H>(t, module, env)))
}

export async function startProcess<H extends Handlers = Handlers> (
  t: Owner,
  module: URL,
  env: NodeJS.ProcessEnv = {}
): Promise<Worker<H>> {
  const [execPath, ...execArgv] = await dyingWithUs([process.execPath, '--import', 'tsx'])
  const child = fork(fileURLToPath(module), [], {
    execPath,
    execArgv,
    cwd: fileURLToPath(new URL('../..', import.meta.url)),
    // Its code is compiled by another compiler than the test's: measured together, the coverage of both would be wrong.
    env: { ...process.env, ...env, _TAPJS_PROCESSINFO_COVERAGE_: '0' },
    serialization: 'advanced',
    // The test's own output is read by the runner: nobody else may write to it.
    stdio: ['ignore', 2, 2, 'ipc']
  })
  const worker = new ForkedWorker<H>(child)
  t.teardown(async () => await worker.kill())
  await worker.serving
  return worker
}

/** The child's side: answers calls until the parent is gone. */
export function serve (handlers: Handlers): void {
  process.on('message', ({ id, name, args }: Request) => {
    answer(handlers, name, args).then(
      result => send({ id, result }),
      (error: unknown) => send({ id, error: carried(error) })
    )
  })
  process.on('disconnect', () => process.exit())
  send({ id: 0, result: undefined })
}

async function answer (handlers: Handlers, name: string, args: unknown[]): Promise<unknown> {
  const handler = handlers[name]
  if (handler === undefined) throw new Error(`This process serves ${Object.keys(handlers).join(', ')}, not ${name}`)
  return await handler(args[0])
}

function send (reply: Reply): void {
  process.send?.(reply)
}

function carried (error: unknown): CarriedError {
  if (!(error instanceof Error)) return { name: 'Error', message: String(error) }
  const { name, message, stack, code } = error as NodeJS.ErrnoException
  return { name, message, stack, code }
}

class ForkedWorker<H extends Handlers> implements Worker<H> {
  readonly pid: number
  readonly serving: Promise<unknown>
  readonly #child: ChildProcess
  readonly #gone: Promise<unknown>
  readonly #calls = new Map<number, { resolve: (result: any) => void, reject: (error: Error) => void }>()
  #lastId = 0
  #ending: string | undefined

  constructor (child: ChildProcess) {
    this.#child = child
    this.pid = child.pid ?? -1
    this.#gone = once(child, 'exit')
    // Call number 0 is nobody's: its answer says that the child serves.
    this.serving = new Promise((resolve, reject) => this.#calls.set(0, { resolve, reject }))
    child.on('message', (reply: Reply) => {
      const call = this.#calls.get(reply.id)
      this.#calls.delete(reply.id)
      if ('error' in reply) call?.reject(Object.assign(new Error(reply.error.message), reply.error))
      else call?.resolve(reply.result)
    })
    child.once('exit', (code, signal) => {
      this.#ending = `process ${this.pid} ended with ${signal ?? `exit code ${code}`}`
      for (const { reject } of this.#calls.values()) reject(new Error(this.#ending))
      this.#calls.clear()
    })
  }

  async call<N extends keyof H & string> (name: N, ...args: Parameters<H[N]>): Promise<Awaited<ReturnType<H[N]>>> {
    if (this.#ending !== undefined) throw new Error(this.#ending)
    const id = ++this.#lastId
    return await new Promise((resolve, reject) => {
      this.#calls.set(id, { resolve, reject })
      this.#child.send({ id, name, args }, error => { if (error !== null) reject(error) })
    })
  }

  async kill (signal: NodeJS.Signals = 'SIGKILL'): Promise<void> {
    if (this.#ending !== undefined) return
    this.#child.kill(signal)
    // One that is stopped only hears of it when it goes on.
    this.#child.kill('SIGCONT')
    await this.#gone
  }

  pause (): void {
    this.#child.kill('SIGSTOP')
  }

  resume (): void {
    this.#child.kill('SIGCONT')
  }
}
