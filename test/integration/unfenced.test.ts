import t, { type Test } from 'tap'
import { CachingManager } from '../../lib/caching-manager.js'
import { cachedObject, loadMany, loadOne } from '../../lib/cached-object.js'
import type { InvalidationBus } from '../../lib/line.js'
import type { RegionOptions } from '../../lib/region-options.js'
import type { Backend, BackendEntry } from '../../lib/backends/backend.js'
import { memory } from '../../lib/backends/memory.js'
import { echoingLine, eventually, gate, silentLogger, type Gate } from '../helpers/doubles.js'

/*
 * A backend of three methods refuses nothing that comes too late. What one process does, it brings into an order itself: what
 * was set, or forgotten, last is what readers find when all is over, whatever the backend takes for each command.
 */

/** Behind it a Map. The test holds up writes of some keys, and reads. */
class SlowBackend implements Backend {
  readonly name: string
  readonly #kept = new Map<string, Uint8Array>()
  readonly #held: { readonly part: string, readonly begun: Gate, readonly end: Gate }[] = []
  /** What was written, and what was deleted, in order. */
  readonly changes: string[] = []
  /** Called when a key is read; what it returns holds up the answer. */
  whenRead: (key: string) => Gate | undefined = () => undefined

  constructor (name = 'slow') {
    this.name = name
  }

  /** Holds up the next write of a key that ends so. */
  hold (part: string): { readonly begun: Gate, readonly end: Gate } {
    const held = { part, begun: gate(), end: gate() }
    this.#held.push(held)
    return held
  }

