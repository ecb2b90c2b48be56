import t from 'tap'
import type { Entry } from '../../../lib/entry.js'
import { Flight, WaitingLoader } from '../../../lib/read-path/flight.js'
import { FlightsUnderWay } from '../../../lib/read-path/flights-under-way.js'
import { Joining } from '../../../lib/read-path/joining.js'
import { nobody, noTrip, type Landed } from '../../../lib/read-path/landed.js'
import { LoadCall } from '../../../lib/read-path/load-call.js'
import { StaleValues } from '../../../lib/read-path/stale-values.js'
import { Want } from '../../../lib/read-path/want.js'
import { silentLogger } from '../../helpers/doubles.js'

const stamp = { epoch: 1, softened: 0, tagged: 0, deleted: 0 }
/** Loaded at 0, fresh for a second, and stale for another one. */
const entryOf = (value: unknown): Entry => ({ value, loose: undefined, loadedAt: 0, freshUntil: 1000, staleUntil: 2000, tags: [], stamp })
const loaded = (value: unknown): Landed => ({ shared: entryOf(value), origin: 'loaded', stale: false, trip: noTrip })
const load: Want['load'] = { source: { maxBatch: 100, load: async () => [] }, policy: { ttl: 1000, grace: 1000, negativeTtl: undefined, shouldCache: undefined } }
const error = new Error('no database')

const reader = (more: Partial<Want> = {}) => new Want({ key: 'a', maxAge: undefined, load, ...more })

/** Flights of the key `a` by default, at the time 500, in a process that trusts itself until the test says otherwise. */
function setUp () {
  const time = { now: 500 }
  const trust = { held: true }
  const flights = new FlightsUnderWay()
  const stale = new StaleValues({
    region: 'objects',
    options: { refresh: 'inline', softTimeout: undefined, hardTimeout: 1000 },
    flights,
    logger: silentLogger(),
    now: () => time.now
  })
  const joining = new Joining({ flights, stale, isTrusted: () => trust.held, now: () => time.now })
  /** One that is on its way. Not joinable where another one of its key is. */
  function take (more: Partial<Want> = {}) {
    const got: unknown[] = []
    const flight = new Flight(reader(more), undefined, { land: ({ shared, origin }) => { got.push([shared.value, origin]) }, fail: reason => { got.push(reason) } })
    flight.departed = true
    if (flights.get(flight.key) === undefined) flights.addJoinable(flight)
    else flights.addUnjoinable(flight)
    return { flight, got }
  }
  return { time, trust, flights, stale, joining, take }
}

const foundStale = (flight: Flight) => { flight.stale = { entry: entryOf('old'), origin: { tier: 'redis' } } }

// ─── readers ─────────────────────────────────────────────────────────────────────────────────────

t.test('a reader joins a flight that looks as it would itself, and one that loads whatever it wants', async t => {
  const { joining, take } = setUp()
  const { flight } = take({ maxAge: 100 })
  t.equal(joining.isJoinable(flight, reader({ maxAge: 100 })), true)
  t.equal(joining.isJoinable(flight, reader()), false, 'it may be content with what is too old, or not with what would do')
  flight.loading = true
  t.equal(joining.isJoinable(flight, reader()), true)
})

t.test('nobody who wants a value anew joins', async t => {
  const { joining, take } = setUp()
  const { flight } = take()
  flight.loading = true
  t.equal(joining.isJoinable(flight, reader({ isRefresh: true })), false)
})

t.test('a reader that only looks doesn’t wait for a load, but takes what it has brought', async t => {
  const { joining, take } = setUp()
  const { flight } = take()
  flight.loading = true
  const looks = reader({ load: undefined })
  t.equal(joining.isJoinable(flight, looks), false)
  flight.loaded = true
  flight.entry = entryOf('new')
  t.equal(joining.isJoinable(flight, looks), true)
})

t.test('what was loaded is for whoever asks while it is fresh, but not for one who says how old it may be', async t => {
  const { joining, take, time } = setUp()
  const { flight } = take()
  flight.loading = flight.loaded = true
  t.equal(joining.isJoinable(flight, reader()), false, 'nothing of it is kept')
  flight.entry = entryOf('new')
  t.equal(joining.isJoinable(flight, reader()), true)
  t.equal(joining.isJoinable(flight, reader({ maxAge: 10_000 })), false)
  time.now = 1000
  t.equal(joining.isJoinable(flight, reader()), false)
})

