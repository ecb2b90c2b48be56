import type { Test } from 'tap'
import type { Entry } from '../../lib/entry.js'
import { msgpackSerializer } from '../../lib/serializer.js'
import type { Stamp } from '../../lib/stamp.js'
import type { Backend, LeasingBackend } from '../../lib/backends/backend.js'
import type { Claim } from '../../lib/tiers/lease.js'
import { SharedTier, type SharedTierOptions } from '../../lib/tiers/shared-tier.js'
import type { Filled } from '../../lib/tiers/tier-fills.js'
import { copyIn } from '../../lib/values.js'
import { bound, switchable } from './backend-doubles.js'
import { fakeClock, silentLogger } from './doubles.js'
import { onRedis, onRedisByMarks, onThreeMethods, type Place } from './places.js'

/** What a test does on each kind of place. */
export interface OnPlace {
  readonly make: (t: Test) => Place
  /** Whether a fill that comes too late is refused there. */
  readonly fenced: boolean
}

/** The same tests of a tier on each kind of backend that one may stand on. */
export function onEachPlace (t: Test, server: { readonly port: number }, tests: (t: Test, on: OnPlace) => void): void {
  const places: Record<string, OnPlace> = {
    Redis: { make: t => onRedis(t, server), fenced: true },
    'Redis, by marks': { make: t => onRedisByMarks(t, server), fenced: true },
    'a backend of three methods': { make: onThreeMethods, fenced: false }
  }
  for (const [kind, on] of Object.entries(places)) void t.test(`a tier on ${kind}`, async t => { tests(t, on) })
}

export const clock = fakeClock()

export function tierOn (t: Test, { keyspace }: Place, backend: Backend, more: Partial<SharedTierOptions> = {}) {
  const logger = silentLogger()
  const tier = new SharedTier({ backend, keyspace, serializer: msgpackSerializer, timeout: 10_000, logger, now: clock.now, ...more })
  t.teardown(() => tier.close())
  return { tier, logger }
}

/** One tier in each of two processes, and three keys. The first process may find the backend away. */
export function twoTiers (t: Test, place: Place) {
  const { backend, state } = switchable(place.another())
  const { tier, logger } = tierOn(t, place, backend)
  const { tier: theirs } = tierOn(t, place, place.another())
  const [a, b, c] = ['a', 'b', 'c'].map(rest => place.keyspace.entry('k', rest)) as [string, string, string]
  return { ...place, tier, theirs, logger, state, a, b, c }
}

/** On Redis, by marks, with one of its methods replaced. */
export function patchedTier (t: Test, server: { readonly port: number }, patch: Partial<LeasingBackend>) {
  const place = onRedisByMarks(t, server)
  const own = place.another()
  const backend = new Proxy(own, { get: (target, name) => patch[name as keyof LeasingBackend] ?? bound(target, name) })
  return { ...place, ...tierOn(t, place, backend), a: place.keyspace.entry('k', 'a') }
}

const unstamped: Stamp = { epoch: 0, softened: 0, tagged: 0, deleted: 0 }

/** Fresh for half a minute, and stale for another half. */
export const entryOf = (value: unknown, tags: string[] = []): Entry =>
  ({ ...copyIn(value), loadedAt: clock.now(), freshUntil: clock.now() + 30_000, staleUntil: clock.now() + 60_000, tags, stamp: unstamped })

export const claim = async (tier: SharedTier, ...keys: string[]) => await tier.claimMany(keys, { ttl: 60_000 })

export async function fill (tier: SharedTier, claims: readonly Claim[], fills: readonly { key: string, value: unknown, tags?: string[] }[]): Promise<Filled[]> {
  return await tier.fillMany(fills.map(({ key, value, tags }, i) => {
    const { lease } = claims[i]!
    const entry = { ...entryOf(value, tags), stamp: lease.stamp }
    return { key, entry, bytes: tier.encode(entry, lease.stamp), lease }
  }))
}

/** Claims and fills, as a load does. */
export async function load (tier: SharedTier, key: string, value: unknown, tags?: string[]): Promise<Filled> {
  return (await fill(tier, await claim(tier, key), [{ key, value, ...(tags !== undefined && { tags }) }]))[0]!
}

/** The values, in the order of the keys; of softened ones it is said. */
export const read = async (tier: SharedTier, ...keys: string[]) => (await tier.readMany(keys)).map(entry => entry && (entry.softened ? { softened: entry.value } : entry.value))
