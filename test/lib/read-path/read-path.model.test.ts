import fc from 'fast-check'
import t from 'tap'
import type { CachingApi } from '../../../lib/caching-api.js'
import { cachedObject, loadMany, loadOne, type AnyCachedObject } from '../../../lib/cached-object.js'
import { CachingManager } from '../../../lib/caching-manager.js'
import type { Region } from '../../../lib/region.js'
import type { ReadOptions } from '../../../lib/region-options.js'
import type { Backend } from '../../../lib/backends/backend.js'
import { memory } from '../../../lib/backends/memory.js'
import { silentLogger } from '../../helpers/doubles.js'
import { LineHub, simulateTime, type HubProcess } from '../../helpers/line-hub.js'
import { Connection, TierServer, clusterBackend, lineOver, operations, serverBackend, serverLock, type Operation } from '../../helpers/tier-hub.js'

/*
 * The rules of the torture, in one process: several managers are processes with connections, a line, timers and a monotonic
 * clock of their own, all of them the test's. A row of the database is read in three ways, and each is a cell of the cache.
 * Everything that happens is numbered: loads when they begin, invalidations when they are asked for. So a value is too old
 * for a read, if its load has a smaller number than an invalidation that was over when the read began.
 */

const lease = 300
const tierTimeout = 60
const ttl = 20_000
const longestLoad = 900
const lockWait = 400
/** No read takes longer: a look into two tiers, an election, somebody else's load, a claim and the load; and so much before it was joined. */
const longestRead = (lockWait: number): number => 2 * (8 * tierTimeout + lockWait + longestLoad)
/** Two tiers, a message that waits for another one, and a lease. */
const longestWrite = 8 * tierTimeout + 2 * lease

const rows = [0, 1] as const
const kinds = ['byId', 'byName', 'made'] as const
type Kind = typeof kinds[number]
interface Cell { readonly index: number, readonly kind: Kind, readonly row: number, readonly tags: readonly string[] }
const tagsOf = (row: number) => ['all', `row ${row}`]
const cells: readonly Cell[] = kinds.flatMap((kind, k) => rows.map(row => ({ index: rows.length * k + row, kind, row, tags: tagsOf(row) })))
const cellOf = (kind: Kind, row: number): Cell => cells[rows.length * kinds.indexOf(kind) + row]!

/** Either loaded, with the number of its load; or set. */
interface Value { readonly id: number, readonly kind: Kind, readonly version: number, readonly number?: number, readonly set?: number }

/** What is older than `number` may not be read. */
interface Floor { readonly number: number, readonly why: string, readonly isSet?: true }

class Floors {
  readonly #floors: Floor[] = cells.map(() => ({ number: 0, why: '' }))

  raise (concerned: readonly Cell[], floor: Floor): void {
    for (const { index } of concerned) if (floor.number > this.#floors[index]!.number) this.#floors[index] = floor
  }

  at ({ index }: Cell): Floor {
    return this.#floors[index]!
  }
}

const higher = (one: Floor, ...others: Floor[]): Floor => others.reduce((highest, other) => other.number > highest.number ? other : highest, one)

interface Load { readonly ms: number, readonly fails: boolean, readonly readsLate: boolean }

interface Setting {
  readonly processes: number
  readonly tiers: 'memory' | 'server' | 'memory + server' | 'memory + cluster' | 'memory + server + cluster'
  readonly lock: boolean
  readonly lockWait: number
  readonly refresh: 'background' | 'inline'
  readonly maxEntries: number
  readonly loads: readonly Load[]
  readonly latencies: readonly number[]
}

const noDatabase = 'no database'

class Application {
  readonly hub = new LineHub()
  readonly setting: Setting
  readonly servers: readonly TierServer[]
  readonly processes: readonly Process[]
  /** By row. */
  readonly database = rows.map(() => 0)
  readonly floors = new Floors()
  /** For those who want fresh values only. */
  readonly softFloors = new Floors()
  /** By number: when it was over, and until then everything. */
  readonly sets = new Map<number, number>()
  /** Told to some only; the others will be told. */
  readonly pending: { readonly concerned: readonly Cell[], readonly floor: Floor }[] = []
  readonly underWay = new Set<string>()
  /** Something was out of order. */
  isTroubled = false
  wasStopped = false
  /** A tier has lost something, by itself or by its age. */
  hasForgotten = false
  /** Nobody writes any more: what is read is what is in the database. */
  isOver = false
  /** Loads that are under way. */
  readonly loads = new Set<{ readonly by: Process, readonly cell: Cell }>()
  /** Whether a load of this cell may begin while the other is under way. */
  mayLoad = (_by: Process, _other: Process): boolean => true
  healthy: Load | undefined
  #number = 0
  #aged = 0
  #begun = 0
  #wrong: string | undefined

