import { memory } from '../../lib/backends/memory.js'
import type { Backend, LocalBackend } from '../../lib/backends/backend.js'
import { cachedObject, loadMany, loadOne, type AnyCachedObject } from '../../lib/cached-object.js'
import type { CachingApi } from '../../lib/caching-api.js'
import { CachingManager } from '../../lib/caching-manager.js'
import type { Region, WrappedFunction } from '../../lib/region.js'
import { Random } from '../torture/random.js'
import { silentLogger } from './doubles.js'
import { Floors, type Cell, type Change, type Limit, type Version } from './floors.js'
import { HeldCalls, type HeldCall } from './held-calls.js'
import { LineHub, type HubProcess } from './line-hub.js'
import { TierServer, bareBackend, clusterBackend, serverBackend, serverLock, type Carrier, type Operation } from './tier-hub.js'

/*
 * Managers on backends of which each call waits until chance lets it go on: to be carried out, to be answered, to fail. So
 * calls overtake each other, whatever they are about. Time passes when chance says so, too. All of that comes from a seed.
 */

const rows = [0, 1] as const
/** Two methods of a cached object, each of which brings the other one's row along; and a wrapped function. */
const methods = ['byId', 'byName', 'wrapped'] as const
interface Place extends Cell { readonly method: typeof methods[number] }
const cells: readonly Place[] = methods.flatMap(method => rows.map(row => ({ method, row })))
const cellOf = (method: Place['method'], row: number): Place => cells.find(cell => cell.method === method && cell.row === row)!
const tagsOf = ({ row }: { row: number }) => ['all', `row ${row}`]

const ttl = 20_000
/** What tiers may take in a slow setting. In others, calls may take any time. */
const shortTimeout = 60
const noDatabase = new Error('no database')

interface Setting {
  readonly tiers: string
  readonly processes: number
  /** How often a call fails. */
  readonly faults: number
  /** Whether tiers are left alone that take too long to answer. */
  readonly isSlow: boolean
  readonly hasLock: boolean
  readonly refresh: 'background' | 'inline'
  /** What is done but reading. Not all of it, most times: one change undoes what has gone wrong with another. */
  readonly changes: readonly ChangeKind[]
  /** How often a key is evicted, and how often all values get older. */
  readonly decay: number
  /** Calls of this kind are overtaken by many, most times. */
  readonly overtaken: Operation | 'load'
  /** How many calls go on for each operation that begins. */
  readonly calls: number
  /** How many operations begin before all is well for a moment: what went wrong would be undone by others. */
  readonly rounds: readonly number[]
}

/** Three methods are for one process only: what several do to them is in no order. */
const unfenced = ['bare', 'bare', 'memory + bare', 'bare + bare', 'memory + bare + bare', 'server + bare', 'bare + cluster']
const fenced = ['server', 'cluster', 'memory + server', 'memory + cluster', 'server + server', 'memory + cluster + server']

const changeKinds = ['set', 'refresh', 'invalidate', 'invalidate a tag', 'invalidate all', 'invalidate all softly'] as const
type ChangeKind = typeof changeKinds[number]

function settingOf (random: Random): Setting {
  const isFenced = random.chance(0.4)
  return {
    tiers: random.pick(isFenced ? fenced : unfenced),
    processes: isFenced ? 1 + random.index(3) : 1,
    faults: random.pick([0, 0, 0.02, 0.1, 0.3]),
    isSlow: random.chance(0.25),
    hasLock: random.chance(0.3),
    refresh: random.pick(['background', 'inline']),
    changes: [random.pick(['set', 'set', 'refresh', 'invalidate']), ...changeKinds.filter(() => random.chance(0.3))],
    decay: random.pick([0, 0, 0.3]),
    overtaken: random.pick(['read', 'fill', 'fill', 'forget', 'load', 'lease']),
    calls: random.pick([4, 8, 16]),
    rounds: Array.from({ length: 3 + random.index(5) }, () => 3 + random.index(15))
  }
}

