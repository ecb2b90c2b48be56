import t from 'tap'
import { Flight, WaitingLoader } from '../../../lib/read-path/flight.js'
import { Landed, nobody, type Waiter } from '../../../lib/read-path/landed.js'
import { LoadCall } from '../../../lib/read-path/load-call.js'

/** What somebody who waits is given. */
async function given (wait: (waiter: Waiter) => void): Promise<Landed> {
  return await new Promise((resolve, reject) => wait({ land: resolve, fail: reject }))
}

function take () {
  let flight!: Flight
  const first = given(waiter => { flight = new Flight({ key: 'a', maxAge: undefined, load: undefined, isRefresh: false }, undefined, waiter) })
  return { flight, first, join: () => given(waiter => flight.join(waiter)) }
}

const trip = { waits: [] }
const loaded = new Landed({ shared: { value: 1, loose: undefined }, origin: 'loaded', stale: false, trip })
/** The same, for those who joined. */
const waited = new Landed({ ...loaded, origin: 'waited' })
const stale: Landed = { shared: { value: 0, loose: undefined }, origin: { tier: 'memory' }, stale: true, trip }
const found: Landed = { shared: { value: 2, loose: undefined }, origin: { tier: 'redis' }, stale: false, trip }

t.test('everybody gets what was loaded; all but the first have waited for somebody else’s load', async t => {
  const { flight, first, join } = take()
  const [second, third] = [join(), join()]
  t.notOk(flight.landed)
  flight.land(loaded)
  t.ok(flight.landed)
  t.equal(await first, loaded)
  t.strictSame(await second, waited)
  t.strictSame(await third, waited)
  t.strictSame(await join(), waited, 'those who come later too')
})

t.test('what was found in a tier was found there for everybody', async t => {
  const { flight, first, join } = take()
  const second = join()
  flight.land(found)
  t.equal(await first, found)
  t.equal(await second, found)
  t.equal(await join(), found)
})

t.test('a failure is everybody’s, and the very same', async t => {
  const { flight, first, join } = take()
  const error = new Error('no')
  const rejected = [first, join(), join()].map(one => one.catch(reason => reason))
  flight.fail(error)
  t.ok(flight.landed)
  for (const reason of await Promise.all([...rejected, join().catch(reason => reason)])) t.equal(reason, error)
})

t.test('of two failures the first one is told, whenever one asks', async t => {
  const { flight, first, join } = take()
  const [one, another] = [new Error('one'), new Error('another')]
  flight.fail(one)
  flight.fail(another)
  t.equal(await first.catch(reason => reason), one)
  t.equal(await join().catch(reason => reason), one)
})

t.test('even a failure without a reason is a failure', async t => {
  const { flight, first, join } = take()
  first.catch(() => {})
  flight.fail(undefined)
  t.ok(flight.landed)
  t.equal(await join().catch(reason => [reason]).then(reason => (reason as unknown[])[0]), undefined)
  await t.rejects(join())
})

t.test('whoever waits is not kept by the failure that comes after the value', async t => {
  const { flight, first, join } = take()
  flight.land(loaded)
  flight.fail(new Error('too late'))
  t.equal(await first, loaded)
  t.strictSame(await join(), waited)
})

t.test('a stale value for all makes place for the loaded one', async t => {
  const { flight, first, join } = take()
  const second = join()
  flight.land(stale)
  t.equal(await first, stale)
  t.equal(await second, stale)
  flight.land(loaded)
  t.equal(await first, stale, 'who has an answer keeps it')
  t.strictSame(await join(), waited, 'who comes later gets the new one')
})

t.test('a stale value for the others leaves the first waiting for the new one', async t => {
  const { flight, first, join } = take()
  const second = join()
  flight.landOthers(stale)
  t.equal(await second, stale)
  t.equal(await join(), stale, 'those who come while it is loaded get it as well')
  t.notOk(flight.landed)
  flight.land(loaded)
  t.equal(await first, loaded)
  t.equal(await second, stale)
  t.strictSame(await join(), waited)
})

t.test('a stale value for others that nobody is yet waits for them', async t => {
  const { flight, first, join } = take()
  flight.landOthers(stale)
  t.equal(await join(), stale)
  const error = new Error('no')
  first.catch(() => {})
  flight.fail(error)
  await t.rejects(first, error)
  t.equal(await join(), stale, 'and for those who come later')
})

t.test('who can do with nothing stale waits for the load, or its failure, however late he comes', async t => {
  for (const ends of ['loaded', 'failed'] as const) {
    const { flight, first, join } = take()
    const patient = () => given(waiter => flight.join(waiter, false))
    t.notOk(flight.hasPatientWaiters)
    const [before, other] = [patient(), join()]
    flight.land(stale)
    t.strictSame([await first, await other], [stale, stale])
    const waiting = [before, patient()]
    t.strictSame([flight.hasPatientWaiters, flight.landed, flight.over], [true, true, false])
    const error = new Error('no')
    if (ends === 'loaded') flight.land(loaded)
    else flight.fail(error)
    t.ok(flight.over)
    for (const one of [...waiting, patient()]) {
      if (ends === 'loaded') t.strictSame(await one, waited)
      else await t.rejects(one, error)
    }
    if (ends === 'failed') t.equal(await join(), stale)
  }
})

t.test('what came along with a load is for whoever it was loaded for', async t => {
  const { flight, first, join } = take()
  const second = join()
  const primed: Landed['primed'] = []
  flight.land({ ...loaded, primed })
  t.equal((await first).primed, primed)
  t.strictSame(await second, waited)
})

t.test('a flight can wait for another one', async t => {
  const [one, other] = [take(), take()]
  const waiting = one.join()
  other.flight.join(one.flight)
  other.flight.land(loaded)
  t.strictSame(await one.first, waited)
  t.strictSame(await waiting, waited)
})

t.test('nobody may wait, and then nobody hears of it', async t => {
  const [well, ill] = [0, 1].map(() => new Flight({ key: 'a', maxAge: undefined, load: undefined, isRefresh: false }, undefined, nobody)) as [Flight, Flight]
  well.land(loaded)
  ill.fail(new Error('no'))
  t.ok(well.landed && ill.landed)
})

t.test('a loader that waits for a flight twice does so until both have what they want', async t => {
  const { flight } = take()
  const call = new LoadCall([])
  for (const takesStale of [true, false]) {
    const waiting = new WaitingLoader(nobody, call)
    waiting.await(flight)
    flight.join(waiting, takesStale)
  }
  flight.land(stale)
  t.strictSame(Array.from(flight.loaders, ({ caller }) => caller), [call])
  flight.land(loaded)
  t.equal(flight.loaders.size, 0)
})