  /** As an eviction does. */
  evict (part: string): void {
    for (const key of this.#kept.keys()) if (key.endsWith(part)) this.#kept.delete(key)
  }

  async getMany (keys: readonly string[]): Promise<(Uint8Array | undefined)[]> {
    const found = keys.map(key => this.#kept.get(key))
    for (const key of keys) await this.whenRead(key)?.opened
    return found
  }

  async setMany (entries: readonly BackendEntry[]): Promise<void> {
    const at = this.#held.findIndex(({ part }) => entries.some(({ key }) => key.endsWith(part)))
    const [held] = at === -1 ? [] : this.#held.splice(at, 1)
    held?.begun.open()
    await held?.end.opened
    for (const { key, value } of entries) {
      this.changes.push(`set ${key}`)
      this.#kept.set(key, value)
    }
  }

  async deleteMany (keys: readonly string[]): Promise<void> {
    for (const key of keys) {
      this.changes.push(`delete ${key}`)
      this.#kept.delete(key)
    }
  }
}

const row = (name: string) => ({ id: 1, name })

/** `found`: what the database has. A row that is found by its name comes along for its id; `byName` holds up that load. */
function peopleOf (t: Test, tiers: RegionOptions['tiers'], options: Omit<Partial<RegionOptions>, 'tiers'> = {}, logger = silentLogger(), bus?: InvalidationBus) {
  const database = { found: row('old'), begun: gate(), byName: gate() }
  const Person = cachedObject({
    name: 'Person',
    region: 'people',
    methods: {
      byId: loadMany({ load: (_context, ids: readonly number[]) => ids.map(id => ({ ...database.found, id })), idOf: ({ id }) => id }),
      byName: loadOne(async (_context, _name: string) => {
        const { found } = database
        database.begun.open()
        await database.byName.opened
        return found
      }, { primes: { byId: ({ id }) => [id] } })
    }
  })
  const manager = new CachingManager({ logger, ...bus !== undefined && { bus }, regions: { people: { tiers, ttl: '1h', jitter: 0, tierTimeout: '20s', ...options } } })
  t.teardown(() => manager.close())
  const read = async () => await manager.createApi().get(Person, 'byId', [1])
  return { database, Person, manager, read, region: manager.region('people') }
}

/** Whatever was to happen without a gate has happened. */
async function settle (): Promise<void> {
  for (let turn = 0; turn < 20; turn++) await new Promise(setImmediate)
}

t.test('a value that is set is not replaced by an older one whose write takes longer', async t => {
  const backend = new SlowBackend()
  const { region, manager } = peopleOf(t, [backend])
  const write = backend.hold(':one')
  await region.getOrCreate('one', () => 'old')
  await write.begun.opened
  const set = region.set('one', 'new')
  await settle()
  write.end.open()
  await set
  await manager.idle()
  t.equal(await region.get('one'), 'new')
})

t.test('of two sets the later one stays, though the backend tells of the key later to the earlier one', async t => {
  for (const tiers of [[new SlowBackend()], [new SlowBackend('near'), new SlowBackend('far')]] as const) {
    const { region, manager } = peopleOf(t, tiers)
    await region.set('another', 'value')
    const isLate = gate()
    const reads: string[] = []
    tiers[0].whenRead = key => key.endsWith(':one') && reads.push(key) === 1 ? isLate : undefined
    let isFirstOver = false
    const first = region.set('one', 'first').then(() => { isFirstOver = true })
    await settle()
    await region.set('one', 'second')
    t.equal(isFirstOver, false)
    isLate.open()
    await first
    await manager.idle()
    t.equal(await region.get('one'), 'second')
  }
})

t.test('of two sets in one tick the later one stays in every tier', async t => {
  for (const tiers of [[new SlowBackend()], [new SlowBackend('near'), new SlowBackend('far')]] as const) {
    const { region, manager } = peopleOf(t, tiers)
    await region.set('another', 'value')
    await Promise.all([region.set('one', 'first'), region.set('one', 'second')])
    await manager.idle()
    t.equal(await region.get('one'), 'second')
  }
})

t.test('a set resolves when the later one that has taken its place is there', async t => {
  const backend = new SlowBackend()
  const { region } = peopleOf(t, [backend])
  await region.set('one', 'old')
  const write = backend.hold(':one')
  let isFirstOver = false
  const first = region.set('one', 'first').then(() => { isFirstOver = true })
  const second = region.set('one', 'second')
  await write.begun.opened
  await settle()
  t.equal(isFirstOver, false)
  write.end.open()
  await first
  t.equal(await region.get('one'), 'second')
  await second
})

t.test('a set that lands after its key was invalidated is not read, though the tier could not be told to forget it', async t => {
  const [near, far] = [new SlowBackend('near'), new SlowBackend('far')]
  const { region } = peopleOf(t, [near, far])
  await region.set('another', 'value')
  const write = far.hold(':one')
  const isLate = gate()
  near.whenRead = key => key.endsWith(':one') ? isLate : undefined
  const set = region.set('one', 'older')
  await write.begun.opened
  const { setMany } = far
  far.setMany = async () => { throw new Error('the connection is lost') }
  await t.rejects(region.delete('one'), { code: 'FST_CACHING_API_INVALIDATION_PENDING' })
  write.end.open()
  await settle()
  near.whenRead = () => undefined
  t.equal(await region.get('one'), undefined)
  far.setMany = setMany
  isLate.open()
  await set
  t.equal(await region.get('one'), undefined)
})

t.test('a refresh that can not be written leaves nothing old', async t => {
  const backend = new SlowBackend()
  const { database, manager, Person, read } = peopleOf(t, [backend])
  t.match(await read(), { name: 'old' })
  await manager.idle()
  database.found = row('new')
  const { setMany } = backend
  backend.setMany = async entries => {
    if (!entries.some(({ key }) => key.includes('byId'))) return await setMany.call(backend, entries)
    backend.setMany = setMany
    throw new Error('the connection is lost')
  }
  t.match(await manager.createApi().refresh(Person, 'byId', [1]), { name: 'new' })
  t.match(await read(), { name: 'new' })
})

t.test('a stale value of which a reload keeps nothing is served once, with a lock and without', async t => {
  for (const lock of [undefined, { acquire: async () => ({ token: '1', extend: async () => true, release: async () => {} }) }]) {
    let now = 1e12
    const manager = new CachingManager({ logger: silentLogger(), now: () => now, ...lock !== undefined && { lock }, regions: { people: { tiers: [new SlowBackend()], ttl: 1000, grace: '1h', jitter: 0 } } })
    t.teardown(() => manager.close())
    const region = manager.region('people')
    const read = async (found: string | null) => {
      const value = await region.getOrCreate('one', () => found, { shouldCache: value => value !== null })
      await manager.idle()
      return value
    }
    t.equal(await read('old'), 'old')
    now += 2000
    t.equal(await read(null), 'old')
    t.equal(await read(null), null)
  }
})

t.test('a write that is never answered takes nothing else away', async t => {
  const backend = new SlowBackend()
  const logger = silentLogger()
  const { region } = peopleOf(t, [backend], { tierTimeout: 40 }, logger)
  const write = backend.hold(':one')
  await region.getOrCreate('one', () => 'old')
  await write.begun.opened
  await t.rejects(region.delete('one'), { code: 'FST_CACHING_API_INVALIDATION_PENDING' })
  for (let i = 0; i < 10; i++) {
    await t.rejects(region.delete('one'), { code: 'FST_CACHING_API_INVALIDATION_PENDING' })
    await region.set('another', i)
    t.equal(await region.get('another'), i)
  }
  await region.set('one', 'new')
  t.equal(await region.get('one'), 'new')
  t.match(logger.lines.warn, [{ message: /^a tier could not be told to forget something/ }])
  t.equal(logger.lines.warn.length, 1, 'the tier is not away')
  write.end.open()
  await eventually(t, async () => (await region.get('one')) === undefined, 'what came last is forgotten')
})

t.test('an older write that hung, and ends after a newer one, leaves nothing', async t => {
  for (const error of [undefined, new Error('refused')]) {
    const backend = new SlowBackend()
    const { region, manager } = peopleOf(t, [backend])
    const write = backend.hold(':one')
    await region.getOrCreate('one', () => 'old')
    await write.begun.opened
    const { now } = performance
    const restore = t.intercept(performance, 'now', { value: () => now.call(performance) + 20_001 })
    await region.set('one', 'new')
    t.equal(await region.get('one'), 'new')
    const { deleteMany } = backend
    if (error !== undefined) backend.deleteMany = async () => { throw error }
    write.end.open()
    await manager.idle()
    await settle()
    t.equal(await region.get('one'), undefined)
    if (error !== undefined) {
      backend.deleteMany = deleteMany
      await eventually(t, () => backend.changes.at(-1)?.startsWith('delete '), 'it is deleted later')
    }
    restore()
  }
})

t.test('who has read what an older write has left too late is told to forget it', async t => {
  const [near, far] = [new SlowBackend('near'), new SlowBackend('far')]
  const [begun, landing, answering] = [gate(), gate(), gate()]
  let writes = 0
  const late: Backend = {
    name: 'far',
    getMany: keys => far.getMany(keys),
    setMany: async entries => {
      const isFirst = entries.some(({ key }) => key.endsWith(':one')) && writes++ === 0
      if (isFirst) begun.open()
      if (isFirst) await landing.opened
      await far.setMany(entries)
      if (isFirst) await answering.opened
    },
    deleteMany: keys => far.deleteMany(keys)
  }
  const { line: bus } = echoingLine()
  const ours = peopleOf(t, [near, late], { tierTimeout: 40 }, silentLogger(), bus)
  const theirs = peopleOf(t, [memory(), near, far], {}, silentLogger(), bus)
  await theirs.manager.ready()
  await ours.region.getOrCreate('one', () => 'old')
  await begun.opened
  await ours.region.set('one', 'new')
  near.evict(':one')
  landing.open()
  await settle() // the old value is there, though nobody has said so
  t.equal(await theirs.region.get('one'), 'old')
  await theirs.manager.idle()
  far.evict(':one')
  t.equal(await theirs.region.get('one'), 'old', 'it is kept')
  answering.open()
  await eventually(t, async () => (await theirs.region.get('one')) === undefined, 'neither memory nor the nearer tier has it')
})

t.test('a row that came along is not put where its key is being deleted since before the load ended', async t => {
  const backend = new SlowBackend()
  const { database, manager, Person, read } = peopleOf(t, [backend])
  await manager.createApi().get(Person, 'byId', [2]) // there is a stamp
  await manager.idle()
  const [stamp, primed] = [backend.hold(':deleted'), backend.hold(':1')]
  const loaded = manager.createApi().get(Person, 'byName', ['x'])
  await database.begun.opened
  database.found = row('new')
  const invalidated = manager.createApi().invalidate(Person, 'byId', [1])
  await stamp.begun.opened
  database.byName.open()
  await loaded
  await settle()
  stamp.end.open()
  await invalidated
  primed.end.open()
  await manager.idle()
  t.match(await read(), row('new'))
})

t.test('a row that came along is not put where another row is being set', async t => {
  const backend = new SlowBackend()
  const { database, manager, Person, read } = peopleOf(t, [backend])
  await manager.createApi().get(Person, 'byId', [2])
  await manager.idle()
  const write = backend.hold(':1')
  const loaded = manager.createApi().get(Person, 'byName', ['x'])
  await database.begun.opened
  const set = manager.createApi().set(Person, 'byId', [1], row('new'))
  await write.begun.opened
  database.byName.open()
  await loaded
  await settle()
  write.end.open()
  await set
  await manager.idle()
  t.match(await read(), row('new'))
})

t.test('a row that came along is kept where nothing has changed meanwhile', async t => {
  const { database, manager, Person, read } = peopleOf(t, [new SlowBackend()])
  await manager.createApi().get(Person, 'byId', [2])
  database.byName.open()
  await manager.createApi().get(Person, 'byName', ['x'])
  await manager.idle()
  database.found = row('not asked for')
  t.match(await read(), row('old'))
})

t.test('what is copied from a farther tier is not put where a value was set since', async t => {
  const [near, far] = [new SlowBackend('near'), new SlowBackend('far')]
  const { region, manager } = peopleOf(t, [near, far])
  await region.set('k', 'old')
  near.evict(':k')
  const [copying, late] = [gate(), gate()]
  let reads = 0
  far.whenRead = key => {
    if (!key.endsWith(':k') || ++reads < 2) return undefined
    copying.open()
    return late
  }
  t.equal(await region.get('k'), 'old')
  await copying.opened
  far.whenRead = () => undefined
  await region.set('k', 'new')
  late.open()
  await manager.idle()
  t.equal(await region.get('k'), 'new')
})

t.test('what is copied from a farther tier is not put where a value is being set', async t => {
  const [near, far] = [new SlowBackend('near'), new SlowBackend('far')]
  const { region, manager } = peopleOf(t, [near, far])
  await region.set('k', 'old')
  near.evict(':k')
  const write = near.hold(':k')
  const set = region.set('k', 'new')
  await write.begun.opened
  const before = near.changes.length
  t.equal(await region.get('k'), 'new', 'the farther one has it already')
  await settle() // the copy would wait for nothing but that write
  t.equal(near.changes.length, before)
  write.end.open()
  await set
  await manager.idle()
  t.equal(await region.get('k'), 'new')
})

t.test('what is copied from a farther tier while a new value can not be written to the nearer one is forgotten', async t => {
  for (const change of ['set', 'refresh'] as const) {
    const [near, far] = [new SlowBackend('near'), new SlowBackend('far')]
    const { region, manager } = peopleOf(t, [near, far])
    const wrapped = region.wrap('k', () => 'new')
    await wrapped.set('old')
    const { setMany } = near
    near.setMany = async entries => {
      if (!entries.some(({ key }) => key.endsWith('()'))) return await setMany.call(near, entries)
      near.setMany = setMany
      throw new Error('the connection is lost')
    }
    const write = far.hold('()')
    const changed = change === 'set' ? wrapped.set('new') : wrapped.refresh()
    await write.begun.opened
    await settle()
    t.equal(await wrapped(), 'old')
    await settle()
    write.end.open()
    await changed
    await manager.idle()
    t.equal(await wrapped(), 'new')
  }
})

t.test('where a value is lost to a deletion for an earlier one, which the nearer tier could not take, no older copy takes its place', async t => {
  const [near, far] = [new SlowBackend('near'), new SlowBackend('far')]
  const { region, manager } = peopleOf(t, [near, far])
  const { setMany, deleteMany } = near
  near.setMany = async entries => {
    if (!entries.some(({ key }) => key.endsWith(':k'))) return await setMany.call(near, entries)
    near.setMany = setMany
    throw new Error('the connection is lost')
  }
  const late = { begun: gate(), end: gate() }
  near.deleteMany = async keys => {
    late.begun.open()
    await late.end.opened
    await deleteMany.call(near, keys)
  }
  const first = region.set('k', 'old')
  await late.begun.opened
  const write = far.hold(':k')
  const second = region.set('k', 'new')
  await write.begun.opened
  await settle()
  late.end.open()
  await settle()
  await region.getOrCreate('k', () => 'created')
  await settle()
  write.end.open()
  await Promise.all([first, second])
  await manager.idle()
  t.equal(await region.get('k'), 'new')
})

t.test('a key is copied again when what was written there has been evicted', async t => {
  const [near, far] = [new SlowBackend('near'), new SlowBackend('far')]
  const { region, manager } = peopleOf(t, [near, far])
  for (const value of ['one', 'two']) {
    await region.set('k', value)
    near.evict(':k')
    t.equal(await region.get('k'), value)
    await manager.idle()
    far.evict(':k')
    t.equal(await region.get('k'), value, 'the near one has it')
  }
})

t.test('a refresh writes nothing after the invalidation of its key, though another one that departed with it can not be written', async t => {
  const backend = new SlowBackend()
  const encode = (value: unknown) => {
    const text = JSON.stringify(value)
    if (text.includes('"id":2')) throw new Error('this one not')
    return Buffer.from(text)
  }
  const { database, manager, Person, read } = peopleOf(t, [backend], { serializer: { encode, decode: bytes => JSON.parse(Buffer.from(bytes).toString()) as unknown } })
  await manager.createApi().get(Person, 'byId', [3]) // there is a stamp
  await manager.idle()
  const deletion = backend.hold(':deleted')
  const refreshed = [1, 2].map(async id => await manager.createApi().refresh(Person, 'byId', [id]))
  await deletion.begun.opened
  await settle()
  database.found = row('new')
  await manager.createApi().invalidate(Person, 'byId', [1])
  deletion.end.open()
  await Promise.all(refreshed)
  await manager.idle()
  const changes = backend.changes.filter(change => change.endsWith(':1')).map(change => change.split(' ')[0])
  t.strictSame([changes[0], new Set(changes.slice(1))], ['set', new Set(['delete'])])
  t.match(await read(), row('new'))
})
