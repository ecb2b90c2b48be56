import t from 'tap'
import { Copying } from '../../../lib/read-path/copying.js'
import type { Entry } from '../../../lib/entry.js'
import { Flight } from '../../../lib/read-path/flight.js'
import type { Landed, Trip } from '../../../lib/read-path/landed.js'
import { FlightsUnderWay } from '../../../lib/read-path/flights-under-way.js'
import { Looking } from '../../../lib/read-path/looking.js'
import type { Lease } from '../../../lib/tiers/lease.js'
import { LocalTier } from '../../../lib/tiers/local-tier.js'
import { MemoryBackend } from '../../../lib/backends/memory.js'
import { SharedTier } from '../../../lib/tiers/shared-tier.js'

const stamp = { epoch: 1, softened: 0, tagged: 0, deleted: 0 }
const entryOf = (value: unknown, freshUntil = 1000): Entry => ({ value, loose: undefined, loadedAt: 0, freshUntil, staleUntil: 1000, tags: [], stamp })

/** A memory in front of a shared tier that has `held`, at the time 500. */
function setUp (held: Record<string, Entry> = {}) {
  const asked: (readonly string[])[] = []
  const memory = new LocalTier(new MemoryBackend({}))
  const shared = Object.assign(Object.create(SharedTier.prototype) as SharedTier, {
    name: 'shared',
    lookMany: async (keys: readonly string[]) => {
      asked.push(keys)
      return { entries: keys.map(key => held[key]), lease: (i: number): Lease => ({ stamp, held: Buffer.from(keys[i]!) }) }
    },
    readMany: async (keys: readonly string[]) => keys.map(key => held[key])
  })
  const tiers = [memory, shared]
  const flights = new FlightsUnderWay()
  const trust = { held: true }
  const looking = new Looking({
    tiers,
    origins: tiers.map(({ name }) => ({ tier: name })),
    flights,
    copying: new Copying(tiers, async work => { await work }),
    isTrusted: () => trust.held,
    now: () => 500
  })
  const landings: [key: string, landed: Landed][] = []
  const take = (key: string, maxAge?: number) => {
    const flight = new Flight({ key, maxAge, load: undefined, isRefresh: false }, memory.generation, {
      land: landed => { landings.push([key, landed]) },
      fail: error => { throw error }
    })
    flights.addJoinable(flight)
    return flight
  }
  const found = () => landings.map(([key, { shared, origin }]) => [key, shared.value, origin])
  const trip = (): Trip => ({ waits: [] })
  return { asked, memory, flights, trust, looking, take, found, trip }
}

t.test('what is found lands when it is told to, in the order of the flights; the rest has the right to fill', async t => {
  const { asked, memory, flights, looking, take, found, trip } = setUp({ a: entryOf(1), c: entryOf(3) })
  const [a, b, c] = [take('a'), take('b'), take('c')]
  const on = trip()
  const { missing, landFound } = await looking.lookIn(1, [a, b, c], on, false)
  t.strictSame(asked, [['a', 'b', 'c']])
  t.strictSame(missing, [b])
  t.strictSame(b.leases?.map(lease => String(lease?.held)), ['b'])
  t.strictSame(on.waits.map(({ tier }) => tier), ['shared'])
  t.strictSame(found(), [])
  landFound()
  t.strictSame(found(), [['a', 1, { tier: 'shared' }], ['c', 3, { tier: 'shared' }]])
  t.match(memory.get('a'), { value: 1 }, 'and is copied')
  t.strictSame(['a', 'b', 'c'].map(key => flights.get(key)), [undefined, b, undefined], 'who has landed is joined by nobody')
})

t.test('a key that several flights want is asked for once', async t => {
  const { asked, flights, looking, take, found, trip } = setUp({ a: entryOf(1) })
  const first = take('a')
  flights.detach(first)
  const { missing, landFound } = await looking.lookIn(1, [first, take('b'), take('a')], trip(), true)
  t.strictSame(asked, [['a', 'b']])
  t.strictSame(missing.map(({ key, leases }) => [key, String(leases?.[0]?.held)]), [['b', 'b']])
  landFound()
  t.strictSame(found().map(([key]) => key), ['a', 'a'])
})

t.test('a memory is looked into only while it may be believed, and gives no right to fill', async t => {
  const { memory, trust, looking, take, found, trip } = setUp()
  memory.set('a', entryOf(1))
  const [a, b] = [take('a'), take('b')]
  trust.held = false
  t.strictSame((await looking.lookIn(0, [a, b], trip(), false)).missing, [a, b])
  trust.held = true
  const { missing, landFound } = await looking.lookIn(0, [a, b], trip(), false)
  landFound()
  t.strictSame(missing, [b])
  t.equal(b.leases, undefined)
  t.strictSame(found(), [['a', 1, { tier: 'memory' }]])
})

t.test('what is too old for one of those who wait is left for them to be served as stale', async t => {
  const { looking, take, trip } = setUp({ a: entryOf(1), b: entryOf(2, 400), c: entryOf(3) })
  const [a, b, c] = [take('a', 100), take('b'), take('c')]
  c.alsoFor(100)
  const { missing } = await looking.lookIn(1, [a, b, c], trip(), false)
  t.strictSame(missing, [a, b, c])
  t.equal(a.stale, undefined, 'gone')
  t.strictSame(b.stale?.entry.value, 2)
  t.equal(c.stale, undefined, 'fresh for one of them only')
})

t.test('what others have loaded is found in the shared tiers alone', async t => {
  const { memory, looking, take, found } = setUp({ a: entryOf(1) })
  memory.set('b', entryOf(2))
  const [a, b] = [take('a'), take('b')]
  t.strictSame(await looking.lookAgain([a, b]), [b])
  t.strictSame(found(), [['a', 1, 'waited']])
})
