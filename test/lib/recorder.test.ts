import t from 'tap'
import type { Landed, Origin } from '../../lib/flights.js'
import { LoadCall } from '../../lib/loads.js'
import type { ReadPath } from '../../lib/read-path.js'
import { Recorder } from '../../lib/recorder.js'

// All that a recorder asks of a region: how its tiers are called.
const pathOf = (...names: string[]) => ({ tiers: names.map(name => ({ name })) }) as unknown as ReadPath
const landed = (origin: Origin, more: Partial<Landed> = {}): Landed => ({ shared: { value: 1, loose: undefined }, origin, stale: false, trip: { milliseconds: [] }, ...more })

t.test('a request that has read nothing', async t => {
  const recorder = new Recorder()
  t.strictSame(recorder.stats, { local: 0, tiers: {}, stale: 0, loaded: 0, loads: 0, waited: 0 })
  t.equal(recorder.serverTiming, 'cache-local;desc="0"')
})

t.test('each key counts where it came from', async t => {
  const recorder = new Recorder()
  const path = pathOf('memory', 'redis')
  recorder.local += 2
  recorder.hit(path)
  recorder.hit(path)
  recorder.landed(path, landed({ tier: 1 }))
  recorder.landed(path, landed({ tier: 0 }, { stale: true }))
  recorder.landed(path, landed('waited'))
  recorder.landed(path, landed('nowhere'))
  t.strictSame(recorder.stats, { local: 2, tiers: { memory: 3, redis: 1 }, stale: 1, loaded: 0, loads: 0, waited: 1 })
})

t.test('a call of a loader counts once, however many keys it was for', async t => {
  const recorder = new Recorder()
  const path = pathOf('memory')
  const [one, two] = [new LoadCall([]), new LoadCall([])]
  one.milliseconds = 1.25
  two.milliseconds = 2.5
  for (const call of [one, one, two]) recorder.landed(path, landed('loaded', { call }))
  recorder.landed(path, landed('waited', { call: one }))
  t.match(recorder.stats, { loaded: 3, loads: 2, waited: 1 })
  t.match(recorder.serverTiming, 'cache-load;desc="3 in 2";dur=3.75')
})

t.test('a batch waits for a tier once, however many keys it was for', async t => {
  const recorder = new Recorder()
  const trip = { milliseconds: [] as number[] }
  trip.milliseconds[1] = 1.5
  const path = pathOf('memory', 'redis')
  for (let i = 0; i < 3; i++) recorder.landed(path, landed({ tier: 1 }, { trip }))
  recorder.landed(path, landed({ tier: 1 }, { trip: { milliseconds: [, 2] as number[] } })) // eslint-disable-line no-sparse-arrays
  t.equal(recorder.serverTiming, 'cache-local;desc="0", cache-redis;desc="4";dur=3.50')
})

t.test('tiers of one name in two regions count together', async t => {
  const recorder = new Recorder()
  const [rows, lists] = [pathOf('memory'), pathOf('memory', 'redis')]
  recorder.hit(rows)
  recorder.hit(lists)
  recorder.hit(rows)
  recorder.landed(lists, landed({ tier: 1 }))
  t.strictSame(recorder.stats.tiers, { memory: 3, redis: 1 })
})

t.test('the header lists local reads, each tier, loads, waits and stale values, in this order', async t => {
  const recorder = new Recorder()
  const path = pathOf('memory', 'redis')
  recorder.local++
  recorder.hit(path)
  recorder.landed(path, landed({ tier: 1 }, { trip: { milliseconds: [0.5, 1] } }))
  const call = new LoadCall([])
  call.milliseconds = 10
  recorder.landed(path, landed('loaded', { call }))
  recorder.landed(path, landed('waited'))
  recorder.landed(path, landed({ tier: 0 }, { stale: true }))
  t.equal(recorder.serverTiming, 'cache-local;desc="1", cache-memory;desc="2";dur=0.50, cache-redis;desc="1";dur=1.00, cache-load;desc="1 in 1";dur=10.00, cache-waited;desc="1", cache-stale;desc="1"')
})
