import type { Test } from 'tap'
import { memory } from '../../lib/backends/memory.js'
import { cachedObject, loadMany } from '../../lib/cached-object.js'
import { CachingManager, type CachingManagerOptions } from '../../lib/caching-manager.js'
import type { RegionOptions } from '../../lib/region-options.js'
import { countingLoader } from './doubles.js'

export interface User { id: number, name: string, photoId: number }

export const alice: User = { id: 1, name: 'alice', photoId: 10 }
export const bob: User = { id: 2, name: 'bob', photoId: 20 }

/** Of one region, 'objects'. */
export function managerOf (t: Pick<Test, 'teardown'>, region: Partial<RegionOptions> = {}, options: Partial<CachingManagerOptions> = {}): CachingManager {
  const manager = new CachingManager({ regions: { objects: { tiers: [memory()], ttl: '1m', jitter: 0, ...region } }, ...options })
  t.teardown(() => manager.close())
  return manager
}

/** Users, and a count of how they were loaded. */
export function usersOf (rows: readonly User[] = [alice, bob], before?: (ids: readonly number[]) => unknown) {
  const loader = countingLoader<number, User>(rows, before)
  const User = cachedObject({
    name: 'User',
    region: 'objects',
    methods: { getById: loadMany({ load: loader.load, idOf: loader.idOf }) }
  })
  return { User, ...loader }
}
