import { setImmediate as turn, setTimeout as pause } from 'node:timers/promises'
import { serve } from '../helpers/processes.js'
import { now } from './clock.js'
import { Database } from './database.js'
import { ErrorCodes } from './error-codes.js'
import { Layout, type Kind, type RegionName } from './layout.js'
import { LogWriter } from './log.js'
import { ours, oursPlain } from './ours.js'
import { OwnRows } from './own-rows.js'
import { peer } from './peers.js'
import { Random } from './random.js'
import type { LastRead, Setting } from './setting.js'
import { LoaderError, type ReadOperation, type Subject, type WriteOperation } from './subject.js'
import { isSet } from './ways.js'

/** Concurrent readers and writers of a process. */
const readers = 40
const writers = 3
/** Of what is written and is not set. */
const othersShare = 0.2
/** Of all rows, the first ones: half of all reads and writes are about them. */
const hotShare = 1 / 8
const flushEvery = 50

/** Reads and writes at random until it is told to stop, and keeps a log of it. */
class Load {
  readonly #setting: Setting
  readonly #layout: Layout
  readonly #database: Database
  readonly #log: LogWriter
  readonly #errors: ErrorCodes
  readonly #random: Random
  readonly #rows: OwnRows
  /** Owned rows that are being written. */
  readonly #busy = new Set<number>()
  /** What every reader and writer is at, by its number. */
  readonly #underWay = new Map<number, string>()
  #subject!: Subject
  #stopped = false

  constructor (setting: Setting) {
    this.#setting = setting
    this.#layout = new Layout(setting.rows)
    this.#database = new Database(setting.database)
    this.#log = new LogWriter(setting.log)
    this.#errors = new ErrorCodes(setting.log)
    this.#random = new Random(setting.seed, setting.worker, setting.life)
    this.#rows = new OwnRows(setting)
  }

  async begin (): Promise<void> {
    const { connections, memory, build, subject } = this.#setting
    const options = {
      connections,
      memory,
      build,
      random: this.#random,
      database: {
        byIds: async (ids: readonly number[]) => await this.#slowly(async () => await this.#database.byIds(ids)),
        byName: async (name: string) => await this.#slowly(async () => await this.#database.byName(name))
      }
    }
    this.#subject = await (subject === 'ours' ? ours(options) : subject === 'ours, plain' ? oursPlain(options) : peer(subject, options))
  }