  constructor (setting: Setting) {
    this.setting = setting
    let messages = 0
    this.hub.latency = () => setting.latencies[messages++ % setting.latencies.length]!
    this.servers = [0, 1].map(() => new TierServer(this.hub, this.now))
    this.processes = Array.from({ length: setting.processes }, (_, i) => new Process(this, i))
    this.hub.watch = () => { for (const process of this.processes) process.look() }
  }

  /** The wall clock, which is set forward to make values old. */
  readonly now = (): number => this.hub.time + this.#aged

  age (ms: number): void {
    this.#aged += ms
  }

  next (): number {
    return ++this.#number
  }

  get nextLoad (): Load {
    return this.healthy ?? this.setting.loads[this.#begun++ % this.setting.loads.length]!
  }

  begin (load: { readonly by: Process, readonly cell: Cell }): void {
    for (const { by, cell } of this.loads) {
      if (cell === load.cell && !this.mayLoad(load.by, by)) this.fail(`${load.by.name} loads ${cell.kind} ${cell.row}, which ${by.name} is loading`)
    }
    this.loads.add(load)
  }

  executed (operation: Operation): number {
    return this.servers.reduce((sum, server) => sum + server.executed[operation], 0)
  }

  numberOf ({ number, set }: Value): number {
    return number ?? this.sets.get(set!) ?? Infinity
  }

  check (value: unknown, cell: Cell, floor: Floor, who: string): void {
    const { id, kind, version, number, set } = value as Value
    if (id !== cell.row) this.fail(`${who} got row ${id}`)
    if (this.isOver && version !== this.database[id]) this.fail(`${who} got version ${version}, but there is ${this.database[id]}`)
    // A row that came with another one finds its place empty, if what was set there is gone already.
    if (floor.isSet === true && kind !== cell.kind && this.hasForgotten) return
    if (this.numberOf(value as Value) < floor.number) this.fail(`${who} got what was ${set === undefined ? `loaded by ${number}` : `set by ${set}`}, after ${floor.why}`)
  }

  fail (message: string): void {
    this.#wrong ??= `at ${this.hub.time}: ${message}`
  }

  /** @throws what went wrong */
  assert (): void {
    if (this.#wrong !== undefined) throw new Error(this.#wrong)
  }

  async pass (ms: number, until?: () => boolean): Promise<void> {
    await this.hub.pass(ms, until)
    this.assert()
  }

  /** `settled` is called with its error, if any. */
  track<T> (name: string, longest: number, promise: Promise<T>, settled: (result: { value: T } | { error: any }) => void): void {
    const began = this.hub.time
    this.underWay.add(name)
    const end = (result: { value: T } | { error: any }): void => {
      this.underWay.delete(name)
      const took = this.hub.time - began
      if (took > longest && !this.wasStopped) this.fail(`${name} took ${took} ms`)
      settled(result)
    }
    promise.then(value => end({ value }), error => end({ error }))
  }
}

/** What a request of the test's has read. */
class Request {
  readonly api: CachingApi
  readonly seen = new Map<Cell, { readonly promise: Promise<unknown>, readonly floor: Floor, failed: boolean }>()
  /** Rows that came with others are of then. */
  readonly since = new Map<Cell, Floor>()

  constructor (api: CachingApi) {
    this.api = api
  }

  forget (cell: Cell): void {
    this.seen.delete(cell)
    this.since.delete(cell)
  }
}

class Process {
  readonly name: string
  readonly hub: HubProcess
  readonly manager: CachingManager
  readonly region: Region
  readonly connections: readonly Connection[]
  /** What was invalidated here, and not everywhere. */
  readonly own = new Floors()
  request!: Request
  readonly #app: Application
  readonly #object: AnyCachedObject
  readonly #keys: readonly string[]

  constructor (app: Application, index: number) {
    this.name = `process ${index}`
    this.#app = app
    const hub = this.hub = app.hub.join()
    const { tiers, lock, lockWait, refresh, maxEntries } = app.setting
    const [near, far] = app.servers as [TierServer, TierServer]
    const toNear = new Connection(near, hub)
    const toFar = [new Connection(far, hub), new Connection(far, hub), new Connection(far, hub)]
    this.connections = [toNear, ...toFar]
    const serverTier = serverBackend(near, toNear, lineOver(near, toNear, hub.line))
    const clusterTier = clusterBackend(far, toFar, lineOver(far, toFar[0]!, hub.line))
    const backends = { memory: memory({ maxEntries }), server: serverTier, cluster: clusterTier }
    this.manager = hub.run(() => new CachingManager({
      namespace: 'app',
      now: app.now,
      lineLease: lease,
      logger: silentLogger(),
      ...lock && { lock: serverLock(near, toNear) },
      regions: {
        objects: {
          tiers: tiers.split(' + ').map(name => backends[name as keyof typeof backends]) as unknown as [Backend],
          ttl,
          grace: ttl,
          jitter: 0,
          tierTimeout,
          lockTtl: 150,
          lockWait,
          refresh
        }
      }
    }))
    this.region = this.manager.region('objects')
    this.#object = cachedObject({
      name: 'Row',
      region: 'objects',
      methods: {
        byId: loadMany({
          load: async (_context, ids: readonly number[]) => await this.#load('byId', ids),
          idOf: ({ id }: Value) => id,
          primes: { byName: ({ id }) => [id] },
          tags: ({ id }) => tagsOf(id)
        }),
        byName: loadOne(async (_context, id: number) => (await this.#load('byName', [id]))[0], { tags: ({ id }) => tagsOf(id) })
      }
    })
    this.#keys = cells.map(({ kind, row }) => kind === 'made' ? this.region.keyspace.entry('k', `row${row}`) : this.manager.bind(this.#object).method(kind).key([row]))
    this.newRequest()
  }

  newRequest (): void {
    this.request = new Request(this.manager.createApi())
  }

  floorOf (cell: Cell): Floor {
    return higher(this.#app.floors.at(cell), this.own.at(cell))
  }

  /** Whatever it has in memory and believes. */
  look (): void {
    if (this.hub.isStopped) return
    const { path } = this.region
    const values = this.hub.run(() => this.#keys.map(key => {
      const entry = path.remembered(key)
      return entry !== undefined && path.isFresh(entry, undefined) ? entry.value : undefined
    }))
    for (const cell of cells) {
      const value = values[cell.index]
      if (value !== undefined) this.#app.check(value, cell, higher(this.floorOf(cell), this.#app.softFloors.at(cell)), `the memory of ${this.name}, asked for ${cell.kind} ${cell.row},`)
    }
  }

  /** Within a request, what was read stays as it was read. */
  read (cell: Cell, isSameRequest: boolean, options: ReadOptions & { force?: boolean } = {}): void {
    const { kind, row } = cell
    const request = isSameRequest ? this.request : new Request(this.manager.createApi())
    const before = request.seen.get(cell)
    const seen = options.force === true && kind !== 'made' ? undefined : before
    const floor = seen?.floor ?? request.since.get(cell) ?? this.floorOf(cell)
    const promise = this.hub.run(() => kind === 'made' ? this.#make(request, row, options) : request.api.get(this.#object, kind, [row], options)) as Promise<Value>
    const name = `read ${this.#app.next()} of ${kind} ${row} by ${this.name}`
    if (seen?.failed === false && seen.promise !== promise) this.#app.fail(`${name} is not what the same request has read before`)
    const known = { promise, floor, failed: false }
    request.seen.set(cell, known)
    if (kind === 'byId') {
      const primed = cellOf('byName', row)
      if (!request.since.has(primed)) request.since.set(primed, this.floorOf(primed))
    }
    this.#app.track(name, longestRead(this.#app.setting.lockWait), promise, result => {
      if ('error' in result) {
        known.failed = true
        // A forced read that fails leaves what the request has read before.
        if (seen === undefined && before !== undefined && request.seen.get(cell) === known) request.seen.set(cell, before)
      }
      this.#check(result, cell, floor, name)
    })
  }

