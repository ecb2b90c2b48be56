import t from 'tap'
import { FlightsUnderWay } from '../../../lib/read-path/flights-under-way.js'
import { Flight } from '../../../lib/read-path/flight.js'
import { nobody } from '../../../lib/read-path/landed.js'

const flightOf = (key: string) => new Flight({ key, maxAge: undefined, load: undefined, isRefresh: false }, undefined, nobody)
const states = (...flights: Flight[]) => flights.map(({ detached, revoked }) => revoked ? 'revoked' : detached ? 'detached' : 'joinable')

t.test('one flight of each key may be joined, until it ends', async t => {
  const flights = new FlightsUnderWay()
  const [a, b, newer] = [flightOf('a'), flightOf('b'), flightOf('a')]
  flights.addJoinable(a)
  flights.addJoinable(b)
  t.equal(flights.get('a'), a)
  flights.makeJoinable(newer)
  t.equal(flights.get('a'), newer)
  flights.end(a)
  t.equal(flights.get('a'), newer, 'not by the end of another')
  flights.end(newer)
  t.equal(flights.get('a'), undefined)
  t.equal(flights.get('b'), b)
})

t.test('an invalidation reaches the flight that may be joined, and those that were overtaken or stray', async t => {
  const flights = new FlightsUnderWay()
  const [first, second, stray, other] = [flightOf('a'), flightOf('a'), flightOf('a'), flightOf('b')]
  flights.addJoinable(first)
  flights.makeJoinable(second)
  flights.addUnjoinable(stray)
  flights.addJoinable(other)
  flights.revoke('a', 'invalidation')
  t.strictSame(states(first, second, stray, other), ['revoked', 'revoked', 'revoked', 'joinable'])
  t.equal(flights.get('a'), undefined)

  const ended = flightOf('b')
  flights.addUnjoinable(ended)
  flights.end(ended)
  flights.detachAll()
  t.strictSame([states(other), flights.get('b')], [['joinable'], other], 'it has not departed: what it finds will be new enough')
  other.departed = true
  flights.detachAll()
  t.strictSame(states(other, ended), ['detached', 'joinable'])
  t.equal(flights.get('b'), undefined)
  flights.revokeAll()
  t.strictSame(states(other, ended), ['revoked', 'joinable'])
})

t.test('a flight that was detached leads again when it is the newest', async t => {
  const flights = new FlightsUnderWay()
  const flight = flightOf('a')
  flights.addJoinable(flight)
  flights.detach(flight)
  t.strictSame([states(flight), flights.get('a')], [['detached'], undefined])
  flights.makeJoinable(flight)
  t.equal(flights.get('a'), flight)
})

t.test('of a flight that is abandoned nothing is kept', async t => {
  const flights = new FlightsUnderWay()
  const flight = flightOf('a')
  flights.addJoinable(flight)
  flights.abandon(flight)
  t.strictSame([states(flight), flights.get('a')], [['revoked'], undefined])
})

t.test('flights that were revoked let others load', async t => {
  const flights = new FlightsUnderWay()
  const yielded: string[] = []
  for (const key of ['a', 'b', 'c']) {
    const flight = flightOf(key)
    if (key !== 'c') flight.yield = () => { yielded.push(key) }
    flights.addJoinable(flight)
  }
  for (const key of ['a', 'b', 'c']) flights.get(key)!.departed = true
  flights.detachAll()
  flights.revoke('a', 'invalidation')
  flights.revoke('c', 'invalidation')
  flights.yieldRevoked()
  t.strictSame(yielded, ['a'])
})

t.test('where only some keys were set, no other flight is looked at', async t => {
  const flights = new FlightsUnderWay()
  const yielded: string[] = []
  for (const key of ['a', 'b', 'c']) {
    const flight = flightOf(key)
    flight.yield = () => { yielded.push(key) }
    flights.addJoinable(flight)
    if (key !== 'c') flights.revoke(key, 'set')
  }
  flights.yieldRevoked(['b', 'c', 'd'])
  t.strictSame(yielded, ['b'])
})

t.test('the weightiest of what has overtaken a flight counts, and of these the last, until it begins anew', async t => {
  const flights = new FlightsUnderWay()
  const flight = flightOf('a')
  flights.addUnjoinable(flight)
  for (const [by, counts] of [['replacement', 'replacement'], ['refresh', 'refresh'], ['replacement', 'refresh'], ['set', 'set'], ['refresh', 'set'], ['invalidation', 'invalidation'], ['replacement', 'invalidation'], ['set', 'set']] as const) {
    flights.revoke('a', by)
    t.equal(flight.revokedBy, counts)
  }
  flight.renew(undefined)
  t.equal(flight.revoked, false)
  flights.abandon(flight)
  flight.renew(undefined)
  t.equal(flight.revoked, true, 'nothing reaches it any more')
})