/** Resolves to what has happened, step by step. Needs `simulateTime(t)`. @throws an Error that tells these steps, too */
export async function operateAtRandom (seed: number): Promise<readonly string[]> {
  const application = new Application(new Random(seed))
  const reject = (reason: unknown) => application.fail(`nobody handles ${reason instanceof Error ? reason.stack : String(reason)}`)
  process.on('unhandledRejection', reject)
  try {
    await application.run()
    return application.steps
  } catch (error) {
    throw new Error(`SEED=${seed}: ${error instanceof Error ? error.message : String(error)}\n\n${application.steps.join('\n')}`, { cause: error })
  } finally {
    process.off('unhandledRejection', reject)
  }
}

class Application {
  readonly random: Random
  readonly setting: Setting
  readonly steps: string[] = []
  readonly hub = new LineHub()
  readonly held = new HeldCalls()
  readonly servers: readonly TierServer[]
  readonly floors = new Floors()
  /** Whether some tier has failed, or has been left alone. */
  isTroubled: boolean
  /** Nothing fails, or takes long. */
  isWell = false
  readonly #processes: readonly Process[]
  /** The newest version of each row. */
  readonly #database = rows.map(() => 0)
  readonly #underWay = new Set<string>()
  /** With which most operations have to do: what goes wrong, goes wrong when one cell meets it all. */
  readonly #hotCell: Place
  #operations = 0
  #calls = 0
  #loads = 0
  #aged = 0
  #wrong: string | undefined

  constructor (random: Random) {
    this.random = random
    const setting = this.setting = settingOf(random)
    this.#hotCell = random.pick(cells)
    this.say(JSON.stringify(setting))
    this.isTroubled = setting.isSlow
    this.hub.latency = () => random.pick([0, 0, 1, 3])
    this.servers = setting.tiers.split(' + ').map(() => new TierServer(this.hub, this.now))
    for (const server of this.servers) server.refusesToKeep = key => !this.isWell && !key.startsWith('{') && random.chance(setting.faults / 4)
    this.#processes = Array.from({ length: setting.processes }, (_, i) => new Process(this, i))
  }

  /** The wall clock, which is set forward to make values old. */
  readonly now = (): number => this.hub.time + this.#aged

  say (what: string): void {
    this.steps.push(what)
  }

  fail (what: string): void {
    this.#wrong ??= what
    this.say(`WRONG: ${what}`)
  }

  // ─── what happens ──────────────────────────────────────────────────────────────────────────────