  readMany (kind: Exclude<Kind, 'made'>): void {
    const floors = rows.map(row => this.floorOf(cellOf(kind, row)))
    const name = `read ${this.#app.next()} of all ${kind} by ${this.name}`
    const promise = this.hub.run(() => this.manager.createApi().getMany(this.#object, kind, rows))
    this.#app.track(name, longestRead(this.#app.setting.lockWait), promise, result => {
      if ('error' in result) return this.#check(result, cellOf(kind, 0), floors[0]!, name)
      for (const [i, value] of result.value.entries()) this.#check({ value }, cellOf(kind, rows[i]!), floors[i]!, name)
    })
  }

  /** Fresh values only. */
  find (row: number): void {
    const cell = cellOf('made', row)
    const floor = higher(this.floorOf(cell), this.#app.softFloors.at(cell))
    const name = `look ${this.#app.next()} for ${cell.kind} ${row} by ${this.name}`
    this.#app.track(name, longestRead(this.#app.setting.lockWait), this.hub.run(() => this.region.get(`row${row}`)), result => {
      if ('error' in result || result.value !== undefined) this.#check(result, cell, floor, name)
    })
  }

  refresh (cell: Cell): void {
    const { kind, row } = cell
    if (kind === 'made') return
    const number = this.#app.next()
    const name = `refresh ${number} of ${kind} ${row} by ${this.name}`
    this.#app.track(name, longestRead(this.#app.setting.lockWait), this.hub.run(() => this.manager.createApi().refresh(this.#object, kind, [row])), result => {
      this.#check(result, cell, { number, why: name }, name)
    })
  }

  invalidate (cell: Cell, isSameRequest: boolean): void {
    const { kind, row } = cell
    this.#write([cell], `invalidation of ${kind} ${row}`, () => {
      const { api } = isSameRequest ? this.request : new Request(this.manager.createApi())
      if (isSameRequest) this.request.forget(cell)
      return kind === 'made' ? api.region('objects').delete(`row${row}`) : api.invalidate(this.#object, kind, [row])
    })
  }

  invalidateTag (tag: string): void {
    this.#write(cells.filter(({ tags }) => tags.includes(tag)), `invalidation of tag ${tag}`, () => this.region.invalidateTags(tag))
  }

  invalidateAll (soft: boolean): void {
    this.#write(cells, `${soft ? 'soft ' : ''}invalidation of the region`, () => this.region.invalidate({ soft }), soft)
  }

  set (cell: Cell, isSameRequest: boolean): void {
    const app = this.#app
    const { kind, row, tags } = cell
    const number = app.next()
    const name = `set ${number} of ${kind} ${row} by ${this.name}`
    const value: Value = { id: row, kind, version: app.database[row]!, set: number }
    const { api } = isSameRequest ? this.request : new Request(this.manager.createApi())
    const primed = kind === 'byId' ? [cellOf('byName', row)] : []
    if (isSameRequest) {
      for (const one of [cell, ...primed]) {
        this.request.forget(one)
        this.request.since.set(one, this.floorOf(one))
      }
    }
    const written = this.hub.run(() => kind === 'made' ? api.region('objects').set(`row${row}`, value, { tags }) : api.set(this.#object, kind, [row], value))
    app.track(name, longestWrite, written, result => {
      if ('error' in result) return app.fail(`${name} failed: ${result.error}`)
      app.sets.set(number, app.next())
      const floor: Floor = { number, why: name, isSet: true }
      this.own.raise([cell, ...primed], floor)
      // Where a tier could not be told, it will be: set doesn't say so.
      if (app.isTroubled) app.pending.push({ concerned: [cell, ...primed], floor })
      else app.floors.raise([cell, ...primed], floor)
    })
  }

  #write (concerned: readonly Cell[], what: string, write: () => Promise<void>, soft = false): void {
    const app = this.#app
    const number = app.next()
    const name = `${what} ${number} by ${this.name}`
    const floor = { number, why: name }
    app.track(name, longestWrite, this.hub.run(write), result => {
      if ('error' in result && result.error.code !== 'FST_CACHING_API_INVALIDATION_PENDING') return app.fail(`${name} failed: ${result.error}`)
      if (soft) {
        if (!('error' in result)) app.softFloors.raise(concerned, floor)
      } else if ('error' in result) {
        this.own.raise(concerned, floor)
        app.pending.push({ concerned, floor })
      } else app.floors.raise(concerned, floor)
    })
  }

  #check (result: { value: unknown } | { error: any }, cell: Cell, floor: Floor, name: string): void {
    if ('value' in result) this.#app.check(result.value, cell, floor, name)
    else if (result.error.message !== noDatabase) this.#app.fail(`${name} failed: ${result.error.stack}`)
  }

  #make (request: Request, row: number, { maxAge }: ReadOptions): Promise<unknown> {
    return request.api.region('objects').getOrCreate(`row${row}`, async () => (await this.#load('made', [row]))[0], { tags: tagsOf(row), ...maxAge !== undefined && { maxAge } })
  }

  async #load (kind: Kind, ids: readonly number[]): Promise<Value[]> {
    const app = this.#app
    const number = app.next()
    const { ms, fails, readsLate } = app.nextLoad
    const read = () => ids.map(id => ({ id, kind, version: app.database[id]!, number }))
    const early = read()
    const loads = ids.map(id => ({ by: this, cell: cellOf(kind, id) }))
    for (const load of loads) app.begin(load)
    if (ms > 0) await new Promise<void>(resolve => app.hub.plan(app.hub.time + ms, resolve, this.hub))
    for (const load of loads) app.loads.delete(load)
    if (fails) throw new Error(noDatabase)
    return readsLate ? read() : early
  }
}

