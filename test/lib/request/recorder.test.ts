import t from 'tap'
import { noTrip, type Origin } from '../../../lib/read-path/landed.js'
import { LoadCall } from '../../../lib/read-path/load-call.js'
import { Recorder, type Recorded } from '../../../lib/request/recorder.js'

const [memory, redis] = [{ tier: 'memory' }, { tier: 'redis' }]
const landed = (origin: Origin, more: Partial<Recorded> = {}): Recorded => ({ origin, stale: false, trip: { waits: [] }, ...more })
const hit = landed(memory, { trip: noTrip })

t.test('the stats of a request that has read nothing are zero', async t => {
  const recorder = new Recorder()
  t.strictSame(recorder.stats, { local: 0, tiers: {}, stale: 0, loaded: 0, loads: 0, waited: 0 })
  t.equal(recorder.serverTiming, 'cache-local;desc="0"')
})

t.test('each key counts where it came from', async t => {
  const recorder = new Recorder()
  recorder.local += 2
  recorder.landed(hit)
  recorder.landed(hit)
  recorder.landed(landed(redis))
  recorder.landed(landed(memory, { stale: true }))
  recorder.landed(landed('waited'))
  recorder.landed(landed('nowhere'))
  t.strictSame(recorder.stats, { local: 2, tiers: { memory: 3, redis: 1 }, stale: 1, loaded: 0, loads: 0, waited: 1 })
})

t.test('a hit counts as what has landed from there does', async t => {
  const elsewhere = landed(redis, { trip: noTrip })
  for (const order of [[hit, hit, elsewhere, hit], [elsewhere, hit, landed('loaded'), hit, elsewhere]]) {
    const [one, other] = [new Recorder(), new Recorder()]
    for (const read of order) {
      if (read === hit || read === elsewhere) one.hit(read)
      else one.landed(read)
      other.landed(read)
    }
    t.strictSame(one.stats, other.stats)
    t.equal(one.serverTiming, other.serverTiming)
  }
})

t.test('a call of a loader counts once, however many keys it was for', async t => {
  const recorder = new Recorder()
  const [one, two] = [new LoadCall([]), new LoadCall([])]
  one.milliseconds = 1.25
  two.milliseconds = 2.5
  for (const call of [one, one, two]) recorder.landed(landed('loaded', { call }))
  recorder.landed(landed('waited', { call: one }))
  t.match(recorder.stats, { loaded: 3, loads: 2, waited: 1 })
  t.match(recorder.serverTiming, 'cache-load;desc="3 in 2";dur=3.75')
})

t.test('a batch waits for a tier once, however many keys it was for', async t => {
  const recorder = new Recorder()
  const trip = { waits: [{ tier: 'redis', milliseconds: 1.5 }] }
  for (let i = 0; i < 3; i++) recorder.landed(landed(redis, { trip }))
  recorder.landed(landed(redis, { trip: { waits: [{ tier: 'redis', milliseconds: 2 }] } }))
  t.equal(recorder.serverTiming, 'cache-local;desc="0", cache-redis;desc="4";dur=3.50')
})

t.test('a tier that was asked and had nothing is in the header, since it took time, and not in the stats', async t => {
  const recorder = new Recorder()
  recorder.landed(landed('loaded', { trip: { waits: [{ tier: 'redis', milliseconds: 1.5 }] } }))
  t.strictSame(recorder.stats.tiers, {})
  t.equal(recorder.serverTiming, 'cache-local;desc="0", cache-redis;desc="0";dur=1.50, cache-load;desc="1 in 0";dur=0.00')
})

t.test('a batch that goes on when a first part of it has landed counts for as long as it has waited in the end', async t => {
  const recorder = new Recorder()
  const trip = { waits: [{ tier: 'redis', milliseconds: 1 }] }
  recorder.landed(landed(redis, { trip }))
  t.equal(recorder.serverTiming, 'cache-local;desc="0", cache-redis;desc="1";dur=1.00')
  trip.waits[0]!.milliseconds = 2
  trip.waits.push({ tier: 'memcached', milliseconds: 4 })
  recorder.landed(landed('loaded', { trip }))
  t.equal(recorder.serverTiming, 'cache-local;desc="0", cache-redis;desc="1";dur=2.00, cache-memcached;desc="0";dur=4.00, cache-load;desc="1 in 0";dur=0.00')
  t.strictSame(recorder.stats.tiers, { redis: 1 })
})

t.test('tiers of one name in two regions count together', async t => {
  const recorder = new Recorder()
  const otherHit = landed({ tier: 'memory' }, { trip: noTrip })
  recorder.landed(hit)
  recorder.landed(otherHit)
  recorder.landed(hit)
  recorder.landed(landed(redis))
  t.strictSame(recorder.stats.tiers, { memory: 3, redis: 1 })
})

t.test('the header lists local reads, each tier, loads, waits and stale values, in this order', async t => {
  const recorder = new Recorder()
  recorder.local++
  recorder.landed(hit)
  recorder.landed(landed(redis, { trip: { waits: [{ tier: 'memory', milliseconds: 0.5 }, { tier: 'redis', milliseconds: 1 }] } }))
  const call = new LoadCall([])
  call.milliseconds = 10
  recorder.landed(landed('loaded', { call }))
  recorder.landed(landed('waited'))
  recorder.landed(landed(memory, { stale: true }))
  t.equal(recorder.serverTiming, 'cache-local;desc="1", cache-memory;desc="2";dur=0.50, cache-redis;desc="1";dur=1.00, cache-load;desc="1 in 1";dur=10.00, cache-waited;desc="1", cache-stale;desc="1"')
})
