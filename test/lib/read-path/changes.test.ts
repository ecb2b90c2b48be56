import t from 'tap'
import { Changes } from '../../../lib/read-path/changes.js'
import { Fill } from '../../../lib/read-path/fill.js'
import type { Flight } from '../../../lib/read-path/flight.js'
import { FlightsUnderWay } from '../../../lib/read-path/flights-under-way.js'
import { msgpackSerializer } from '../../../lib/serializer.js'
import type { SharedTier } from '../../../lib/tiers/shared-tier.js'
import { silentLogger } from '../../helpers/doubles.js'

class WatchedFlights extends FlightsUnderWay {
  readonly unjoinable = new Set<Flight>()

  override addUnjoinable (flight: Flight): void {
    this.unjoinable.add(flight)
    super.addUnjoinable(flight)
  }

  override end (flight: Flight): void {
    this.unjoinable.delete(flight)
    super.end(flight)
  }
}

t.test('a set that ends by an error which nobody has foreseen is under way no more', async t => {
  const logger = silentLogger()
  const flights = new WatchedFlights()
  const underWay: number[] = []
  const broken = { setMany: () => { underWay.push(flights.unjoinable.size); throw new Error('broken') } } as unknown as SharedTier
  const tiers = { locals: [], shared: [broken] }
  const fill = new Fill({ ...tiers, region: 'people', leaseTtl: 1000, jitter: 0, logger, now: Date.now })
  const changes = new Changes({
    ...tiers,
    region: 'people',
    serializer: msgpackSerializer,
    flights,
    fill,
    coherence: undefined,
    isEventual: false,
    isLineInOrder: false,
    logger,
    now: Date.now,
    track: work => work
  })
  const entry = fill.entryOf({ value: 1, loose: undefined }, { ttl: 1000, grace: 0, negativeTtl: undefined, shouldCache: undefined })
  await t.rejects(changes.set(['a', 'b'].map(key => ({ key, entry }))), { message: 'broken' })
  t.strictSame(underWay, [2])
  t.equal(flights.unjoinable.size, 0)
})
