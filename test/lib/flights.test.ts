import t from 'tap'
import { Flight, type Landed } from '../../lib/flights.js'

const take = () => new Flight({ key: 'a', maxAge: undefined, load: undefined, anew: false }, undefined)
const trip = { milliseconds: [] }
const loaded: Landed = { shared: { value: 1, loose: undefined }, origin: 'loaded', stale: false, trip }
const stale: Landed = { shared: { value: 0, loose: undefined }, origin: { tier: 0 }, stale: true, trip }
const found: Landed = { shared: { value: 2, loose: undefined }, origin: { tier: 1 }, stale: false, trip }

t.test('everybody gets what was loaded; all but the first have waited for somebody else’s load', async t => {
  const flight = take()
  const [second, third] = [flight.join(), flight.join()]
  t.equal(second, third, 'those who wait share a promise')
  t.notOk(flight.landed)
  flight.land(loaded)
  t.ok(flight.landed)
  t.equal(await flight.first, loaded)
  t.strictSame(await second, { ...loaded, origin: 'waited' })
  t.strictSame(await flight.join(), { ...loaded, origin: 'waited' }, 'those who come later too')
})

t.test('what was found in a tier was found there for everybody', async t => {
  const flight = take()
  const second = flight.join()
  flight.land(found)
  t.equal(await flight.first, found)
  t.equal(await second, found)
  t.equal(await flight.join(), found)
})

t.test('a failure is everybody’s, and the very same', async t => {
  const flight = take()
  const error = new Error('no')
  const rejected = [flight.first, flight.join(), flight.join()].map(one => one.catch(reason => reason))
  flight.fail(error)
  t.ok(flight.landed)
  for (const reason of await Promise.all([...rejected, flight.join().catch(reason => reason)])) t.equal(reason, error)
})

t.test('of two failures the first one is told, whenever one asks', async t => {
  const flight = take()
  const [first, second] = [new Error('first'), new Error('second')]
  flight.first.catch(() => {})
  flight.fail(first)
  flight.fail(second)
  t.equal(await flight.join().catch(reason => reason), first)
})

t.test('even a failure without a reason is one', async t => {
  const flight = take()
  flight.first.catch(() => {})
  flight.fail(undefined)
  t.ok(flight.landed)
  t.equal(await flight.join().catch(reason => [reason]).then(reason => (reason as unknown[])[0]), undefined)
  await t.rejects(flight.join())
})

t.test('whoever waits is not kept by the failure that comes after the value', async t => {
  const flight = take()
  flight.land(loaded)
  flight.fail(new Error('too late'))
  t.equal(await flight.first, loaded)
  t.strictSame(await flight.join(), { ...loaded, origin: 'waited' })
})

t.test('a stale value for all makes place for the loaded one', async t => {
  const flight = take()
  const second = flight.join()
  flight.land(stale)
  t.equal(await flight.first, stale)
  t.equal(await second, stale)
  flight.land(loaded)
  t.equal(await flight.first, stale, 'who has an answer keeps it')
  t.strictSame(await flight.join(), { ...loaded, origin: 'waited' }, 'who comes later gets the new one')
})

t.test('a stale value for the others leaves the first waiting for the new one', async t => {
  const flight = take()
  const second = flight.join()
  flight.landOthers(stale)
  t.equal(await second, stale)
  t.equal(await flight.join(), stale, 'those who come while it is loaded get it as well')
  t.notOk(flight.landed)
  flight.land(loaded)
  t.equal(await flight.first, loaded)
  t.equal(await second, stale)
  t.strictSame(await flight.join(), { ...loaded, origin: 'waited' })
})

t.test('a stale value for others that nobody is yet waits for them', async t => {
  const flight = take()
  flight.landOthers(stale)
  t.equal(await flight.join(), stale)
  const error = new Error('no')
  flight.first.catch(() => {})
  flight.fail(error)
  await t.rejects(flight.first, error)
  await t.rejects(flight.join(), error)
})

t.test('a flight that nobody waits for but the first fails without an unhandled rejection', async t => {
  const unhandled: unknown[] = []
  const listener = (reason: unknown) => { unhandled.push(reason) }
  process.on('unhandledRejection', listener)
  t.teardown(() => process.off('unhandledRejection', listener))
  const flight = take()
  const rejected = t.rejects(flight.first)
  flight.fail(new Error('no'))
  await rejected
  await new Promise(setImmediate)
  t.strictSame(unhandled, [])
})