// ─── what happens ────────────────────────────────────────────────────────────────────────────────

interface Step {
  readonly what: string
  readonly who?: number
  readonly cell?: Cell
  readonly row?: number
  readonly isSameRequest?: boolean
  readonly options?: ReadOptions & { force?: boolean }
  readonly ms?: number
  readonly operation?: Operation
  readonly way?: 'requests' | 'replies'
  readonly connection?: number
  readonly n?: number
}

const who = fc.nat(2)
for (const cell of cells) Object.assign(cell, { [fc.toStringMethod]: () => `${cell.kind} ${cell.row}` })
/** Of one there is more to be said than of the others: what goes wrong, goes wrong when one cell meets it all. */
const cell = fc.oneof({ weight: 2, arbitrary: fc.constant(cells[0]!) }, { weight: 3, arbitrary: fc.constantFrom(...cells) })
const row = fc.constantFrom(...rows)
const isSameRequest = fc.boolean()
const step = (weight: number, what: string | readonly string[], more: { readonly [name in keyof Step]?: fc.Arbitrary<Step[name]> } = {}) =>
  ({ weight, arbitrary: fc.record({ what: fc.constantFrom(...[what].flat()), ...more }) as fc.Arbitrary<Step> })

const reading = [
  step(20, 'read', { who, cell, isSameRequest, options: fc.constant({}) }),
  step(4, 'read many', { who, row }),
  step(3, 'find', { who, row }),
  step(3, 'new request', { who })
]
const passing = [
  step(12, 'pass', { ms: fc.oneof(fc.nat(5), fc.nat(40), fc.integer({ min: lease, max: 2 * lease })) }),
  step(12, 'until', { operation: fc.constantFrom(...operations) })
]
const ageing = [
  step(3, 'age', { ms: fc.constantFrom(1000, ttl - 1000, ttl, ttl, 2 * ttl) }),
  step(3, 'evict', { n: fc.nat(9) })
]
const writing = [
  step(3, 'read', { who, cell, isSameRequest, options: fc.oneof(fc.constantFrom(0, 2000, Infinity).map(maxAge => ({ maxAge })), fc.constant({ force: true })) }),
  step(2, 'refresh', { who, cell }),
  step(16, 'invalidate', { who, cell, isSameRequest }),
  step(6, 'invalidate tag', { who, n: fc.nat(2) }),
  step(3, ['invalidate all', 'invalidate all softly'], { who }),
  step(6, 'set', { who, cell, isSameRequest }),
  step(2, 'flush')
]
const failing = [
  step(4, 'hold', { who, way: fc.constantFrom('requests', 'replies'), connection: fc.nat(3) }),
  step(3, 'release', { who }),
  step(2, 'lose', { who, way: fc.constantFrom('requests', 'replies'), connection: fc.nat(3) }),
  step(2, 'break', { who, connection: fc.nat(3) }),
  step(3, 'restore', { who }),
  step(2, 'refuse', { operation: fc.constantFrom(...operations) }),
  step(2, 'accept'),
  step(5, ['hold the line', 'cut the line', 'lose the line', 'restore the line'], { who }),
  step(1, ['stop', 'resume'], { who })
]

