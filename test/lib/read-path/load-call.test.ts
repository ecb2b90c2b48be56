import { AsyncLocalStorage, AsyncResource } from 'node:async_hooks'
import t from 'tap'
import { Flight, WaitingLoader } from '../../../lib/read-path/flight.js'
import { nobody } from '../../../lib/read-path/landed.js'
import type { Want } from '../../../lib/read-path/want.js'
import { LoadCall, Outside, currentCall } from '../../../lib/read-path/load-call.js'
import { deferred, gate } from '../../helpers/doubles.js'
import { collectGarbage } from '../../helpers/garbage.js'

const flightOf = (key: string) => new Flight({ key, maxAge: undefined, load: undefined, isRefresh: false } satisfies Want, undefined, nobody)
const flightsOf = new WeakMap<LoadCall, readonly Flight[]>()

function callOf (...keys: string[]): LoadCall {
  const flights = keys.map(flightOf)
  const call = new LoadCall(flights)
  flightsOf.set(call, flights)
  return call
}

/** `waiting` waits for a key of `loading`. */
function waitFor (waiting: LoadCall, loading: LoadCall, key: string): void {
  new WaitingLoader(nobody, waiting).await(flightsOf.get(loading)!.find(flight => flight.key === key)!)
}

t.test('a loader that asks for one of its own keys would wait for ever', async t => {
  const call = callOf('a', 'b')
  t.ok(call.isWaitedForBy('a'))
  t.ok(call.isWaitedForBy('b'))
  t.notOk(call.isWaitedForBy('c'))
})

t.test('a loader that asks for a key of whoever waits for it would wait for ever, over any number of loaders', async t => {
  const [a, b, c] = [callOf('a'), callOf('b', 'b2'), callOf('c')]
  waitFor(a, b, 'b2')
  waitFor(b, c, 'c')
  t.ok(c.isWaitedForBy('a'), 'a waits for b, b waits for c')
  t.ok(b.isWaitedForBy('a'))
  t.notOk(a.isWaitedForBy('b'), 'nobody waits for a')
  t.notOk(b.isWaitedForBy('c'))
})

t.test('loaders that wait for each other already are looked at once', async t => {
  const [a, b] = [callOf('a'), callOf('b')]
  waitFor(a, b, 'b')
  waitFor(b, a, 'a')
  t.notOk(a.isWaitedForBy('c'))
})

t.test('the code of a loader knows its call, at any depth, and no other code does', async t => {
  const outside = new Outside()
  const [one, other] = [callOf('a'), callOf('b')]
  const held = gate()
  t.equal(currentCall(), undefined)
  const first = outside.runCall(one, async () => {
    t.equal(currentCall(), one)
    await held.opened
    await Promise.all([new Promise(resolve => setTimeout(resolve)), new Promise(setImmediate)])
    t.equal(currentCall(), one)
  })
  const second = outside.runCall(other, async () => {
    await held.opened
    t.equal(currentCall(), other)
  })
  t.equal(currentCall(), undefined)
  held.open()
  await Promise.all([first, second])
  t.equal(currentCall(), undefined)
})

t.test('a loader that another one waits for has a call of its own', async t => {
  const outside = new Outside()
  const [outer, inner] = [callOf('a'), callOf('b')]
  await outside.runCall(outer, async () => {
    await outside.runCall(inner, async () => { t.equal(currentCall(), inner) })
    t.equal(currentCall(), outer)
  })
})

t.test('what a loader gives or throws is passed on, and its time is taken', async t => {
  const outside = new Outside()
  let time = 1000
  t.intercept(performance, 'now', { value: () => time })
  const [given, failed] = [callOf('a'), callOf('b')]
  t.equal(await outside.runCall(given, async () => { time += 20; return 'it' }), 'it')
  t.equal(given.milliseconds, 20)
  const error = new Error('no')
  await t.rejects(outside.runCall(failed, () => { time += 30; throw error }), error)
  t.equal(failed.milliseconds, 30)
  t.equal(await outside.runCall(callOf('c'), () => 'at once'), 'at once')
})

t.test('what a loader leaves running has no call any more, once all loaders have ended', async t => {
  const outside = new Outside()
  const held = gate()
  const seen = deferred<LoadCall | undefined>()
  await outside.runCall(callOf('a'), async () => { void held.opened.then(() => seen.resolve(currentCall())) })
  held.open()
  t.equal(await seen.promise, undefined)
})

t.test('nothing of a request reaches a loader', async t => {
  const request = new AsyncLocalStorage<string>()
  const outside = new Outside()
  const seen: unknown[] = []
  await request.run('a request', async () => {
    await outside.runCall(callOf('a'), async () => {
      seen.push(request.getStore())
      await new Promise(setImmediate)
      seen.push(request.getStore())
    })
    seen.push(request.getStore())
    outside.run(() => seen.push(request.getStore()))
  })
  t.strictSame(seen, [undefined, undefined, 'a request', undefined])
  t.equal(outside.run(() => 1), 1)
})

t.test('what a loader has opened keeps nothing of what it has loaded', async t => {
  const outside = new Outside()
  const flights = [new WeakRef(flightOf('a'))]
  let opened: AsyncResource | undefined
  await outside.runCall(new LoadCall(flights.map(ref => ref.deref()!)), async () => {
    t.ok(currentCall()!.isWaitedForBy('a'))
    opened = new AsyncResource('a connection')
  })
  await new Promise(setImmediate)
  collectGarbage()
  t.equal(flights[0]!.deref(), undefined)
  t.ok(opened)
})

t.test('a loader that has ended waits for nothing any more, whatever it has left behind', async t => {
  const outside = new Outside()
  const [a, b] = [callOf('a'), callOf('b')]
  const held = gate()
  const ended = outside.runCall(a, async () => {
    waitFor(a, b, 'b')
    t.ok(b.isWaitedForBy('a'))
    await held.opened
  })
  held.open()
  await ended
  t.notOk(b.isWaitedForBy('a'))
  t.notOk(a.isWaitedForBy('a'))
})
