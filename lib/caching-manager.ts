import { BoundObject, type BoundMethod } from './bound-object.js'
import { versionOf, type AnyCachedObject } from './cached-object.js'
import { CachingApi } from './caching-api.js'
import { assertObject, isObject, namesOf } from './checks.js'
import { Coherence } from './coherence/coherence.js'
import { longestLease } from './coherence/messages.js'
import { isSystemTime, recentTime } from './clock.js'
import { resolveDuration, type Duration } from './duration.js'
import { ClosedError, InvalidDefinitionError, InvalidOptionsError, UnknownRegionError, show } from './errors.js'
import { Keyspace, assertName, coherenceChannel } from './keys.js'
import { isLine, type InvalidationBus, type Line } from './line.js'
import { Outside } from './read-path/load-call.js'
import type { LoaderContext } from './loader-context.js'
import type { DogpileLock } from './locks/lock.js'
import { unthrowing, type Logger } from './logger.js'
import { ReadPath } from './read-path/read-path.js'
import { promiseTry } from './promise-try.js'
import { Region } from './region.js'
import { resolveRegionOptions, type RegionOptions, type ResolvedRegionOptions } from './region-options.js'
import { isLeasing, isLocal, isOpening, type Backend } from './backends/backend.js'
import type { UnsavedObjects } from './request/unsaved.js'
import { endUse, isInUse, startUse } from './shared-use.js'
import { withTimeout } from './with-timeout.js'

export interface CachingManagerOptions {
  /** Region name → its configuration. At least one. */
  regions: Record<string, RegionOptions>
  /** First part of every key. Default 'caching-api'. */
  namespace?: string
  /** Called when a loader first needs it, never on a hit: nothing opens a database unless data is missing everywhere. */
  context?: LoaderContext | (() => LoaderContext | Promise<LoaderContext>)
  /** Elects one loader among processes. Default: none, single flight within the process only. */
  lock?: DogpileLock
  /** Carries invalidations between processes. Default: the server of the first Redis tier. */
  bus?: InvalidationBus
  /**
   * How long a process serves from memory, in front of a shared tier, without hearing from the line that carries
   * invalidations, and how long at most an invalidation waits for one that doesn't answer. Default '500ms'.
   */
  lineLease?: Duration
  /** Is told of tiers that are away, and of values that can't be kept. Default: nobody; in the plugin, `fastify.log`. */
  logger?: Logger
  /** Milliseconds since the epoch; tests pass their own. Default `Date.now`. */
  now?: () => number
}

export const managerOptionNames = namesOf<CachingManagerOptions>({ regions: true, namespace: true, context: true, lock: true, bus: true, lineLease: true, logger: true, now: true })

/** The longest that `ready` waits: it only warms up. Milliseconds. */
const longestBoot = 2000
/** How long the first reads wait for the line, where nobody has awaited `ready`; then they go on without trust. Milliseconds. */
const longestJoining = 100
/** How long `close` waits for work under way. Milliseconds. */
const closeTimeout = 10_000

const ignore = () => {}
const silent: Logger = { debug: ignore, info: ignore, warn: ignore, error: ignore }

/** Regions by name, for the lifetime of the application. Without Fastify, in a job or a script, make it by `new` and `close()` it. */
export class CachingManager {
  /** The regions of the options. `region(name)` throws for an unknown one. */
  readonly regions: ReadonlyMap<string, Region>
  /** @internal The requests whose cache objects have something to save, or are being saved. */
  readonly unsaved = new Set<UnsavedObjects>()
  readonly #context: CachingManagerOptions['context']
  readonly #logger: Logger
  /** Tiers, the bus, and what cache objects use. Those that no other manager uses are closed with this one. */
  readonly #used = new Set<Backend | InvalidationBus>()
  readonly #bound = new Map<AnyCachedObject, BoundObject>()
  #lastObject: AnyCachedObject | undefined
  #lastName: string | undefined
  #lastMethod: BoundMethod | undefined
  readonly #names = new Set<string>()
  readonly #prepared: Promise<unknown>
  readonly #coherence: Coherence | undefined
  #opened: Promise<LoaderContext> | undefined
  #closing: Promise<void> | undefined
  #closed = false