const tags = ['all', ...rows.map(row => `row ${row}`)]

async function take ({ what, who = 0, cell, row, isSameRequest, options, ms, operation, way, connection, n }: Step, app: Application): Promise<void> {
  switch (what) {
    case 'pass': return await app.pass(ms!)
    case 'until': {
      const before = app.executed(operation!)
      return await app.pass(400, () => app.executed(operation!) > before)
    }
    case 'age':
      app.hasForgotten = true
      return app.age(ms!)
    case 'evict':
      app.hasForgotten = true
      return app.servers.forEach(server => server.evict(n!))
    case 'flush':
      app.hasForgotten = true
      return app.servers.forEach(server => server.flush())
    case 'refuse':
      app.isTroubled = true
      return app.servers.forEach(server => { server.refuses = one => one === operation })
    case 'accept': return app.servers.forEach(server => { server.refuses = () => false })
  }
  const process = app.processes[who % app.processes.length]!
  const { hub, connections } = process
  if (what === 'resume' && hub.isStopped) hub.resume()
  if (hub.isStopped) return
  switch (what) {
    case 'read': return process.read(cell!, isSameRequest!, options)
    case 'read many': return process.readMany(row === 0 ? 'byId' : 'byName')
    case 'find': return process.find(row!)
    case 'new request': return process.newRequest()
    case 'refresh': return process.refresh(cell!)
    case 'invalidate':
      app.database[cell!.row]!++
      return process.invalidate(cell!, isSameRequest!)
    case 'invalidate tag': return process.invalidateTag(tags[n!]!)
    case 'invalidate all': return process.invalidateAll(false)
    case 'invalidate all softly': return process.invalidateAll(true)
    case 'set': return process.set(cell!, isSameRequest!)
    case 'release': return connections.forEach(connection => connection.release())
    case 'restore': return connections.forEach(connection => connection.restore())
    case 'restore the line':
      for (const way of [hub.asking, hub.hearing]) way.release()
      return hub.restore()
  }
  app.isTroubled = true
  switch (what) {
    case 'hold': return connections[connection!]!.hold(way!)
    case 'lose': return connections[connection!]!.lose(way!)
    case 'break': return connections[connection!]!.break()
    case 'hold the line': return hub.hearing.hold()
    case 'cut the line': return hub.cut()
    case 'lose the line': return hub.lose()
    case 'stop':
      app.wasStopped = true
      return hub.stop()
  }
}

