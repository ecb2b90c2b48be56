import type { Stamp } from './stamp.js'
import type { Shared } from './values.js'

/** What a tier keeps under a key. Times are milliseconds of the manager's clock. */
export interface Entry extends Shared {
  readonly loadedAt: number
  /** `loadedAt` plus ttl. */
  readonly freshUntil: number
  /** `freshUntil` plus grace. */
  readonly staleUntil: number
  readonly tags: readonly string[]
  /** The region's stamp when the load began. */
  readonly stamp: Stamp
  /** It was invalidated softly: stale, however young. */
  readonly softened?: boolean
}

/** An entry as it is made. Why it is a class: *What is made for each key* in docs/decisions.md. */
export class KeptEntry implements Entry {
  readonly value: unknown
  readonly loose: Shared['loose']
  readonly loadedAt: number
  readonly freshUntil: number
  readonly staleUntil: number
  readonly tags: readonly string[]
  readonly stamp: Stamp

  constructor ({ value, loose, loadedAt, freshUntil, staleUntil, tags, stamp }: Omit<Entry, 'softened'>) {
    this.value = value
    this.loose = loose
    this.loadedAt = loadedAt
    this.freshUntil = freshUntil
    this.staleUntil = staleUntil
    this.tags = tags
    this.stamp = stamp
  }
}

export type Freshness = 'fresh' | 'stale' | 'gone'

/** `maxAge` takes the ttl's place for this one question; with `Infinity`, whatever is there is fresh. */
export function freshness (entry: Entry, now: number, maxAge: number | undefined): Freshness {
  if (maxAge === undefined && entry.softened !== true) return now < entry.freshUntil ? 'fresh' : now < entry.staleUntil ? 'stale' : 'gone'
  const age = now - entry.loadedAt
  const grace = entry.staleUntil - entry.freshUntil
  if (entry.softened === true && maxAge !== Infinity) {
    const until = maxAge === undefined ? entry.staleUntil : Math.min(entry.staleUntil, entry.loadedAt + maxAge + grace)
    return grace > 0 && now < until ? 'stale' : 'gone'
  }
  return age < maxAge! ? 'fresh' : age < maxAge! + grace ? 'stale' : 'gone'
}

/** The same for a hit, which asks nothing else. */
export const isFresh = (entry: Entry, now: number, maxAge: number | undefined): boolean =>
  maxAge === undefined && entry.softened !== true ? now < entry.freshUntil : freshness(entry, now, maxAge) === 'fresh'

/** The one empty list of tags: most entries have none. */
export const noTags: readonly string[] = Object.freeze([])
