import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { startProcess, type Worker } from '../helpers/processes.js'
import type { Owner } from '../helpers/server-process.js'
import type { Victim } from './faults.js'
import type { TortureOptions } from './options.js'
import type { Author } from './oracle.js'
import type { LastRead, Setting } from './setting.js'
import type { TortureHandlers } from './worker.js'
import type { World } from './world.js'

export interface VictimsOptions extends TortureOptions {
  readonly world: World
  readonly database: string
  readonly folder: string
}

/** The log of one life of a process. */
export interface Log { readonly by: Author, readonly path: string }

/** What a process found when all was over. */
export interface Found extends LastRead { readonly worker: number }

/** A process and its successors. */
class Process implements Victim {
  life = -1
  readonly #index: number
  readonly #t: Owner
  readonly #options: VictimsOptions
  readonly #logs: Log[]
  readonly #died: string[]
  #worker: Worker<TortureHandlers> | undefined
  #running: Promise<void> = Promise.resolve()
  /** Of one that died by itself: until it is over, there is nobody to be killed or stopped. */
  #succession: Promise<void> = Promise.resolve()
  #killed = false
  #stopping = false

  constructor (t: Owner, index: number, options: VictimsOptions, logs: Log[], died: string[]) {
    this.#t = t
    this.#index = index
    this.#options = options
    this.#logs = logs
    this.#died = died
  }

  /** Resolves when it is at work. */
  async start (): Promise<void> {
    await this.begin()
    this.#run(this.#worker!)
  }

  /** Connected, but idle. */
  async begin (): Promise<void> {
    const { world, database, folder, seed, processes, memory, rows, slow, subject, build } = this.#options
    this.life++
    this.#killed = false
    const log = join(folder, `${this.#index}-${this.life}.log`)
    const worker = this.#worker = await startProcess<TortureHandlers>(this.#t, new URL('./worker.ts', import.meta.url))
    await worker.call('begin', {
      seed,
      processes,
      memory,
      rows,
      slow,
      subject,
      build,
      worker: this.#index,
      life: this.life,
      connections: world.connections(this.#index % processes),
      database,
      log
    } satisfies Setting)
    this.#logs.push({ by: { worker: this.#index, life: this.life }, path: log })
  }

  #run (worker: Worker<TortureHandlers>): void {
    this.#running = worker.call('run').catch(async (error: Error) => {
      if (this.#killed || worker !== this.#worker) return
      // Nobody has killed it.
      this.#died.push(`process ${this.#index}: ${error.message}`)
      if (!this.#stopping) await (this.#succession = this.#succeed(worker))
    })
  }

  /** Where only one of its readers has failed, the others go on: it ends before another one takes its place. */
  async #succeed (worker: Worker<TortureHandlers>): Promise<void> {
    await worker.kill()
    await this.start()
  }

  async kill (): Promise<void> {
    await this.#succession
    this.#killed = true
    await this.#worker!.kill()
  }

  pause (): void {
    this.#worker!.pause()
  }

  resume (): void {
    this.#worker!.resume()
  }

  /** Resolves to what is still waited for after `longest` milliseconds. */
  async stop (longest: number): Promise<string[]> {
    this.#stopping = true
    await this.#succession
    await this.#worker!.call('stop')
    const late = await Promise.race([this.#running.then(() => false), pause(longest, true, { ref: false })])
    return late ? (await this.#worker!.call('hanging')).map(what => `process ${this.#index}.${this.life}: ${what}`) : []
  }

  async readAll (): Promise<Found[]> {
    return (await this.#worker!.call('readAll')).map(read => ({ ...read, worker: this.#index }))
  }
}

/** The processes of a run. */
export class Victims {
  readonly all: readonly Process[]
  readonly logs: Log[]
  /** Those that ended without being killed. */
  readonly died: string[]
  readonly #witness: Process

  private constructor (all: readonly Process[], witness: Process, logs: Log[], died: string[]) {
    this.all = all
    this.#witness = witness
    this.logs = logs
    this.died = died
  }

  static async start (t: Owner, options: VictimsOptions): Promise<Victims> {
    const logs: Log[] = []
    const died: string[] = []
    const all = Array.from({ length: options.processes }, (_, index) => new Process(t, index, options, logs, died))
    const witness = new Process(t, options.processes, options, [], died)
    await Promise.all(all.map(async process => await process.start()))
    return new Victims(all, witness, logs, died)
  }

  lived ({ worker, life }: Author): boolean {
    return this.all[worker]!.life === life
  }

  async stop (longest: number): Promise<string[]> {
    const hanging = await Promise.all(this.all.map(async process => await process.stop(longest)))
    await this.#witness.begin()
    return hanging.flat()
  }

  /** What all of them find, and one that was not there before. */
  async readAll (): Promise<Found[]> {
    return (await Promise.all([...this.all, this.#witness].map(async process => await process.readAll()))).flat()
  }

  async end (): Promise<void> {
    await Promise.all([...this.all, this.#witness].map(async process => await process.kill()))
  }
}