const load = fc.record({ ms: fc.oneof(fc.constant(0), fc.nat(5), fc.nat(60), fc.integer({ min: longestLoad / 2, max: longestLoad })), fails: fc.nat(9).map(n => n === 9), readsLate: fc.boolean() })
const settingOf: fc.Arbitrary<Setting> = fc.record({
  processes: fc.integer({ min: 1, max: 3 }),
  tiers: fc.constantFrom('memory + server', 'memory + cluster', 'memory + server + cluster', 'server', 'memory'),
  lock: fc.boolean(),
  lockWait: fc.constant(lockWait),
  refresh: fc.constantFrom('background', 'inline'),
  maxEntries: fc.constantFrom(100, 100, 3),
  loads: fc.array(load, { minLength: 1, maxLength: 10 }),
  latencies: fc.array(fc.constantFrom(0, 0, 0.5, 1, 2, 4, 20), { minLength: 1, maxLength: 20 })
}).map(setting => setting.tiers === 'memory' ? { ...setting, processes: 1 } : setting)

async function end (app: Application): Promise<void> {
  app.mayLoad = () => true
  app.healthy = { ms: 5, fails: false, readsLate: false }
  app.hub.latency = () => 1
  for (const server of app.servers) server.refuses = () => false
  for (const { hub, connections } of app.processes) {
    for (const connection of connections) {
      connection.restore()
      connection.release()
    }
    for (const way of [hub.asking, hub.hearing]) way.release()
    if (hub.isStopped) hub.resume()
    hub.restore()
  }
  await app.pass(5000) // breakers and what they kept from being delivered: the longest pauses are two seconds
  assertQuiet(app, 'when all was well again')

  // What could not be told at once has been by now.
  for (const { concerned, floor } of app.pending) app.floors.raise(concerned, floor)
  await readAll(app)

  for (const row of rows) app.database[row]!++
  for (const [i, cell] of cells.entries()) app.processes[i % app.processes.length]!.invalidate(cell, false)
  app.pending.length = 0
  await app.pass(500)
  assertQuiet(app, 'after the last invalidation')
  if (app.pending.length > 0) throw new Error(`${app.pending[0]!.floor.why} is pending, though all is well`)
  app.isOver = true
  await readAll(app)
  await readAll(app)

  const closed = Promise.all(app.processes.map(async ({ hub, manager }) => await hub.run(() => manager.close())))
  let isClosed = false
  void closed.then(() => { isClosed = true })
  await app.pass(500, () => isClosed)
  if (!isClosed) throw new Error('closing does not end')
}

