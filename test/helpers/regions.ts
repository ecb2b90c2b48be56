import { randomUUID } from 'node:crypto'
import { Redis } from 'ioredis'
import type { Test } from 'tap'
import { CachingManager, type CachingManagerOptions } from '../../lib/caching-manager.js'
import type { Region } from '../../lib/region.js'
import type { RegionOptions } from '../../lib/region-options.js'
import { fakeClock, silentLogger } from './doubles.js'

/** A client that gives up at once when its server is away, and comes back soon. */
export function clientOf (t: Pick<Test, 'teardown'>, port: number): Redis {
  const client = new Redis(port, { retryStrategy: () => 20, maxRetriesPerRequest: 0 })
  client.on('error', () => {})
  t.teardown(() => client.disconnect())
  return client
}

export type ProcessOptions = Partial<RegionOptions> & Pick<RegionOptions, 'tiers'>

/** What one process has of a region. Another one of the same `namespace` is another process, as far as the region knows. */
export async function processOf (t: Test, options: ProcessOptions, managerOptions: Partial<CachingManagerOptions> = {}) {
  const clock = fakeClock()
  const logger = silentLogger()
  const manager = new CachingManager({
    namespace: randomUUID(),
    now: clock.now,
    logger,
    regions: { people: { ttl: '10s', jitter: 0, tierTimeout: '20s', lockTtl: '20s', lockWait: '20s', ...options } },
    ...managerOptions
  })
  t.teardown(() => manager.close())
  await manager.ready()
  return { manager, region: manager.region('people'), clock, logger }
}

/** Of whatever the tests of a region tag. */
export const tags = ['people']

/** Every way to forget alice, where she has these tags. */
export const invalidations: Record<string, (region: Region) => Promise<void>> = {
  'its deletion': async region => await region.delete('alice'),
  'an invalidation of the region': async region => await region.invalidate(),
  'a soft invalidation of the region': async region => await region.invalidate({ soft: true }),
  'an invalidation of its tag': async region => await region.invalidateTags('people')
}