  /** @throws InvalidOptionsError that names the option by its path */
  constructor (options: CachingManagerOptions) {
    const { namespace, context, lock, bus, lineLease, logger, now, regions } = resolveManagerOptions(options)
    const recently = isSystemTime(now) ? recentTime : now
    this.#context = context
    this.#logger = logger
    const backends = [...new Set([...regions.values()].flatMap(region => region.tiers))]
    const line = bus ?? lineOf(backends)
    const outside = new Outside()
    const shortestTimeout = Math.min(...Array.from(regions.values(), region => region.tierTimeout))
    // Memory alone is each process's own, unless a bus was given for it.
    const isShared = ({ tiers }: ResolvedRegionOptions) => bus !== undefined || !tiers.every(isLocal)
    const coherence = this.#coherence = line === undefined || ![...regions.values()].some(isShared)
      ? undefined
      : new Coherence({
        line,
        channel: coherenceChannel(namespace),
        lease: lineLease,
        timeout: shortestTimeout,
        logger
      })
    const joined = coherence && withTimeout(Math.min(longestJoining, shortestTimeout), coherence.joined, 'the line').catch(() => {})
    this.regions = new Map([...regions].map(([name, region]) => {
      const keyspace = new Keyspace(namespace, name)
      logWhatIsMissing(name, region, { lock, line, logger })
      return [name, new Region(keyspace, new ReadPath(keyspace, region, { lock, line, coherence: isShared(region) ? coherence : undefined, joined, logger, now, recently, outside }))]
    }))
    for (const used of bus === undefined ? backends : [...backends, bus]) this.#use(used)
    this.#prepared = Promise.all([
      coherence?.start(),
      promiseTry(() => lock?.prepare?.()).catch(error => logger.debug({ err: error }, 'the lock could not be prepared'))
    ])
  }

  /** @throws UnknownRegionError */
  region (name: string): Region {
    const region = this.regions.get(name)
    if (region === undefined) throw new UnknownRegionError(String(name), [...this.regions.keys()].join(', '))
    return region
  }

  /** A CachingApi outside a request, with a memory of its own: for a job, a script, a test. Its cache objects are not saved by themselves. */
  createApi (): CachingApi {
    return new CachingApi(this)
  }

  /**
   * Resolves when the lock is prepared and the memory tiers hear of other processes' invalidations, or when the longest
   * `tierTimeout` is over, or two seconds: it waits for no server that is away. The plugin does so at boot. Never rejects.
   */
  async ready (): Promise<void> {
    const longestTimeout = Math.max(...Array.from(this.regions.values(), region => region.path.options.tierTimeout))
    await withTimeout(Math.min(longestBoot, longestTimeout), this.#prepared, 'the line').catch(() => {})
  }

  /** Resolves when no load, no reload, no write and no save of a request's objects is under way any more. For tests and scripts. */
  async idle (): Promise<void> {
    await Promise.all([this.#saved(), ...Array.from(this.regions.values(), region => region.path.idle())])
  }

  async #saved (): Promise<void> {
    for (;;) {
      const saving = Array.from(this.unsaved, one => one.saving).filter(one => one !== undefined)
      if (saving.length === 0) return
      await Promise.all(saving)
    }
  }

  /** Lets running loads, writes and saves end, then closes what it opened itself. Clients that were handed in stay open. */
  close (): Promise<void> {
    return (this.#closing ??= this.#close())
  }

  async #close (): Promise<void> {
    // Responses of connections that have just been closed may not have said so yet.
    for (const unsaved of this.unsaved) unsaved.end()
    try {
      await withTimeout(closeTimeout, this.idle(), 'what is under way')
    } catch (error) {
      this.#logger.warn({ err: error }, 'closing while loads or writes are still under way')
    }
    this.#closed = true
    for (const region of this.regions.values()) region.path.close()
    await this.#coherence?.close()
    const closed = await Promise.allSettled(Array.from(this.#used, endUse))
    for (const result of closed) if (result.status === 'rejected') this.#logger.warn({ err: result.reason }, 'a backend could not be closed')
  }

  /** @internal These backends of a cache object are used. The connections that they open are closed with this manager. @throws ClosedError */
  useForObjects (backends: Iterable<Backend>): void {
    if (this.#closed) throw new ClosedError('The manager')
    for (const backend of backends) if (isOpening(backend)) this.#use(backend)
  }

  #use (used: Backend | InvalidationBus): void {
    if (this.#used.has(used)) return
    this.#used.add(used)
    startUse(used)
  }

  /** @internal A method of a cached object, bound to its region. @throws InvalidDefinitionError, UnknownRegionError */
  method (object: AnyCachedObject, name: string): BoundMethod {
    // Most reads are of the method that was read last, by any request.
    return this.#lastMethod !== undefined && object === this.#lastObject && name === this.#lastName ? this.#lastMethod : this.#find(object, name)
  }

  #find (object: AnyCachedObject, name: string): BoundMethod {
    const method = this.bind(object).method(name)
    this.#lastObject = object
    this.#lastName = name
    return (this.#lastMethod = method)
  }

  /** @internal A cached object, bound to its region. @throws InvalidDefinitionError, UnknownRegionError */
  bind (object: AnyCachedObject): BoundObject {
    let bound = this.#bound.get(object)
    if (bound !== undefined) return bound
    if (versionOf(object) === undefined) throw new InvalidDefinitionError(`a cached object must be made by cachedObject(…), got ${show(object)}`)
    const region = this.region(object.region)
    const name = `${object.region}:${object.name}`
    if (this.#names.has(name)) throw new InvalidDefinitionError(`there are two cached objects named '${object.name}' in region '${object.region}': they would read each other's values`)
    bound = new BoundObject(object, { region, context: () => this.#open(), logger: this.#logger })
    this.#names.add(name)
    this.#bound.set(object, bound)
    return bound
  }

  #open (): LoaderContext | Promise<LoaderContext> {
    const context = this.#context
    if (typeof context !== 'function') return context ?? ({} as LoaderContext)
    if (this.#opened === undefined) {
      const opened = this.#opened = promiseTry(() => context())
      opened.catch(() => { this.#opened = undefined }) // the next load tries again
    }
    return this.#opened
  }
}

function resolveManagerOptions (options: CachingManagerOptions) {
  assertObject(options, 'options', managerOptionNames)
  const { regions, namespace = 'caching-api', context, lock, bus, lineLease = 500, logger = silent, now = Date.now } = options as CachingManagerOptions
  assertName(namespace, 'namespace')
  if (!isObject(regions)) throw new InvalidOptionsError('regions', 'an object of at least one region', show(regions))
  if (Object.keys(regions).length === 0) throw new InvalidOptionsError('regions', 'an object of at least one region', 'an empty object')
  const resolved = new Map<string, ResolvedRegionOptions>()
  for (const [name, region] of Object.entries(regions)) {
    assertName(name, `regions[${show(name)}]`)
    resolved.set(name, resolveRegionOptions(region, `regions.${name}`))
  }
  if (context !== undefined && typeof context !== 'function' && (typeof context !== 'object' || context === null)) throw new InvalidOptionsError('context', 'an object, or a function that opens one', show(context))
  if (lock !== undefined && typeof (Object(lock) as Partial<DogpileLock>).acquire !== 'function') throw new InvalidOptionsError('lock', 'a lock with acquire, such as redlock([client])', show(lock))
  if (bus !== undefined && !isLine(bus)) throw new InvalidOptionsError('bus', 'a bus such as redisBus(client)', show(bus))
  if (typeof now !== 'function') throw new InvalidOptionsError('now', 'a function that returns milliseconds', show(now))
  for (const level of ['debug', 'info', 'warn', 'error'] as const) {
    if (typeof (Object(logger) as Partial<Logger>)[level] !== 'function') throw new InvalidOptionsError('logger', 'an object with debug, info, warn and error', show(logger))
  }
  return { namespace, context, lock, bus, lineLease: resolveDuration(lineLease, 'lineLease', 20, longestLease), logger: unthrowing(logger), now, regions: resolved }
}

const lineOf = (backends: readonly Backend[]): Line | undefined =>
  backends.filter(isLeasing).find(backend => backend.line !== undefined)?.line

/** Logs, once at boot, what a region has to do without. */
function logWhatIsMissing (region: string, { tiers }: ResolvedRegionOptions, { lock, line, logger }: { lock: DogpileLock | undefined, line: Line | undefined, logger: Logger }): void {
  const shared = tiers.filter(backend => !isLocal(backend))
  for (const backend of shared) {
    if (isLeasing(backend)) continue
    logger.info({ region, tier: backend.name }, `region ${region}: ${backend.name} has no compare-and-set: a value that is invalidated while it is loaded may be written back there, and invalidating a tag makes every value with tags be loaded anew`)
  }
  if (line === undefined && shared.length > 0 && tiers.some(isLocal)) {
    logger.info({ region }, `region ${region}: nothing carries invalidations to other processes (a Redis tier would, or bus: redisBus(client)): their memory keeps values for their ttl`)
  }
  if (line === undefined && shared.length > 0 && lock !== undefined) {
    logger.info({ region }, `region ${region}: nothing wakes up those who wait for another process's load (a Redis tier would, or bus: redisBus(client)): they look for its value now and then`)
  }
  if (lock !== undefined && shared.length === 0) logger.info({ region }, `region ${region}: no shared tier: the lock is not used`)
  if (tiers.some(backend => isLocal(backend) && isInUse(backend))) logger.warn({ region }, `region ${region}: another manager uses the same memory(): neither knows what the other invalidates. Give each its own`)
}