async function readAll (app: Application): Promise<void> {
  for (const process of app.processes) for (const cell of cells) process.read(cell, false)
  await app.pass(500)
  assertQuiet(app, 'at the end')
}

function assertQuiet (app: Application, when: string): void {
  if (app.underWay.size > 0) throw new Error(`${when} there are still: ${[...app.underWay].join(', ')}`)
}

async function run (setting: Setting, steps: readonly Step[], prepare = async (_app: Application): Promise<void> => {}): Promise<void> {
  const app = new Application(setting)
  await prepare(app)
  for (const step of steps) {
    await take(step, app)
    await app.pass(0)
  }
  await end(app)
}

/** Leaves out what can be left out of a failing list of steps, so that what is told is short and comes soon. */
async function shorten (steps: readonly Step[], fails: (steps: readonly Step[]) => Promise<boolean>): Promise<readonly Step[]> {
  let shortest = steps
  for (let size = steps.length >> 1; size >= 1; size >>= 1) {
    for (let at = 0; at < shortest.length;) {
      const shorter = shortest.toSpliced(at, size)
      if (await fails(shorter)) shortest = shorter
      else at += size
    }
  }
  return shortest
}

async function assertAlways (steps: readonly fc.WeightedArbitrary<Step>[], run: (setting: Setting, steps: readonly Step[]) => Promise<void>): Promise<void> {
  const some = fc.array(fc.oneof(...steps), { minLength: 10, maxLength: 60, size: 'max' })
  await fc.assert(fc.asyncProperty(settingOf, some, async (setting, steps) => {
    try {
      await run(setting, steps)
    } catch {
      const shortest = await shorten(steps, async steps => await run(setting, steps).then(() => false, () => true))
      const error = await run(setting, shortest).then(() => undefined, error => error)
      throw new Error(`${error?.message}\n${fc.stringify(setting)}\n${shortest.map(step => fc.stringify(step)).join('\n')}`)
    }
  }), {
    numRuns: Number(process.env['MODEL_RUNS'] ?? 40),
    ...process.env['MODEL_SEED'] !== undefined && { seed: Number(process.env['MODEL_SEED']), path: process.env['MODEL_PATH'] ?? '' },
    endOnFailure: true
  })
}

t.test('whatever is invalidated, and whatever fails, no read gets what is too old, and none waits for ever', async t => {
  simulateTime(t)
  await assertAlways([...reading, ...passing, ...ageing, ...writing, ...failing], run)
})

t.test('whatever is invalidated while nothing fails, no read gets what is too old', async t => {
  simulateTime(t)
  await assertAlways([...reading, ...passing, ...ageing, ...writing], run)
})

t.test('while nothing is invalidated, a key is loaded once at a time: in a process, and with a lock in all', async t => {
  simulateTime(t)
  await assertAlways([...reading, ...passing, ...ageing], async (setting, steps) => {
    await run({ ...setting, lockWait: 20_000 }, steps, async app => {
      await app.pass(1000) // until memory is trusted
      app.mayLoad = (one, other) => one !== other && !setting.lock
    })
  })
})
