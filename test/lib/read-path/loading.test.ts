import t from 'tap'
import type { Changes } from '../../../lib/read-path/changes.js'
import type { Coherence } from '../../../lib/coherence/coherence.js'
import type { Elected } from '../../../lib/dogpile/elected.js'
import type { Outcome } from '../../../lib/dogpile/news.js'
import { Fill } from '../../../lib/read-path/fill.js'
import { FlightsUnderWay } from '../../../lib/read-path/flights-under-way.js'
import { Flight } from '../../../lib/read-path/flight.js'
import type { Landed } from '../../../lib/read-path/landed.js'
import type { Loaded, Policy, Source } from '../../../lib/read-path/source.js'
import { Keyspace } from '../../../lib/keys.js'
import { Loading, type LoadingOptions } from '../../../lib/read-path/loading.js'
import { Outside } from '../../../lib/read-path/load-call.js'
import { StaleValues } from '../../../lib/read-path/stale-values.js'
import { LocalTier } from '../../../lib/tiers/local-tier.js'
import { MemoryBackend } from '../../../lib/backends/memory.js'
import { deferred, silentLogger } from '../../helpers/doubles.js'

const keyspace = new Keyspace('app', 'objects')
const policy: Policy = { ttl: 1000, grace: 0, negativeTtl: undefined, shouldCache: undefined }
const error = new Error('no such table')

/** A loader's answers by key, and everything that happens, in its order. */
function setUp (answers: Record<string, Loaded>, options: Partial<LoadingOptions> = {}) {
  const events: string[] = []
  const [logger, now] = [silentLogger(), () => 0]
  const flights = new FlightsUnderWay()
  const stale = new StaleValues({ region: 'objects', options: { refresh: 'inline', softTimeout: undefined, hardTimeout: undefined }, flights, logger, now })
  const fill = new Fill({ locals: [new LocalTier(new MemoryBackend({}))], shared: [], region: 'objects', leaseTtl: 1000, jitter: 0, logger, now })
  const written = deferred()
  const changes = { write: async (loaded: readonly Flight[]) => { events.push(`write ${keysOf(loaded)}`); await written.promise } } as Changes
  const loading = new Loading({
    keyspace,
    flights,
    stale,
    fill,
    changes,
    coherence: undefined,
    outside: new Outside(),
    leaseTtl: 1000,
    isFenced: true,
    isInOrder: false,
    isBatchWaiting: () => false,
    track: async work => await work,
    ...options
  })
  const source: Source = { maxBatch: 100, load: async args => args.map(arg => answers[arg as string]!) }
  const take = (key: string, isRefresh = false) => {
    const landing = { land: ({ shared }: Landed) => { events.push(`${key} is ${String(shared.value)}`) }, fail: (reason: unknown) => { events.push(`${key}: ${(reason as Error).message}`) } }
    const flight = new Flight({ key: keyOf(key), maxAge: undefined, load: { source, policy }, arg: key, isRefresh }, undefined, landing)
    flights.addJoinable(flight)
    return flight
  }
  const elected = {
    announce: async (names: readonly string[], { kind }: Outcome) => { events.push(`${kind} ${names.map(name => name.split(':').at(-1)).join(' ')}`) }
  } as unknown as Elected
  return { loading, source, take, elected, events, flights, written }
}

const keyOf = (id: string) => keyspace.entry('k', id)
const keysOf = (flights: readonly Flight[]) => flights.map(flight => flight.key.split(':').at(-1)).join(' ')
const value = (value: unknown): Loaded => ({ value, tags: [] })
/** When everything that can happen without waiting has happened. */
const settled = () => new Promise(setImmediate)

t.test('what callers wait for is written after they have it', async t => {
  const { loading, source, take, events, flights, written } = setUp({ a: value(1), b: { error } })
  const [a, b] = [take('a'), take('b')]
  const called = loading.call(source, [a, b], undefined)
  await settled()
  t.strictSame(events, ['a is 1', 'b: no such table', 'write a'])
  t.equal(flights.get(a.key), a, 'whoever comes until it is written joins it')
  written.resolve()
  await called
  t.equal(flights.get(a.key), undefined)
})

