import { mock } from 'node:test'
import t, { type Test } from 'tap'
import type { Entry } from '../../../lib/entry.js'
import { FlightsUnderWay } from '../../../lib/read-path/flights-under-way.js'
import { Flight } from '../../../lib/read-path/flight.js'
import type { Landed, Waiter } from '../../../lib/read-path/landed.js'
import { StaleValues, type StaleValuesOptions } from '../../../lib/read-path/stale-values.js'
import { silentLogger } from '../../helpers/doubles.js'

const stamp = { epoch: 1, softened: 0, tagged: 0, deleted: 0 }
/** Fresh for a second, and stale for another one. */
const old: Entry = { value: 'old', loose: undefined, loadedAt: 0, freshUntil: 1000, staleUntil: 2000, tags: [], stamp }

/** Stale values of a region, the time that they see, and flights that have found an old one. */
function setUp (options: Partial<StaleValuesOptions['options']> = {}) {
  let time = 1500
  const logger = silentLogger()
  const flights = new FlightsUnderWay()
  const stale = new StaleValues({
    region: 'objects',
    options: { refresh: 'inline', softTimeout: undefined, hardTimeout: undefined, ...options },
    flights,
    logger,
    now: () => time
  })
  function take (key = 'a', hasFound = true) {
    const first = heard()
    const flight = new Flight({ key, maxAge: undefined, load: undefined, isRefresh: false }, undefined, first)
    if (hasFound) flight.stale = { entry: old, origin: { tier: 'redis' } }
    flights.addJoinable(flight)
    return { flight, first }
  }
  return { stale, flights, logger, take, advance: (ms: number) => { time += ms } }
}

/** Writes down what it gets. */
function heard (): Waiter & { readonly got: unknown[] } {
  const got: unknown[] = []
  return { got, land: ({ shared }: Landed) => { got.push(shared.value) }, fail: error => { got.push(error) } }
}

const error = new Error('no database')

t.test('while a key is reloaded all but the first get its stale value; with refresh in the background all do', async t => {
  for (const [refresh, first] of [['inline', []], ['background', ['old']]] as const) {
    const { stale, take } = setUp({ refresh })
    const taken = take()
    const other = heard()
    taken.flight.join(other)
    stale.serve(taken.flight)
    t.strictSame([taken.first.got, other.got], [first, ['old']], refresh)
  }
})

t.test('what is over its grace is not served', async t => {
  const { stale, take, advance } = setUp({ refresh: 'background' })
  const { flight, first } = take()
  advance(500)
  stale.serve(flight)
  t.equal(stale.has(flight), false)
  t.strictSame(first.got, [])
  t.equal(stale.endIfServed(flight), false, 'nor is another process left to reload it')
})

t.test('a reload that fails gives the stale value, says so, and is not tried again for a second', async t => {
  const { stale, flights, logger, take, advance } = setUp()
  const { flight, first } = take()
  stale.fail(flight, error)
  t.strictSame(first.got, ['old'])
  t.equal(flights.get('a'), undefined)
  t.strictSame(logger.lines.warn, [{ details: { region: 'objects', key: 'a', err: error }, message: 'a reload failed: the stale value is served' }])
  t.equal(stale.isPaused('a'), true)
  t.equal(stale.isPaused('b'), false)
  advance(1000)
  t.equal(stale.isPaused('a'), false)
})

t.test('a load that fails where nothing is stale fails for all, and may be tried at once', async t => {
  const { stale, logger, take } = setUp()
  const { flight, first } = take('a', false)
  const other = heard()
  flight.join(other)
  stale.fail(flight, error)
  t.strictSame([first.got, other.got], [[error], [error]])
  t.equal(stale.isPaused('a'), false)
  t.strictSame(logger.lines.warn, [])
})

t.test('who can do with nothing stale gets the failure', async t => {
  const { stale, take } = setUp()
  const { flight, first } = take()
  const patient = heard()
  flight.join(patient, false)
  stale.fail(flight, error)
  t.strictSame([first.got, patient.got], [['old'], [error]])
})

t.test('a key that another process reloads is left to it, unless somebody waits for the new value', async t => {
  const { stale, flights, take, advance } = setUp()
  const { flight, first } = take()
  t.equal(stale.endIfServed(flight), true)
  t.strictSame([first.got, flights.get('a')], [['old'], undefined])
  t.equal(stale.isPaused('a'), true)
  advance(100)
  t.equal(stale.isPaused('a'), false)

  const awaited = take('b')
  awaited.flight.join(heard(), false)
  t.equal(stale.endIfServed(awaited.flight), false)
  t.strictSame(awaited.first.got, ['old'])
  t.equal(flights.get('b'), awaited.flight)
})

/** Timers that the test lets go off. */
function timers (t: Test) {
  const set = new Map<number, { off: () => void, milliseconds: number }>()
  t.intercept(globalThis, 'setTimeout', { value: (off: () => void, milliseconds: number) => { set.set(milliseconds, { off, milliseconds }); return milliseconds } })
  t.intercept(globalThis, 'clearTimeout', { value: (milliseconds: number) => { set.delete(milliseconds) } })
  return { set, goOff: (milliseconds: number) => { set.get(milliseconds)!.off() } }
}

t.test('a slow load is waited for until softTimeout where there is a stale value, and until hardTimeout where there is none', async t => {
  const { set, goOff } = timers(t)
  const { stale, take } = setUp({ softTimeout: 50, hardTimeout: 200 })
  const [found, missing, loaded] = [take('a'), take('b', false), take('c', false)]
  loaded.flight.loaded = true
  stale.armTimeouts([found.flight, missing.flight, loaded.flight])
  goOff(50)
  t.strictSame([found.first.got, missing.first.got], [['old'], []])
  goOff(200)
  t.strictSame(found.first.got, ['old'])
  t.match(missing.first.got, [{ code: 'FST_CACHING_API_LOAD_TIMEOUT' }])
  t.strictSame(loaded.first.got, [], 'what was loaded is on its way')
  t.equal(set.size, 2)
})

t.test('no timer is left when all is loaded, and none is set where there is no limit', async t => {
  const { set } = timers(t)
  setUp({ softTimeout: 50, hardTimeout: 200 }).stale.armTimeouts([])()
  t.equal(set.size, 0)
  setUp().stale.armTimeouts([])()
  t.equal(set.size, 0)
})

t.test('who waits behind a load that was given up gets what comes of it, within his own time', async t => {
  mock.timers.enable({ apis: ['setTimeout'] })
  t.teardown(() => mock.timers.reset())
  const timedOut = { code: 'FST_CACHING_API_LOAD_TIMEOUT' }
  for (const outcome of ['lands', 'fails'] as const) {
    const { stale, take } = setUp({ hardTimeout: 200 })
    const { flight: slow } = take('a', false)
    slow.giveUp(error)
    const [early, late] = [take('a', false), take('a', false)]
    stale.waitBehind(slow, early.flight)
    mock.timers.tick(150)
    stale.waitBehind(slow, late.flight)
    t.ok(slow.hasPatientWaiters)
    mock.timers.tick(50)
    t.match(early.first.got, [timedOut])
    if (outcome === 'lands') slow.land({ shared: old, origin: 'loaded', stale: false, trip: { waits: [] } })
    else slow.fail(error)
    mock.timers.tick(200)
    t.equal(early.first.got.length, 1, 'once')
    t.notOk(slow.hasPatientWaiters, 'nobody is kept who waits no longer')
    t.strictSame(late.first.got, [outcome === 'lands' ? 'old' : error])
  }
})