t.test('a flight that may serve something stale is joined by those for whom it isn’t too old', async t => {
  const { joining, take, time } = setUp()
  const { flight } = take()
  foundStale(flight)
  flight.loading = true
  t.equal(joining.isJoinable(flight, reader()), true)
  t.equal(joining.isJoinable(flight, reader({ maxAge: 10 })), false)
  time.now = 2000
  t.equal(joining.isJoinable(flight, reader()), false)
})

t.test('a load that was given up is joined only for the stale value that it may serve', async t => {
  const { joining, take } = setUp()
  const { flight } = take()
  flight.loading = true
  flight.giveUp(error)
  t.equal(joining.isJoinable(flight, reader()), false, 'another process may have filled a tier')
  foundStale(flight)
  t.equal(joining.isJoinable(flight, reader()), true)
})

t.test('where an invalidation may have been missed, a flight is joined before it departs, unless it brings something from memory', async t => {
  const { joining, take, trust } = setUp()
  const { flight } = take()
  trust.held = false
  t.equal(joining.isJoinable(flight, reader()), false)
  flight.departed = false
  t.equal(joining.isJoinable(flight, reader()), true)
  foundStale(flight)
  t.equal(joining.isJoinable(flight, reader()), false)
  trust.held = true
  t.equal(joining.isJoinable(flight, reader()), true)
})

// ─── flights that have found nothing ─────────────────────────────────────────────────────────────

t.test('of two flights of a key one loads, and the other gets what that brings', async t => {
  const { joining, flights, take } = setUp()
  const [first, second] = [take(), take()]
  t.equal(joining.takeLead(first.flight), true)
  t.equal(first.flight.loading, true)
  t.equal(joining.takeLead(second.flight), false)
  t.equal(second.flight.loading, false)
  first.flight.land(loaded('new'))
  t.strictSame([first.got, second.got], [[['new', 'loaded']], [['new', 'waited']]])
  t.strictSame(flights.of('a'), [first.flight], 'nothing reaches the other any more: it has ended')
})

t.test('what was loaded, and is not written yet, is for a flight that has found nothing, too', async t => {
  const { joining, take } = setUp()
  const [first, second] = [take(), take()]
  joining.takeLead(first.flight)
  first.flight.loaded = true
  first.flight.entry = entryOf('new')
  first.flight.land(loaded('new'))
  t.equal(joining.takeLead(second.flight), false)
  t.strictSame(second.got, [['new', 'waited']])
})

t.test('of two flights, the one that comes to load first is the one to be joined from then on', async t => {
  const { joining, flights, take } = setUp()
  const [first, second] = [take(), take()]
  t.equal(joining.takeLead(second.flight), true)
  t.equal(flights.get('a'), second.flight)
  t.equal(joining.takeLead(first.flight), false)
  t.strictSame(flights.of('a'), [second.flight])
})

t.test('a flight that was overtaken by an invalidation loads, but later readers don’t join it', async t => {
  const { joining, flights, take } = setUp()
  const { flight } = take()
  flights.detach(flight)
  t.equal(joining.takeLead(flight), true)
  t.equal(flights.get('a'), undefined)
})

t.test('a flight that may have missed an invalidation loads, but later readers don’t join it', async t => {
  const { joining, flights, take, trust } = setUp()
  const [{ flight: other }, { flight }] = [take(), take()]
  flights.end(other)
  trust.held = false
  t.equal(joining.takeLead(flight), true)
  t.equal(flights.get('a'), undefined)
})

t.test('a flight is not left to a load that is of no use to it', async t => {
  const reasons: Record<string, (other: Flight, flight: Flight) => void> = {
    'since it was invalidated, and later than the other': (_other, flight) => flight.revoke('invalidation'),
    'which has brought nothing that is kept': other => { other.loaded = true },
    'which waits for it': (other, flight) => { new WaitingLoader(nobody, new LoadCall([other])).await(flight) }
  }
  for (const [reason, happen] of Object.entries(reasons)) {
    const { joining, take } = setUp()
    const [{ flight: other }, { flight }] = [take(), take()]
    t.equal(joining.takeLead(other), true)
    happen(other, flight)
    t.equal(joining.takeLead(flight), true, reason)
  }
})

t.test('a loader that waits for a flight waits for the one that this is left to', async t => {
  const { joining, take } = setUp()
  const [first, second] = [take(), take()]
  const loader = new WaitingLoader(nobody, new LoadCall([take({ key: 'b' }).flight]))
  loader.await(second.flight)
  joining.takeLead(first.flight)
  joining.takeLead(second.flight)
  t.equal(first.flight.isWaitedForBy('b'), true)
})

