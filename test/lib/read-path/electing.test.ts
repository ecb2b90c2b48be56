import t, { type Test } from 'tap'
import { Copying } from '../../../lib/read-path/copying.js'
import type { Elected } from '../../../lib/dogpile/elected.js'
import { newsOf } from '../../../lib/dogpile/news.js'
import { Electing, type ElectingOptions } from '../../../lib/read-path/electing.js'
import { Flight } from '../../../lib/read-path/flight.js'
import { FlightsUnderWay } from '../../../lib/read-path/flights-under-way.js'
import { Joining } from '../../../lib/read-path/joining.js'
import { Keyspace } from '../../../lib/keys.js'
import { noTrip } from '../../../lib/read-path/landed.js'
import type { Loading } from '../../../lib/read-path/loading.js'
import { Looking } from '../../../lib/read-path/looking.js'
import { msgpackSerializer } from '../../../lib/serializer.js'
import type { Policy, Source } from '../../../lib/read-path/source.js'
import { StaleValues } from '../../../lib/read-path/stale-values.js'
import type { Claim, ClaimOptions } from '../../../lib/tiers/lease.js'
import { SharedTier } from '../../../lib/tiers/shared-tier.js'
import type { Want } from '../../../lib/read-path/want.js'
import { dogpileOf, type FakeLocks } from '../../helpers/dogpile.js'
import { gate, silentLogger, type Gate } from '../../helpers/doubles.js'
import { onThreeMethods } from '../../helpers/places.js'
import { clock, entryOf, load } from '../../helpers/shared-tiers.js'

const policy: Policy = { ttl: 1000, grace: 0, negativeTtl: undefined, shouldCache: undefined }
const keyspace = new Keyspace('app', 'objects')
const keyOf = (id: string) => keyspace.entry('k', id)
const lockOf = (id: string) => keyspace.lock(keyOf(id))
const idOf = (key: string) => key.split(':').at(-1)!
const sourceOf = (maxBatch = 100): Source => ({ maxBatch, load: async () => [] })
const rows = sourceOf()

/** A tier that writes down what is claimed in it. */
class ClaimedTier extends SharedTier {
  readonly claims: (readonly [keys: string, takeOver: boolean])[] = []
  isAway = false
  /** Happens before a claim. */
  before = async (): Promise<void> => {}

  override get away (): boolean {
    return this.isAway
  }

  override async claimMany (keys: readonly string[], options: ClaimOptions): Promise<Claim[]> {
    await this.before()
    this.claims.push([keys.map(idOf).join(' '), options.takeOver === true])
    return await super.claimMany(keys, options)
  }
}

function tierOf (t: Test): ClaimedTier {
  const tier = new ClaimedTier({ backend: onThreeMethods().raw, keyspace, serializer: msgpackSerializer, timeout: 10_000, logger: silentLogger(), now: clock.now })
  t.teardown(() => tier.close())
  return tier
}

interface SetUp extends Partial<ElectingOptions> {
  tiers?: readonly ClaimedTier[]
  hardTimeout?: number
}

/** Flights of a process, what its loaders are called with, and what comes of it. A load brings the key's own id. */
function setUp (t: Test, { tiers = [tierOf(t)], hardTimeout, ...options }: SetUp = {}) {
  const calls: { readonly keys: string, readonly source: Source, readonly elected: Elected | undefined, readonly leases: Flight['leases'][] }[] = []
  const got: string[] = []
  const flights = new FlightsUnderWay()
  const isTrusted = () => true
  const stale = new StaleValues({ region: 'objects', options: { refresh: 'inline', softTimeout: undefined, hardTimeout }, flights, logger: silentLogger(), now: clock.now })
  const joining = new Joining({ flights, stale, isTrusted, now: clock.now })
  const looking = new Looking({ tiers, origins: tiers.map(({ name }) => ({ tier: name })), flights, copying: new Copying(tiers, async work => { await work }), isTrusted, now: clock.now })
  const work = { done: Promise.resolve() }
  const loading = {
    call: async (source: Source, members: readonly Flight[], elected: Elected | undefined) => {
      calls.push({ keys: members.map(({ key }) => idOf(key)).join(' '), source, elected, leases: members.map(({ leases }) => leases) })
      await work.done
      for (const flight of members) looking.arrive(flight, { shared: entryOf(idOf(flight.key)), origin: 'loaded', stale: false, trip: noTrip })
    }
  } as unknown as Loading
  const electing = new Electing({
    keyspace,
    tiers,
    dogpile: undefined,
    joining,
    stale,
    looking,
    loading,
    generation: () => undefined,
    leaseTtl: 60_000,
    isLockInOrder: false,
    track: async work => await work,
    ...options
  })
  const take = (id: string, { source = rows, ...more }: Partial<Want> & { source?: Source } = {}) => {
    const flight = new Flight({ key: keyOf(id), maxAge: undefined, load: { source, policy }, isRefresh: false, ...more }, undefined, {
      land: ({ shared, origin }) => { got.push(`${id}: ${String(shared.value)}, ${typeof origin === 'string' ? origin : 'found'}`) },
      fail: reason => { got.push(`${id}: ${(reason as Error).message}`) }
    })
    if (flights.get(flight.key) === undefined) flights.addJoinable(flight)
    else flights.addUnjoinable(flight)
    return flight
  }
  return { electing, tier: tiers[0]!, calls, got, flights, take, work, called: () => calls.map(({ keys }) => keys) }
}

