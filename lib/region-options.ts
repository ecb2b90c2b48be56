import { assertBackend, assertObject, assertOneOf, assertSerializer, namesOf } from './checks.js'
import { longestTimer, resolveDuration, type Duration } from './duration.js'
import { InvalidOptionsError, show } from './errors.js'
import { msgpackSerializer, type Serializer } from './serializer.js'
import type { Policy } from './read-path/source.js'
import type { Backend } from './backends/backend.js'
import { isNothing } from './backends/nothing.js'

export interface RegionOptions {
  /** Nearest first: `[memory(), redis(client)]`. A hit in a farther tier is copied into the nearer ones. */
  tiers: readonly [Backend, ...Backend[]]
  /** How long a value is fresh. */
  ttl: Duration
  /** How long past `ttl` a value may still be served, while one caller reloads it or while the loader fails. Default 0. */
  grace?: Duration
  /** Who reloads a stale value: 'background' serves everybody at once; 'inline' makes the elected caller wait for the new one, as dogpile does. Default 'background'. */
  refresh?: 'background' | 'inline'
  /** How long "there is no such row" is remembered, before its grace. 0: not at all. Default: `ttl`, as a row. */
  negativeTtl?: Duration
  /** Spreads expiry: each `ttl` is lengthened or shortened by up to this fraction. Default 0.1. */
  jitter?: number
  /** How long the elected loader may hold the lock without renewing it, and the others' next look after that. Default '5s'. */
  lockTtl?: Duration
  /** How long the others wait for its value before they load on their own. Default '5s'. */
  lockWait?: Duration
  /** After `soft`, a stale value is served if there is one; after `hard`, callers get LoadTimeoutError. The load goes on and is cached. Default: neither. */
  loadTimeout?: { soft?: Duration, hard?: Duration }
  /** Budget of one operation on one tier; past it the tier counts as missing for this read. Default '250ms'. */
  tierTimeout?: Duration
  /** Between values and the bytes of shared tiers; memory keeps values. Default: msgpackr, which keeps types that JSON loses. */
  serializer?: Serializer
  /** 'acknowledged': an invalidation resolves when every process's memory tier has dropped the value. 'eventual': when the message is sent. Default 'acknowledged'. */
  coherence?: 'acknowledged' | 'eventual'
}

export interface ReadOptions {
  /** Older values count as stale for this read alone, and younger ones as fresh; nothing is persisted. `Infinity`: whatever is there. */
  maxAge?: Duration
}

export interface WriteOptions {
  /** How long this value is fresh. Default: the region's, or the method's. */
  ttl?: Duration
  /** How long past `ttl` it may be served stale. Default: the region's, or the method's. */
  grace?: Duration
  /** What `invalidateTags` forgets it by. */
  tags?: readonly string[]
}

export interface CreateOptions<T> extends ReadOptions, Omit<WriteOptions, 'tags'> {
  /** What `invalidateTags` forgets it by; or what makes that from the value. */
  tags?: readonly string[] | ((value: T) => readonly string[])
  /** A value for which this is false is returned to all who wait for it, and not cached. */
  shouldCache?: (value: T) => boolean
}

export const readOptionNames = namesOf<ReadOptions>({ maxAge: true })
export const writeOptionNames = namesOf<WriteOptions>({ ttl: true, grace: true, tags: true })
export const createOptionNames = namesOf<CreateOptions<unknown>>({ maxAge: true, ttl: true, grace: true, tags: true, shouldCache: true })

/** A region's options, checked, in milliseconds, with every default in place. */
export interface ResolvedRegionOptions {
  /** Those that keep nothing are left out. */
  readonly tiers: readonly Backend[]
  readonly policy: Policy
  /** Only for rows of cached objects: values of the region itself may be `null` like any other. */
  readonly negativeTtl: number | undefined
  readonly refresh: 'background' | 'inline'
  readonly jitter: number
  readonly lockTtl: number
  readonly lockWait: number
  readonly softTimeout: number | undefined
  readonly hardTimeout: number | undefined
  readonly tierTimeout: number
  readonly serializer: Serializer
  readonly coherence: 'acknowledged' | 'eventual'
}

