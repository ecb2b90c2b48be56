import type { Scope } from './layout.js'

/** How a value is read. Peers have one or two ways. */
export const readWays = [
  'api.get', 'api.getMany', 'api.refresh',
  'region.get', 'region.getMany', 'region.getOrCreate', 'region.getOrCreateMany',
  'get', 'getMany'
] as const
export type ReadWay = typeof readWays[number]

/**
 * How a value is forgotten, or replaced. What was set promises nothing at once, but must not be lost for good either. A
 * refresh, which resolves though a tier or the line is away, promises as much as an invalidation that is pending.
 */
export const writeWays = [
  'api.invalidate', 'region.delete', 'region.deleteMany', 'region.invalidateTags(row)', 'region.invalidateTags(group)',
  'region.invalidate', 'region.invalidate(soft)', 'region.set', 'api.set', 'refresh',
  'delete', 'deleteMany'
] as const
export type WriteWay = typeof writeWays[number]

export const ways = [...readWays, ...writeWays] as const

export function scopeOf (way: WriteWay): Scope {
  switch (way) {
    case 'region.invalidateTags(row)': return 'row'
    case 'region.invalidateTags(group)': return 'group'
    case 'region.invalidate':
    case 'region.invalidate(soft)': return 'region'
    default: return 'cell'
  }
}

export const isSet = (way: WriteWay): boolean => way === 'region.set' || way === 'api.set'

/** Where a read of one key was answered. */
export const origins = ['unknown', 'memory', 'shared', 'stale', 'waited', 'loaded'] as const
export type Origin = typeof origins[number]

/**
 * How an invalidation ended. 'pending': a tier was away, and it will be replayed there. 'begun', of a set: it may have been
 * done, whatever became of its process; if there is another record of it, that tells when it ended.
 */
export const outcomes = ['resolved', 'pending', 'failed', 'begun'] as const
export type Outcome = typeof outcomes[number]