  async run (): Promise<void> {
    await this.#pass(1000) // until memory is trusted
    for (const operations of this.setting.rounds) {
      for (const end = this.#operations + operations; this.#operations < end;) await this.#step()
      await this.#recover()
    }
    this.isWell = true
    if (this.random.chance(0.2)) await this.#invalidateAll()
    const closed = Promise.all(this.#processes.map(({ hub, manager }) => hub.run(() => manager.close())))
    await this.#drain()
    await closed
    if (this.hub.planned > 0) throw new Error('after the end something is still to happen')
  }

  /** Whatever is under way ends well. Then everybody reads what is there. */
  async #recover (): Promise<void> {
    this.say('all is well for a moment')
    this.isWell = true
    await this.#drain()
    this.floors.settle()
    if (this.random.chance(0.5)) for (const process of this.#processes) process.forget() // or it would hide what is in the tiers
    await this.#readAll([...withPrimed(this.#hotCell), this.random.pick(cells)])
    this.isWell = false
  }

  async #invalidateAll (): Promise<void> {
    if (this.isTroubled) await this.#invalidateEach() // a tier that is left alone is probed by the first one, and refuses the others
    if (!await this.#invalidateEach()) throw new Error('an invalidation is pending, though all is well')
    await this.#readAll()
    await this.#readAll()
    const loads = this.#loads
    await this.#readAll()
    if (this.#loads > loads) throw new Error('what has been read twice is loaded again')
  }

  /** Resolves to whether everybody was told. */
  async #invalidateEach (): Promise<boolean> {
    const invalidated = cells.map(async cell => await this.random.pick(this.#processes).invalidate(cell, false))
    await this.#drain()
    return !(await Promise.all(invalidated)).includes(false)
  }

  async #step (): Promise<void> {
    const { random, setting } = this
    const { pending } = this.held
    random.weighted([
      { weight: this.#underWay.size < 12 ? 1 : 0, take: () => this.#begin() },
      { weight: pending.length > 0 ? setting.calls : 0, take: () => this.#goOn(random.weighted(pending)) },
      { weight: setting.decay / 4, take: () => this.#age() },
      { weight: setting.decay / 4, take: () => this.#evict() }
    ]).take()
    const takesTime = random.chance(pending.length > 0 ? 0.1 : 0.5)
    await this.#pass(takesTime ? random.pick([1, 5, 5, 10, 50, 120, random.chance(0.1) ? 2500 : 10]) : 0)
  }

  /** Several operations in one tick, at times. */
  #begin (): void {
    const { random } = this
    do {
      const process = random.pick(this.#processes)
      const cell = random.chance(0.75) ? this.#hotCell : random.pick(cells)
      const isSameRequest = random.chance(0.3)
      random.weighted([
        { weight: 6, take: () => process.read(cell, isSameRequest) },
        { weight: 1, take: () => process.readMany(random.pick(['byId', 'byName'])) },
        { weight: 2, take: () => process.find(cell.row) },
        { weight: 1, take: () => process.newRequest() },
        { weight: 6, take: () => this.#change(process, random.pick(this.setting.changes), cell, isSameRequest) }
      ]).take()
    } while (random.chance(0.2))
  }

  #change (process: Process, kind: ChangeKind, cell: Place, isSameRequest: boolean): void {
    switch (kind) {
      case 'set': return process.set(cell, isSameRequest)
      case 'refresh': return process.refresh(cell, isSameRequest)
      case 'invalidate a tag': return process.invalidateTag(this.random.pick(tagsOf(cell)))
      case 'invalidate all': return process.invalidateAll(false)
      case 'invalidate all softly': return process.invalidateAll(true)
      case 'invalidate': void process.invalidate(cell, isSameRequest)
    }
  }

  #goOn (call: HeldCall): void {
    const fate = this.#fateOf(call)
    this.say(`    ${call.what} ${fate}`)
    switch (fate) {
      case 'is carried out': return call.carryOut()
      case 'is answered': return call.answer()
      case 'fails': return call.fail()
      case 'fails, and is late': call.fail(true)
    }
  }

  #fateOf (call: HeldCall): 'is carried out' | 'is answered' | 'fails' | 'fails, and is late' {
    const { random, setting } = this
    if (call.isAnswered) return 'is carried out'
    if (this.isWell) return 'is answered'
    if (!random.chance(setting.faults)) return call.isCarriedOut || random.chance(0.5) ? 'is answered' : 'is carried out'
    if (call.error !== noDatabase) this.isTroubled = true
    return call.mayBeLate && !call.isCarriedOut && random.chance(0.3) ? 'fails, and is late' : 'fails'
  }

  #age (): void {
    const ms = this.random.pick([1000, ttl, ttl, 2 * ttl])
    this.say(`    everything is ${ms} ms older`)
    this.#aged += ms
  }

  #evict (): void {
    const tier = this.random.index(this.servers.length)
    const n = this.random.index(9)
    this.say(`    tier ${tier} evicts a key, ${n}`)
    this.servers[tier]!.evict(n)
    this.floors.hasForgotten = true
  }

  async #pass (ms: number, until?: () => boolean): Promise<void> {
    if (ms > 0) this.say(`    ${ms} ms`)
    await this.hub.pass(ms, until)
    if (this.#wrong !== undefined) throw new Error(this.#wrong)
  }

  /** Whatever is under way ends, and what it causes. */
  async #drain (): Promise<void> {
    const isHeld = () => this.held.pending.length > 0
    for (let steps = 0, isQuiet = false; !isQuiet; steps++) {
      if (steps > 20_000) throw new Error('calls cause each other without end')
      if (isHeld()) this.#goOn(this.random.weighted(this.held.pending))
      // The longest pauses take two seconds.
      await this.#pass(isHeld() ? 0 : 2500, isHeld)
      isQuiet = !isHeld()
    }
    if (this.#underWay.size > 0) throw new Error(`does not end: ${[...this.#underWay].join(', ')}`)
  }

  async #readAll (read = cells): Promise<void> {
    for (const process of this.#processes) for (const cell of read) process.read(cell, false)
    await this.#drain()
  }

  // ─── what the processes need ───────────────────────────────────────────────────────────────────

  /** Calls of a server that are held. Those to three methods are not late: nothing would refuse what they write. */
  carrier (where: string, mayBeLate: boolean): Carrier {
    return {
      call: (operation, execute, keys = []) => {
        const what = `call ${++this.#calls}: ${operation} ${where} ${keys.map(key => key.replace(/^.*objects}?:/, '')).join(' ')}`
        return this.held.hold({ what, execute, mayBeLate, weight: this.#pace(operation) })
      }
    }
  }

  load (method: Place['method'], asked: readonly number[], who: string): Promise<Version[]> {
    const by = `load ${++this.#loads}`
    const execute = () => asked.map(row => ({ row, version: this.#database[row]!, method, by }))
    return this.held.hold({ what: `${by} of ${method} ${asked.join(', ')} by ${who}:`, execute, error: noDatabase, mayBeLate: false, weight: this.#pace('load') })
  }

  #pace (operation: Operation | 'load'): number {
    return this.random.chance(operation === this.setting.overtaken ? 0.6 : 0.05) ? 0.02 : 1
  }

  /** The database has changed, and the cache is about to be. */
  change (kind: Change['kind'], changed: readonly Cell[], process: number): Change {
    for (const row of new Set(changed.map(({ row }) => row))) this.#database[row]!++
    const change = { name: this.nextName(kind), kind, process, cells: changed, versions: [...this.#database] }
    this.floors.begin(change)
    return change
  }

  nextName (operation: string): string {
    return `${operation} ${++this.#operations}`
  }

  /** Resolves when `ended` has been called with what came of it. */
  async track<T> (name: string, what: string, promise: Promise<T>, ended: (result: { value: T } | { error: any }) => void): Promise<void> {
    this.say(`${name}: ${what}`)
    this.#underWay.add(name)
    const end = (how: string, result: { value: T } | { error: any }): void => {
      this.#underWay.delete(name)
      this.say(`${name} ${how}`)
      ended(result)
    }
    await promise.then(value => end(value === undefined ? 'ends' : `gets ${JSON.stringify(value)}`, { value }), error => end(`fails: ${error.message}`, { error }))
  }
}

class Request {
  readonly api: CachingApi
  /** What it has seen may be as old as then. */
  readonly limits = new Map<Cell, Limit>()

  constructor (api: CachingApi) {
    this.api = api
  }
}

class Process {
  readonly hub: HubProcess
  readonly manager: CachingManager
  readonly #app: Application
  readonly #index: number
  readonly #name: string
  readonly #memory = memory() as LocalBackend
  readonly #region: Region
  readonly #object: AnyCachedObject
  readonly #wrapped: WrappedFunction<[number], Version>
  #request: Request

  constructor (app: Application, index: number) {
    this.#app = app
    this.#index = index
    const name = this.#name = `process ${index}`
    const { tiers, hasLock, isSlow, refresh } = app.setting
    const hub = this.hub = app.hub.join()
    const backends = tiers.split(' + ').map((kind, tier) => this.#backend(kind, tier))
    const lock = serverLock(app.servers[0]!, app.carrier(`by ${name}`, true))
    this.manager = hub.run(() => new CachingManager({
      namespace: 'app',
      now: app.now,
      logger: silentLogger(),
      ...hasLock && { lock },
      regions: { objects: { tiers: backends as [Backend], ttl, grace: ttl, jitter: 0, tierTimeout: isSlow ? shortTimeout : '10h', lockTtl: 150, lockWait: 400, refresh } }
    }))
    this.#region = this.manager.region('objects')
    this.#object = cachedObject({
      name: 'Row',
      region: 'objects',
      methods: {
        byId: loadMany({
          load: async (_context, asked: readonly number[]) => await app.load('byId', asked, name),
          idOf: ({ row }: Version) => row,
          primes: { byName: ({ row }) => [row] },
          tags: tagsOf
        }),
        byName: loadOne(async (_context, row: number) => (await app.load('byName', [row], name))[0], { primes: { byId: ({ row }: Version) => [row] }, tags: tagsOf })
      }
    })
    this.#wrapped = this.#region.wrap('wrapped', async (row: number) => (await app.load('wrapped', [row], name))[0]!, {
      tags: tagsOf,
      shouldCache: ({ version }) => app.isWell || version % 8 !== 7
    })
    this.#request = new Request(this.manager.createApi())
  }

  #backend (kind: string, tier: number): Backend {
    const server = this.#app.servers[tier]!
    const carrier = () => this.#app.carrier(`by ${this.#name} in tier ${tier}`, !this.#app.setting.tiers.includes('bare'))
    switch (kind) {
      case 'memory': return this.#memory
      case 'bare': return bareBackend(server, carrier())
      case 'cluster': return clusterBackend(server, [carrier(), carrier()], this.hub.line)
      default: return Object.assign(serverBackend(server, carrier(), this.hub.line), { connection: undefined }) // which would keep calls in order
    }
  }

  /** Its memory does, as if others had made it evict everything. */
  forget (): void {
    for (const { method, row } of cells) this.#memory.deleteEntry(method === 'wrapped' ? this.#region.keyspace.entry('f', `"wrapped"(${row})`) : this.manager.bind(this.#object).method(method).key([row]))
  }

  newRequest (): void {
    this.#request = new Request(this.manager.createApi())
  }

  // ─── reads ─────────────────────────────────────────────────────────────────────────────────────

  read (cell: Place, isSameRequest: boolean): void {
    const { method, row } = cell
    const { api, limits } = this.#requestFor(isSameRequest)
    this.#limit(cell, limits)
    const limit = method === 'wrapped' ? this.#now(cell) : limits.get(cell)!
    this.#check('read', nameOf(cell, isSameRequest), [limit], async () => [await (method === 'wrapped' ? this.#wrapped(row) : api.get(this.#object, method, [row]))])
  }

  readMany (method: 'byId' | 'byName'): void {
    const limits = rows.map(row => this.#now(cellOf(method, row)))
    this.#check('read', `all ${method}`, limits, async () => await this.manager.createApi().getMany(this.#object, method, rows))
  }

  /** Fresh values only, and only those that are there. */
  find (row: number): void {
    const cell = cellOf('wrapped', row)
    const limit = this.#app.floors.at(cell, this.#index, true)
    this.#check('look', nameOf(cell), [limit], async () => [await this.#wrapped.get(row)])
  }

  #check (operation: 'read' | 'look', what: string, limits: readonly Limit[], read: () => Promise<unknown[]>): void {
    const app = this.#app
    const name = app.nextName(operation)
    void app.track(name, `${what} by ${this.#name}`, this.hub.run(read), result => {
      if ('error' in result) return result.error.message === noDatabase.message || app.fail(`${name} fails: ${result.error.stack}`)
      for (const [i, limit] of limits.entries()) {
        const value = result.value[i] as Version | undefined
        const wrong = value === undefined ? operation === 'look' ? undefined : 'nothing' : app.floors.wrong(value, limit)
        if (wrong !== undefined && !this.#mayBeLate) app.fail(`${name} gets ${wrong}`)
      }
    })
  }

  /** "A write that takes longer than `tierTimeout` and lands after a newer one": it can be read, until the backend answers. */
  get #mayBeLate (): boolean {
    const { setting, isWell } = this.#app
    return setting.isSlow && setting.tiers.includes('bare') && !isWell
  }

  // ─── changes ───────────────────────────────────────────────────────────────────────────────────

  set (cell: Place, isSameRequest: boolean): void {
    const { method, row } = cell
    const { api, limits } = this.#requestFor(isSameRequest)
    const change = this.#app.change('set', withPrimed(cell), this.#index)
    for (const one of change.cells) limits.set(one, this.#app.floors.atOnce(one, change))
    const value: Version = { row, version: change.versions[row]!, method, by: change.name }
    void this.#track(change, nameOf(cell, isSameRequest), () => method === 'wrapped' ? this.#wrapped.set(value, row) : api.set(this.#object, method, [row], value))
  }

  refresh (cell: Place, isSameRequest: boolean): void {
    const { method, row } = cell
    const { api, limits } = this.#requestFor(isSameRequest)
    this.#limit(cell, limits)
    const change = this.#app.change('refresh', [cell], this.#index)
    void this.#track(change, nameOf(cell, isSameRequest), () => method === 'wrapped' ? this.#wrapped.refresh(row) : api.refresh(this.#object, method, [row]))
  }

  /** Resolves to whether everybody was told. */
  async invalidate (cell: Place, isSameRequest: boolean): Promise<boolean> {
    const { method, row } = cell
    const { api, limits } = this.#requestFor(isSameRequest)
    limits.delete(cell)
    const change = this.#app.change('invalidation', [cell], this.#index)
    return await this.#track(change, nameOf(cell, isSameRequest), () => method === 'wrapped' ? this.#wrapped.invalidate(row) : api.invalidate(this.#object, method, [row]))
  }

  invalidateTag (tag: string): void {
    const change = this.#app.change('invalidation', cells.filter(cell => tagsOf(cell).includes(tag)), this.#index)
    void this.#track(change, `tag ${tag}`, () => this.#region.invalidateTags(tag))
  }

  invalidateAll (soft: boolean): void {
    const change = this.#app.change(soft ? 'soft invalidation' : 'invalidation', cells, this.#index)
    void this.#track(change, 'the region', () => this.#region.invalidate({ soft }))
  }

  async #track (change: Change, what: string, write: () => Promise<unknown>): Promise<boolean> {
    const app = this.#app
    const { name, kind, versions } = change
    let isToldToAll = false
    await app.track(name, `${what} by ${this.#name}, to versions ${versions.join(' and ')}`, this.hub.run(write), result => {
      const error = 'error' in result ? result.error : undefined
      if (kind === 'refresh' && error?.message === noDatabase.message) return app.floors.fail(change)
      // A set and a refresh don't say so where a tier could not be told.
      isToldToAll = kind === 'set' || kind === 'refresh' ? !app.isTroubled : error === undefined
      app.floors.end(change, isToldToAll)
      if (error !== undefined && !(app.isTroubled && error.code === 'FST_CACHING_API_INVALIDATION_PENDING')) app.fail(`${name} fails: ${error.stack}`)
    })
    return isToldToAll
  }

  // ─── what may be read ──────────────────────────────────────────────────────────────────────────

  #requestFor (isSameRequest: boolean): Request {
    return isSameRequest ? this.#request : new Request(this.manager.createApi())
  }

  #now (cell: Cell): Limit {
    return this.#app.floors.at(cell, this.#index)
  }

  /** What a request is about to get, it keeps; and so what comes along with that. */
  #limit (cell: Place, limits: Map<Cell, Limit>): void {
    for (const one of withPrimed(cell)) if (!limits.has(one)) limits.set(one, this.#now(one))
  }
}

const nameOf = ({ method, row }: Place, isSameRequest = false): string => `${method} ${row}${isSameRequest ? ' in the request' : ''}`

/** A value of it is one of the other method's, too. */
function withPrimed (cell: Place): Place[] {
  return cell.method === 'wrapped' ? [cell] : [cell, cellOf(cell.method === 'byId' ? 'byName' : 'byId', cell.row)]
}