/** Holds back what a lock answers. */
function holdBack (t: Test, locks: FakeLocks): Gate {
  const answer = gate()
  const { acquire } = locks
  t.intercept(locks, 'acquire', {
    value: async (...asked: Parameters<typeof acquire>) => {
      await answer.opened
      return await acquire.apply(locks, asked)
    }
  })
  return answer
}

const foundStale = (flight: Flight) => { flight.stale = { entry: { ...entryOf('old'), freshUntil: clock.now() }, origin: { tier: 'bare' } } }

// ─── without an election ─────────────────────────────────────────────────────────────────────────

t.test('what is missing is claimed, and then loaded', async t => {
  const { electing, tier, calls, got, take } = setUp(t)
  await electing.load([take('a'), take('b')])
  t.strictSame(tier.claims, [['a b', false]])
  t.match(calls, [{ keys: 'a b', source: rows, elected: undefined, leases: [[{ stamp: {} }], [{ stamp: {} }]] }], 'with the right to fill')
  t.strictSame(got, ['a: a, loaded', 'b: b, loaded'])
  await electing.load([])
  t.equal(calls.length, 1)
})

t.test('each source is called for itself, with no more than it takes', async t => {
  const { electing, calls, take } = setUp(t)
  const pairs = sourceOf(2)
  await electing.load([take('a', { source: pairs }), take('x'), take('b', { source: pairs }), take('c', { source: pairs }), take('y')])
  t.strictSame(calls.map(({ keys, source }) => [keys, source === pairs]), [['a b', true], ['x y', false], ['c', true]])
})

t.test('nothing is claimed where the look on the way has given each flight the right to fill', async t => {
  const { electing, tier, called, take } = setUp(t)
  const [a, b] = [take('a'), take('b')]
  const { lease } = await tier.lookMany([a.key, b.key], true)
  a.leases = [lease(0)]
  b.leases = [lease(1)]
  await electing.load([a, b])
  t.strictSame(tier.claims, [])
  const [c, d] = [take('c'), take('d')]
  c.leases = [lease(0)]
  d.leases = [undefined]
  await electing.load([c, d])
  t.strictSame(tier.claims, [['c d', false]], 'each of them')
  t.strictSame(called(), ['a b', 'c d'])
})

t.test('what another process has filled meanwhile is not loaded', async t => {
  const { electing, tier, called, got, take } = setUp(t)
  await load(tier, keyOf('a'), 'theirs')
  await electing.load([take('a'), take('b')])
  t.strictSame(called(), ['b'])
  t.strictSame(got, ['a: theirs, found', 'b: b, loaded'])
})

t.test('what another process has filled a farther tier with is not loaded either, and copied into the nearer one', async t => {
  const [near, far] = [tierOf(t), tierOf(t)]
  const { electing, called, take } = setUp(t, { tiers: [near, far] })
  const flight = take('a')
  await load(far, flight.key, 'theirs')
  await electing.load([flight])
  t.strictSame(called(), [])
  await new Promise(setImmediate) // it is copied when its reader has it
  t.match(await near.readMany([flight.key]), [{ value: 'theirs' }])
})

t.test('what is wanted anew is loaded whatever the tiers hold, and the right to fill is taken from others', async t => {
  const { mine, locks } = dogpileOf(t)
  const { electing, tier, called, got, take } = setUp(t, { dogpile: mine })
  await load(tier, keyOf('a'), 'old')
  tier.claims.length = 0
  await electing.load([take('a', { isRefresh: true })])
  t.strictSame(tier.claims, [['a', true]])
  t.strictSame([called(), got], [['a'], ['a: a, loaded']])
  t.strictSame(locks.asked, [], 'no other process can do that')
})

t.test('what was invalidated on its way is loaded without an election, as if it began now', async t => {
  const { mine, locks } = dogpileOf(t)
  const { electing, tier, called, take } = setUp(t, { dogpile: mine })
  const flight = take('a')
  flight.leases = [{ stamp: { epoch: 0, softened: 0, tagged: 0, deleted: 0 }, held: undefined }]
  flight.revoke('invalidation')
  await electing.load([flight])
  t.strictSame([locks.asked, called()], [[], ['a']])
  t.equal(flight.revoked, false)
  t.strictSame(tier.claims, [['a', false]], 'what it saw before is no right any more')
})