t.test('what a flight is left to has to find or load for its maxAge, too', async t => {
  const { joining, take } = setUp()
  const [first, second] = [take(), take({ maxAge: 10 })]
  joining.takeLead(first.flight)
  joining.takeLead(second.flight)
  t.strictSame(first.flight.otherAges, [10])
})

t.test('who has found something stale gets that, and is left to no other', async t => {
  const { joining, flights, take } = setUp()
  const [first, second] = [take(), take()]
  joining.takeLead(first.flight)
  foundStale(second.flight)
  t.equal(joining.takeLead(second.flight), false)
  t.strictSame(second.got, [['old', { tier: 'redis' }]])
  t.strictSame(flights.of('a'), [first.flight])
  first.flight.land(loaded('new'))
  t.equal(second.got.length, 1)
})

t.test('who has got something stale already asks nothing more of the load that it is left to', async t => {
  const { joining, stale, take, time } = setUp()
  const [first, second] = [take(), take({ maxAge: 10 })]
  foundStale(second.flight)
  stale.land(second.flight)
  time.now = 2000 // it could not be served any more
  joining.takeLead(first.flight)
  t.equal(joining.takeLead(second.flight), false)
  t.equal(first.flight.otherAges, undefined)
  first.flight.land(loaded('new'))
  t.strictSame(second.got, [['old', { tier: 'redis' }]])
})

t.test('what others are served while a key is reloaded is for a flight that this is left to, unless it is too old for that', async t => {
  for (const [maxAge, got] of [[undefined, ['old', { tier: 'redis' }]], [10, ['new', 'waited']]] as const) {
    const { joining, stale, take } = setUp()
    const [first, second] = [take(), take({ maxAge })]
    foundStale(first.flight)
    joining.takeLead(first.flight)
    stale.serve(first.flight)
    joining.takeLead(second.flight)
    t.strictSame(second.got, maxAge === undefined ? [got] : [])
    first.flight.land(loaded('new'))
    t.strictSame(second.got, [got])
  }
})

t.test('behind a load that was given up a flight waits in its own time; one that has ended since has an answer', async t => {
  for (const ended of [false, true]) {
    const { joining, take } = setUp()
    const [first, second] = [take(), take()]
    joining.takeLead(first.flight)
    first.flight.giveUp(error)
    if (ended) first.flight.fail(error)
    t.equal(joining.takeLead(second.flight), false)
    t.strictSame(second.got, ended ? [error] : [])
    t.equal(first.flight.hasPatientWaiters, !ended)
    if (!ended) first.flight.land(loaded('new'))
    t.strictSame(second.got, ended ? [error] : [['new', 'waited']])
  }
})

t.test('what was served stale is not reloaded just after another reload has failed', async t => {
  const { joining, flights, stale, take, time } = setUp()
  const [failed, served, later] = [take(), take(), take()]
  for (const { flight } of [failed, served, later]) foundStale(flight)
  stale.fail(failed.flight, error)
  stale.land(served.flight)
  t.equal(joining.takeLead(served.flight), false)
  t.strictSame(flights.of('a'), [later.flight])
  time.now = 1500 // the pause is over
  stale.land(later.flight)
  t.equal(joining.takeLead(later.flight), true)
})

t.test('who has got nothing yet has a key reloaded though another reload has just failed', async t => {
  const { joining, stale, take } = setUp()
  const [failed, waiting] = [take(), take()]
  for (const { flight } of [failed, waiting]) foundStale(flight)
  stale.fail(failed.flight, error)
  t.equal(joining.takeLead(waiting.flight), true)
})

// ─── flights of an election ──────────────────────────────────────────────────────────────────────

t.test('each key is elected for once: the newest of its flights loads, and the older ones get what it brings', async t => {
  const { joining, flights, take } = setUp()
  const [older, other, newer] = [take(), take({ key: 'b' }), take()]
  t.strictSame(joining.oneForEachKey([older.flight, other.flight, newer.flight]), [newer.flight, other.flight])
  newer.flight.land(loaded('new'))
  t.strictSame([older.got, newer.got, other.got], [[['new', 'waited']], [['new', 'loaded']], []])
  t.strictSame(flights.of('a'), [newer.flight])
})

t.test('flights of different keys all load', async t => {
  const { joining, flights, take } = setUp()
  const all = [take().flight, take({ key: 'b' }).flight]
  t.equal(joining.oneForEachKey(all), all)
  flights.detach(all[0]!)
  t.equal(joining.oneForEachKey(all), all, 'whether or not they may be joined')
})