t.test('what this process does next has it written at once, and once', async t => {
  const { loading, source, take, events, written } = setUp({ a: value(1) }, { isBatchWaiting: () => true })
  const a = take('a')
  const landed = deferred()
  a.join({ land: () => landed.resolve(), fail: () => {} })
  const called = loading.call(source, [a], undefined)
  await landed.promise
  t.equal(loading.hasUnwritten, true)
  loading.writeBack()
  t.equal(loading.hasUnwritten, false)
  t.strictSame(events, ['a is 1', 'write a'])
  written.resolve()
  await called
  t.strictSame(events, ['a is 1', 'write a'])
})

t.test('where another process may wait, or a tier refuses nothing, nobody is let go first', async t => {
  for (const [isElected, options] of [[true, { coherence: { alone: false } as Coherence }], [false, { isFenced: false }]] as const) {
    const { loading, source, take, elected, events, written } = setUp({ a: value(1) }, options)
    const a = take('a')
    const landed = deferred()
    a.join({ land: () => landed.resolve(), fail: () => {} })
    const called = loading.call(source, [a], isElected ? elected : undefined)
    await landed.promise
    t.strictSame(events, ['a is 1', 'write a'])
    written.resolve()
    await called
  }
})

t.test('others hear of each outcome once, when it is written', async t => {
  const { loading, source, take, elected, events, written } = setUp({ a: value(1), b: value(2), c: { error }, d: { error }, e: value(undefined), f: value(3) })
  const flights = ['a', 'b', 'c', 'd', 'e', 'f'].map(key => take(key))
  flights[5]!.unshared = true
  const called = loading.call(source, flights, elected)
  await settled()
  t.equal(events.at(-1), 'write a b e f')
  written.resolve()
  await called
  t.strictSame(events.slice(-3), ['done a b', 'failed c d', 'unshared e f'])
})

t.test('what a loader throws is a failure, also where it reads like another outcome', async t => {
  const { loading, source, take, elected, events, written } = setUp({ a: value(1), b: { error: 'done' }, c: { error: 'unshared' } })
  written.resolve()
  await loading.call(source, ['a', 'b', 'c'].map(key => take(key)), elected)
  t.strictSame(events.slice(-3), ['done a', 'failed b', 'failed c'])
})

t.test('one connection keeps the order by itself: nothing waits for the answer', async t => {
  const { loading, source, take, elected, events } = setUp({ a: value(1) }, { isInOrder: true, coherence: { alone: false } as Coherence })
  const { announce } = elected
  elected.announce = async (...news) => { await announce(...news); await new Promise(() => {}) }
  await loading.call(source, [take('a')], elected)
  t.strictSame(events, ['a is 1', 'write a', 'done a'])
})

t.test('others are told of no failure of what was invalidated meanwhile: they came later', async t => {
  const { loading, source, take, elected, events, written } = setUp({ a: { error } })
  const a = take('a')
  a.revoke('invalidation')
  written.resolve()
  await loading.call(source, [a], elected)
  t.equal(events.at(-1), 'done a')
})

t.test('a refresh gives its value when nobody finds the old one any more', async t => {
  const { loading, source, take, events, written } = setUp({ a: value(1) })
  const called = loading.call(source, [take('a', true)], undefined)
  await settled()
  t.strictSame(events, ['write a'])
  written.resolve()
  await called
  await settled()
  t.strictSame(events, ['write a', 'a is 1'])
})

t.test('a loader that throws fails all that it was asked for', async t => {
  const { loading, take, events, written } = setUp({})
  written.resolve()
  await loading.call({ maxBatch: 100, load: () => { throw error } }, [take('a'), take('b')], undefined)
  t.strictSame(events, ['a: no such table', 'b: no such table', 'write '])
})