t.test('two flights of a key are one load', async t => {
  const { electing, called, got, take } = setUp(t)
  await electing.load([take('a'), take('a')])
  t.strictSame(called(), ['a'])
  t.strictSame(got.toSorted(), ['a: a, loaded', 'a: a, waited'])
})

t.test('a tier that is away is not asked for a claim, unless something is loaded anew', async t => {
  const [near, far] = [tierOf(t), tierOf(t)]
  const { electing, calls, take } = setUp(t, { tiers: [near, far] })
  near.isAway = true
  await electing.load([take('a')])
  t.strictSame([near.claims, far.claims], [[], [['a', false]]])
  t.match(calls[0]!.leases, [[undefined, { stamp: {} }]])
  await electing.load([take('b', { isRefresh: true })])
  t.strictSame(near.claims, [['b', true]])
})

t.test('a tier that is away needs no right to fill', async t => {
  const [near, far] = [tierOf(t), tierOf(t)]
  const { electing, called, take } = setUp(t, { tiers: [near, far] })
  near.isAway = true
  const flight = take('a')
  flight.leases = [undefined, (await far.lookMany([flight.key], true)).lease(0)]
  await electing.load([flight])
  t.strictSame([far.claims, called()], [[], ['a']])
})

t.test('who has found something stale gets that while it is loaded, but for the one for whom it takes off', async t => {
  const { electing, got, take } = setUp(t)
  const flight = take('a')
  foundStale(flight)
  flight.join({ land: ({ shared }) => { got.push(`another: ${String(shared.value)}`) }, fail: () => {} })
  await electing.load([flight])
  t.strictSame(got, ['another: old', 'a: a, loaded'])
})

t.test('waiters wait no longer than they may, and no timer is left behind', async t => {
  const timers = new Map<number, () => void>() // by their milliseconds
  t.intercept(globalThis, 'setTimeout', { value: (goOff: () => void, milliseconds: number) => { timers.set(milliseconds, goOff); return milliseconds } })
  t.intercept(globalThis, 'clearTimeout', { value: (milliseconds: number) => { timers.delete(milliseconds) } })
  const { electing, got, take, work } = setUp(t, { tiers: [], hardTimeout: 100 })
  const loading = gate()
  work.done = loading.opened
  const loaded = electing.load([take('a')])
  timers.get(100)!()
  t.match(got, [/^a: .*100 ms/])
  loading.open()
  await loaded
  t.equal(timers.size, 0)
})

// ─── with an election ────────────────────────────────────────────────────────────────────────────

t.test('who is elected looks from behind the lock, loads, and lets go', async t => {
  const { mine, locks } = dogpileOf(t)
  const { electing, tier, calls, got, take } = setUp(t, { dogpile: mine })
  const held: number[] = []
  tier.before = async () => { held.push(locks.holders.size) }
  await electing.load([take('a'), take('b')])
  t.strictSame(locks.asked.map(({ names }) => names), [[lockOf('a'), lockOf('b')]])
  t.strictSame(tier.claims, [['a b', false]])
  t.strictSame(calls.map(({ keys, elected }) => [keys, elected?.names]), [['a b', [lockOf('a'), lockOf('b')]]])
  t.strictSame(held, [2])
  t.strictSame(got, ['a: a, loaded', 'b: b, loaded'])
  t.equal(locks.holders.size, 0)
})

for (const isLockInOrder of [false, true]) {
  t.test(`${isLockInOrder ? 'where one connection keeps the order, the claim does not wait' : 'the claim waits'} for the lock’s answer`, async t => {
    const { mine, locks, settle } = dogpileOf(t)
    const answer = holdBack(t, locks)
    const { electing, tier, called, take } = setUp(t, { dogpile: mine, isLockInOrder })
    const loaded = electing.load([take('a')])
    await settle()
    t.strictSame(tier.claims, isLockInOrder ? [['a', false]] : [])
    answer.open()
    await loaded
    t.strictSame([tier.claims, called()], [[['a', false]], ['a']], 'and is the only one')
  })
}

t.test('what is invalidated while the lock is asked for is claimed once more', async t => {
  const { mine, locks, settle } = dogpileOf(t)
  const answer = holdBack(t, locks)
  const { electing, tier, calls, take } = setUp(t, { dogpile: mine, isLockInOrder: true })
  const flight = take('a')
  const loaded = electing.load([flight])
  await settle()
  flight.revoke('invalidation')
  answer.open()
  await loaded
  t.strictSame(tier.claims, [['a', false], ['a', false]])
  t.equal(flight.revoked, false, 'the load began later')
  t.equal(calls.length, 1)
})

