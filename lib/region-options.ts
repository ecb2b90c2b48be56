import { resolveDuration, type Duration } from './duration.js'
import { InvalidArgumentError, InvalidOptionsError, show } from './errors.js'
import type { Policy } from './flights.js'
import { msgpackSerializer, type Serializer } from './serializer.js'
import type { Backend } from './tiers/backend.js'
import { isNothing } from './tiers/nothing.js'

export interface RegionOptions {
  /** Nearest first: `[memory(), redis(client)]`. A hit in a farther tier is copied into the nearer ones. */
  tiers: readonly [Backend, ...Backend[]]
  /** How long a value is fresh. */
  ttl: Duration
  /** How long past `ttl` a value may still be served, while one caller reloads it or while the loader fails. Default 0. */
  grace?: Duration
  /** Who reloads a stale value: 'background' serves everybody at once; 'inline' makes the elected caller wait for the new one, as dogpile does. Default 'background'. */
  refresh?: 'background' | 'inline'
  /** How long "there is no such row" is remembered, with no grace after it. 0: not at all. Default: `ttl`, as a row. */
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

/** A region's options, checked, in milliseconds, with every default in place. */
export interface ResolvedRegionOptions {
  /** Those that keep something. */
  readonly tiers: readonly Backend[]
  readonly policy: Policy
  /** For the rows of cached objects alone: to a region itself, `null` is a value like others. */
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

const known = ['tiers', 'ttl', 'grace', 'refresh', 'negativeTtl', 'jitter', 'lockTtl', 'lockWait', 'loadTimeout', 'tierTimeout', 'serializer', 'coherence']

/** @throws InvalidOptionsError that names the option by its path */
export function resolveRegionOptions (options: unknown, path: string): ResolvedRegionOptions {
  assertObject(options, path, known)
  const tiers = resolveTiers(options.tiers, `${path}.tiers`)
  const ttl = resolveDuration(options.ttl, `${path}.ttl`, 1)
  const duration = <F extends number | undefined>(name: string, fallback: F, least?: number, most?: number): number | F =>
    options[name] === undefined ? fallback : resolveDuration(options[name], `${path}.${name}`, least, most)

  const { jitter = 0.1, loadTimeout = {}, serializer = msgpackSerializer } = options
  if (typeof jitter !== 'number' || !(jitter >= 0 && jitter < 1)) throw new InvalidOptionsError(`${path}.jitter`, 'a fraction from 0 to below 1', show(jitter))
  assertObject(loadTimeout, `${path}.loadTimeout`, ['soft', 'hard'])
  const timeout = (name: 'soft' | 'hard') => loadTimeout[name] === undefined ? undefined : resolveDuration(loadTimeout[name], `${path}.loadTimeout.${name}`, 1, longestTimer)
  const softTimeout = timeout('soft')
  const hardTimeout = timeout('hard')
  if (softTimeout !== undefined && hardTimeout !== undefined && softTimeout > hardTimeout) throw new InvalidOptionsError(`${path}.loadTimeout.soft`, `no longer than ${path}.loadTimeout.hard`, show(loadTimeout.soft))
  const { encode, decode } = Object(serializer) as Partial<Serializer>
  if (typeof encode !== 'function' || typeof decode !== 'function') throw new InvalidOptionsError(`${path}.serializer`, 'an object with encode and decode', show(serializer))

  return {
    tiers,
    policy: { ttl, grace: duration('grace', 0), negativeTtl: undefined, shouldCache: undefined },
    negativeTtl: duration('negativeTtl', undefined),
    refresh: oneOf(options.refresh ?? 'background', `${path}.refresh`, ['background', 'inline']),
    jitter,
    lockTtl: duration('lockTtl', 5000, 50, longestTimer),
    lockWait: duration('lockWait', 5000),
    softTimeout,
    hardTimeout,
    tierTimeout: duration('tierTimeout', 250, 1, longestTimer),
    serializer: serializer as Serializer,
    coherence: oneOf(options.coherence ?? 'acknowledged', `${path}.coherence`, ['acknowledged', 'eventual'])
  }
}

/** What a timer of Node can wait. Milliseconds. */
export const longestTimer = 2 ** 31 - 1

function resolveTiers (tiers: unknown, path: string): readonly Backend[] {
  if (!Array.isArray(tiers) || tiers.length === 0) throw new InvalidOptionsError(path, 'an array of at least one backend, such as [memory()]', show(tiers))
  tiers.forEach((backend: unknown, i) => assertBackend(backend, `${path}[${i}]`))
  if (new Set(tiers).size !== tiers.length) throw new InvalidOptionsError(path, 'an array of different backends', 'the same one twice')
  return tiers.filter(backend => !isNothing(backend))
}

export function assertBackend (backend: unknown, path: string): asserts backend is Backend {
  const { name, getMany, setMany, deleteMany } = Object(backend) as Partial<Backend>
  if (typeof getMany !== 'function' || typeof setMany !== 'function' || typeof deleteMany !== 'function') {
    throw new InvalidOptionsError(path, 'a backend with getMany, setMany and deleteMany, such as memory() or redis(client)', show(backend))
  }
  if (typeof name !== 'string' || !/^[\w-]{1,40}$/.test(name)) throw new InvalidOptionsError(`${path}.name`, 'a name of 1 to 40 letters, digits, - and _', show(name))
}

/** @throws InvalidOptionsError for what is no plain object, or has a property that isn't `known` */
export function assertObject (value: unknown, path: string, known: readonly string[]): asserts value is Record<string, unknown> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw new InvalidOptionsError(path, 'an object', show(value))
  for (const name of Object.keys(value)) {
    if (!known.includes(name)) throw new InvalidOptionsError(`${path}.${name}`, `absent: the options are ${known.join(', ')}`, show((value as Record<string, unknown>)[name]))
  }
}

function oneOf<T extends string> (value: unknown, path: string, choices: readonly T[]): T {
  if (!choices.includes(value as T)) throw new InvalidOptionsError(path, choices.map(choice => `'${choice}'`).join(' or '), show(value))
  return value as T
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

/** @throws InvalidArgumentError */
export function assertTags (tags: unknown): asserts tags is readonly string[] {
  if (!Array.isArray(tags) || !tags.every(tag => typeof tag === 'string')) throw new InvalidArgumentError('tags', 'an array of strings', show(tags))
}