const optionNames = namesOf<RegionOptions>({ tiers: true, ttl: true, grace: true, refresh: true, negativeTtl: true, jitter: true, lockTtl: true, lockWait: true, loadTimeout: true, tierTimeout: true, serializer: true, coherence: true })
const loadTimeoutNames = namesOf<NonNullable<RegionOptions['loadTimeout']>>({ soft: true, hard: true })

/** @throws InvalidOptionsError that names the option by its path */
export function resolveRegionOptions (options: unknown, path: string): ResolvedRegionOptions {
  assertObject(options, path, optionNames)
  const { jitter = 0.1, loadTimeout = {}, serializer = msgpackSerializer } = options
  const { refresh = 'background', coherence = 'acknowledged' } = options
  const duration = <F extends number | undefined>(name: string, fallback: F, least?: number, most?: number): number | F =>
    options[name] === undefined ? fallback : resolveDuration(options[name], `${path}.${name}`, least, most)

  const tiers = resolveTiers(options.tiers, `${path}.tiers`)
  const ttl = resolveDuration(options.ttl, `${path}.ttl`, 1)
  if (typeof jitter !== 'number' || !(jitter >= 0 && jitter < 1)) throw new InvalidOptionsError(`${path}.jitter`, 'a fraction from 0 to below 1', show(jitter))
  const { soft, hard } = resolveLoadTimeout(loadTimeout, `${path}.loadTimeout`)
  assertSerializer(serializer, `${path}.serializer`)
  assertOneOf(refresh, `${path}.refresh`, ['background', 'inline'])
  assertOneOf(coherence, `${path}.coherence`, ['acknowledged', 'eventual'])

  return {
    tiers,
    policy: { ttl, grace: duration('grace', 0), negativeTtl: undefined, shouldCache: undefined },
    negativeTtl: duration('negativeTtl', undefined),
    refresh,
    jitter,
    lockTtl: duration('lockTtl', 5000, 50, longestTimer),
    lockWait: duration('lockWait', 5000),
    softTimeout: soft,
    hardTimeout: hard,
    tierTimeout: duration('tierTimeout', 250, 1, longestTimer),
    serializer,
    coherence
  }
}

function resolveTiers (tiers: unknown, path: string): readonly Backend[] {
  if (!Array.isArray(tiers) || tiers.length === 0) throw new InvalidOptionsError(path, 'an array of at least one backend, such as [memory()]', show(tiers))
  tiers.forEach((backend: unknown, i) => assertBackend(backend, `${path}[${i}]`))
  if (new Set(tiers).size !== tiers.length) throw new InvalidOptionsError(path, 'an array of different backends', 'the same one twice')
  return tiers.filter(backend => !isNothing(backend))
}

function resolveLoadTimeout (loadTimeout: unknown, path: string): { soft: number | undefined, hard: number | undefined } {
  assertObject(loadTimeout, path, loadTimeoutNames)
  const timeout = (name: 'soft' | 'hard') => loadTimeout[name] === undefined ? undefined : resolveDuration(loadTimeout[name], `${path}.${name}`, 1, longestTimer)
  const soft = timeout('soft')
  const hard = timeout('hard')
  if (soft !== undefined && hard !== undefined && soft > hard) throw new InvalidOptionsError(`${path}.soft`, `no longer than ${path}.hard`, show(loadTimeout.soft))
  return { soft, hard }
}

/** What a call's own options make of its region's policy. @throws InvalidOptionsError */
export function resolvePolicy (base: Policy, { ttl, grace, shouldCache }: { ttl?: Duration, grace?: Duration, shouldCache?: unknown }): Policy {
  if (ttl === undefined && grace === undefined && shouldCache === undefined) return base
  if (shouldCache !== undefined && typeof shouldCache !== 'function') throw new InvalidOptionsError('options.shouldCache', 'a function', show(shouldCache))
  const own = ttl === undefined ? undefined : resolveDuration(ttl, 'options.ttl', 1)
  return {
    ...base,
    ttl: own ?? base.ttl,
    negativeTtl: own === undefined ? base.negativeTtl : undefined,
    grace: grace === undefined ? base.grace : resolveDuration(grace, 'options.grace'),
    shouldCache: shouldCache as Policy['shouldCache']
  }
}

export const resolveMaxAge = (maxAge: Duration | undefined): number | undefined =>
  maxAge === undefined ? undefined : resolveDuration(maxAge, 'options.maxAge', 0, Infinity)