t.test('what is found from behind the lock is not loaded, and the lock is free again', async t => {
  const { mine, locks } = dogpileOf(t)
  const { electing, tier, called, got, take } = setUp(t, { dogpile: mine })
  tier.before = async () => {
    tier.before = async () => {}
    await load(tier, keyOf('a'), 'theirs')
  }
  await electing.load([take('a')])
  t.strictSame([called(), got, locks.holders.size], [[], ['a: theirs, found'], 0])
})

t.test('one call of a loader is one lock: a slow one holds up no other', async t => {
  const { mine, locks } = dogpileOf(t)
  const { electing, take } = setUp(t, { dogpile: mine })
  await electing.load([take('a'), take('x', { source: sourceOf() }), take('b')])
  t.strictSame(locks.asked.map(({ names }) => names), [[lockOf('a'), lockOf('b')], [lockOf('x')]])
})

for (const isLockInOrder of [false, true]) {
  t.test(`keys that others load are waited for, while the rest is loaded${isLockInOrder ? ', where one connection keeps the order, too' : ''}`, async t => {
    const { mine, locks } = dogpileOf(t)
    const { electing, tier, called, got, take } = setUp(t, { dogpile: mine, isLockInOrder })
    locks.hold([lockOf('b')])
    await load(tier, keyOf('b'), 'theirs')
    tier.claims.length = 0
    await electing.load([take('a'), take('b')])
    t.strictSame(called(), ['a'])
    t.strictSame(got.toSorted(), ['a: a, loaded', 'b: theirs, waited'])
    t.strictSame(tier.claims.at(-1), ['a', false], 'from behind the lock that is held')
    t.strictSame([...locks.holders.keys()], [lockOf('b')])
  })
}

t.test('what others load, and we have something stale of, is not waited for', async t => {
  const { mine, locks, line } = dogpileOf(t)
  const { electing, got, flights, take } = setUp(t, { dogpile: mine })
  locks.hold([lockOf('a')])
  const flight = take('a')
  foundStale(flight)
  await electing.load([flight])
  t.strictSame([got, flights.of(flight.key)], [['a: old, found'], []])
  t.equal(line.stopped, 0, 'nobody has listened')
})

t.test('a load that fails elsewhere fails here', async t => {
  const { mine, locks, line, settle } = dogpileOf(t)
  const { electing, called, got, take } = setUp(t, { dogpile: mine })
  locks.hold([lockOf('a')])
  const loaded = electing.load([take('a')])
  await settle()
  line.say(JSON.stringify(newsOf([lockOf('a')], { kind: 'failed', error: new Error('no database') })))
  await loaded
  t.strictSame([called(), got], [[], ['a: no database']])
})

t.test('what another process has let go without a value is loaded here, and what others still load is not', async t => {
  const { mine, locks, line, settle } = dogpileOf(t)
  const { electing, tier, calls, got, take } = setUp(t, { dogpile: mine })
  const first = locks.hold([lockOf('a')])
  locks.hold([lockOf('b')])
  const loaded = electing.load([take('a'), take('b')])
  const hear = async (id: string) => {
    line.say(JSON.stringify(newsOf([lockOf(id)], { kind: 'done' })))
    await settle()
  }
  await settle()
  t.strictSame(got, [])
  await first.release()
  await hear('a')
  t.strictSame(calls.map(({ keys, elected }) => [keys, elected?.names]), [['a', [lockOf('a')]]])
  await load(tier, keyOf('b'), 'theirs')
  await hear('b')
  await loaded
  t.strictSame(got, ['a: a, loaded', 'b: theirs, waited'])
})

t.test('a load that is invalidated leaves its key to others at once', async t => {
  const { mine, locks, line, settle } = dogpileOf(t)
  const { electing, take, work } = setUp(t, { dogpile: mine })
  const [a, b] = [take('a'), take('b')]
  const loading = gate()
  work.done = loading.opened
  const loaded = electing.load([a, b])
  await settle()
  a.yield!()
  await settle()
  t.strictSame([...locks.holders.keys()], [lockOf('b')])
  t.match(line.sent, [{ message: { names: [lockOf('a')], outcome: 'done' } }])
  loading.open()
  await loaded
  t.equal(locks.holders.size, 0)
})

t.test('the lock is free again though something is broken', async t => {
  const { mine, locks } = dogpileOf(t)
  const error = new Error('a bug')
  const { electing, take } = setUp(t, { dogpile: mine, loading: { call: async () => { throw error } } as unknown as Loading })
  await t.rejects(electing.load([take('a')]), error)
  t.equal(locks.holders.size, 0)
})

t.test('where no tier answers, each process loads for itself', async t => {
  const { mine, locks } = dogpileOf(t)
  const { electing, tier, called, take } = setUp(t, { dogpile: mine })
  tier.isAway = true
  await electing.load([take('a')])
  t.strictSame([locks.asked, called()], [[], ['a']])
})