  /** Resolves, after `stop`, when nothing is under way any more. */
  async run (): Promise<void> {
    const flushing = setInterval(() => this.#log.flush(), flushEvery)
    await Promise.all([
      ...Array.from({ length: readers }, async (_, i) => await this.#loop(async () => await this.#read(i))),
      ...Array.from({ length: writers }, async (_, i) => await this.#loop(async () => await this.#write(readers + i)))
    ])
    clearInterval(flushing)
    this.#log.flush()
  }

  /** What readers and writers are still waiting for. */
  get hanging (): string[] {
    return [...this.#underWay.values()]
  }

  stop (): void {
    this.#stopped = true
  }

  async #under (number: number, what: string, work: Promise<void>): Promise<void> {
    this.#underWay.set(number, what)
    await work
    this.#underWay.delete(number)
  }

  async #loop (step: () => Promise<void>): Promise<void> {
    while (!this.#stopped) await step()
  }

  // ─── reading ───────────────────────────────────────────────────────────────────────────────────

  async #read (reader: number): Promise<void> {
    const random = this.#random
    const operation = random.weighted(this.#subject.reads)
    const region = random.pick(this.#subject.regions)
    const kind = random.pick(operation.kinds)
    const ids = operation.many === true ? Array.from({ length: 1 + random.index(6) }, () => this.#row()) : [this.#row()]
    await this.#under(reader, `${operation.way} ${region}/${kind}/${ids.join()}`, this.#readOnce(operation, region, kind, ids))
    if (random.chance(0.5)) await turn()
    else await pause(random.chance(0.9) ? random.between(1, 5) : random.between(5, 40))
  }

  async #readOnce ({ way, run }: ReadOperation, region: RegionName, kind: Kind, ids: readonly number[]): Promise<void> {
    const cells = ids.map(id => this.#layout.number({ region, kind, id }))
    const began = now()
    try {
      const answers = await run(region, kind, ids)
      const ended = now()
      for (const [i, cell] of cells.entries()) this.#log.write({ what: 'read', way, cell, ...answers[i]!, began, ended })
    } catch (error) {
      this.#log.write({ what: 'failure', way, cell: cells[0]!, error: this.#errors.numberOf(error), began, ended: now() })
    }
  }

  /** The key that is being forgotten, or another one of its row: so that something is under way then. */
  #readBeside (region: RegionName, id: number): void {
    if (!this.#random.chance(0.3)) return
    const operation = this.#random.weighted(this.#subject.reads)
    void this.#readOnce(operation, region, this.#random.pick(operation.kinds), [id])
  }

  /** All cells, once; nothing for those that can't be read. */
  async readAll (): Promise<LastRead[]> {
    const reads: LastRead[] = []
    for (const region of this.#subject.regions) {
      for (const { way, kinds, run } of this.#subject.reads) {
        if (way === 'api.refresh') continue
        for (const kind of kinds) {
          await Promise.all(Array.from({ length: this.#setting.rows }, async (_, id) => {
            const [answer] = await Promise.race([run(region, kind, [id]).catch(() => []), pause(10_000, [])])
            reads.push({ cell: this.#layout.number({ region, kind, id }), way, version: answer?.version })
          }))
        }
      }
    }
    return reads
  }

  // ─── writing ───────────────────────────────────────────────────────────────────────────────────

  async #write (writer: number): Promise<void> {
    const random = this.#random
    const operation = random.weighted(this.#subject.writes)
    const region = random.pick(operation.regions ?? this.#subject.regions)
    const kind = random.pick(operation.kinds)
    const count = operation.many === true ? 1 + random.index(6) : 1
    const ids = isSet(operation.way)
      ? [this.#ownRow()]
      : [...new Set(Array.from({ length: count }, () => this.#rowToWrite()))]
    const owned = ids.filter(id => this.#rows.own.includes(id))
    if (owned.some(id => this.#busy.has(id))) return await turn()
    for (const id of owned) this.#busy.add(id)
    await this.#under(writer, `${operation.way} ${region}/${kind}/${ids.join()}`, this.#writeOnce(operation, region, kind, ids))
    for (const id of owned) this.#busy.delete(id)
    await pause(random.chance(0.8) ? random.between(2, 30) : random.between(30, 200))
  }

  async #writeOnce ({ way, run }: WriteOperation, region: RegionName, kind: Kind, ids: readonly number[]): Promise<void> {
    this.#readBeside(region, ids[0]!)
    const rows = await this.#database.raise(ids)
    const updated = now()
    if (this.#random.chance(0.3)) await pause(this.#random.between(0, 20))
    this.#readBeside(region, ids[0]!)
    const asked = now()
    if (isSet(way)) {
      for (const { id, version } of rows) this.#log.write({ what: 'write', way, outcome: 'begun', cell: this.#layout.number({ region, kind, id }), version, updated, asked, ended: Infinity })
      this.#log.flush()
    }
    const done = run(region, kind, rows).then(() => undefined, reason => this.#errors.numberOf(reason))
    this.#readBeside(region, ids[0]!)
    const error = await done
    const ended = now()
    this.#readBeside(region, ids[0]!)
    const outcome = error === undefined ? 'resolved' : error === this.#errors.pending ? 'pending' : 'failed'
    for (const { id, version } of rows) {
      this.#log.write({ what: 'write', way, outcome, cell: this.#layout.number({ region, kind, id }), version, updated, asked, ended })
      if (error !== undefined) this.#log.write({ what: 'failure', way, cell: this.#layout.number({ region, kind, id }), error, began: asked, ended })
    }
  }

  // ─── choosing, and loading ─────────────────────────────────────────────────────────────────────

  #row (): number {
    return this.#random.index(this.#random.chance(0.5) ? Math.ceil(hotShare * this.#setting.rows) : this.#setting.rows)
  }

  /** Of those that somebody sets, mostly one of its own. */
  #rowToWrite (): number {
    const id = this.#row()
    return id < this.#rows.first || this.#random.chance(othersShare) ? id : this.#ownRow()
  }

  #ownRow (): number {
    return this.#random.pick(this.#rows.own)
  }

  async #slowly<T> (load: () => Promise<T>): Promise<T> {
    await this.#delay()
    const loaded = await load()
    await this.#delay()
    if (this.#random.chance(0.005)) throw new LoaderError('the database is out of luck')
    return loaded
  }

  /** Mostly none, sometimes long. */
  async #delay (): Promise<void> {
    const random = this.#random
    const dice = random.next()
    if (dice < 0.6) return
    await pause(this.#setting.slow * (dice < 0.9 ? random.between(0, 10) : dice < 0.99 ? random.between(10, 80) : random.between(80, 500)))
  }
}

let load: Load

const handlers = {
  async begin (setting: Setting): Promise<void> {
    load = new Load(setting)
    await load.begin()
  },
  run: async (): Promise<void> => await load.run(),
  stop: (): void => load.stop(),
  hanging: (): string[] => load.hanging,
  readAll: async (): Promise<LastRead[]> => await load.readAll()
}
export type TortureHandlers = typeof handlers

serve(handlers)
