import { AsyncResource } from 'node:async_hooks'
import type { BoundMethod, PrimedRow } from './bound-object.js'
import type { AnyCacheObjectClass } from './cache-objects/cache-object.js'
import { assertUnhidden, saveBy } from './cache-objects/cache-object-instance.js'
import { idOf, modelOf } from './cache-objects/cache-object-model.js'
import type { AnyCachedObject, ArgsOf, MethodName, ResultOf, RowOf, SoleArg } from './cached-object.js'
import type { CachingManager } from './caching-manager.js'
import { assertBoolean, assertCallOptions, assertNoOptions, assertTags, isPromise, namesOf } from './checks.js'
import type { Entry } from './entry.js'
import { InvalidArgumentError, InvalidDefinitionError, InvalidationPendingError, show } from './errors.js'
import { ownOf, type Landed } from './read-path/landed.js'
import { isLoading } from './read-path/load-call.js'
import type { Logger } from './logger.js'
import { Recorder, type RequestStats } from './request/recorder.js'
import type { Region } from './region.js'
import { resolveMaxAge, resolvePolicy, writeOptionNames, type ReadOptions, type WriteOptions } from './region-options.js'
import { Fetching, SharedRefresh, ownArguments } from './request/request-fetching.js'
import { RequestMemory, hasPlainArgument } from './request/request-memory.js'
import { Read, ReadsTogether } from './request/request-read.js'
import { RequestRegion } from './request/request-region.js'
import type { Primed } from './read-path/source.js'
import { UnsavedObjects, type Response } from './request/unsaved.js'
import { copyIn, own, type Shared } from './values.js'
import { Want } from './read-path/want.js'

export interface GetOptions extends ReadOptions {
  /** Past the request's own memory, to the tiers. */
  force?: boolean
}

/**
 * One request's view of the cache. What it has seen, it keeps until the request is gone: the same key gives the same
 * promise and the same object, whatever other requests do meanwhile; its own writes and invalidations it sees at once.
 */
export class CachingApi {
  readonly #manager: CachingManager
  /** One hit in memory is all that most requests read: what remembers and counts reads is made with the next one. */
  #onlyHit: Read | undefined
  #memory: RequestMemory | undefined
  #recorder: Recorder | undefined
  #fetching = 0
  #extras: RequestExtras | undefined
  /** The plugin's requests have one: it is told of what can't be saved. */
  #logger: Logger | undefined
  #response: Response | null = null

  /** @internal Made by the plugin for each request, and by CachingManager.createApi(). */
  constructor (manager: CachingManager) {
    this.#manager = manager
  }

  /**
   * Request → tiers → loader. Resolves to `null` where there is no such row. A loader's error reaches every caller
   * unchanged and is not remembered.
   */
  get<O extends AnyCachedObject, M extends MethodName<O>> (object: O, method: M, args: ArgsOf<O, M>, options?: GetOptions): Promise<ResultOf<O, M>> {
    try {
      return this.#read(this.#manager.method(object, method), args, options === undefined ? undefined : resolveOptions(options)).promise as Promise<ResultOf<O, M>>
    } catch (error) {
      return Promise.reject(error)
    }
  }

  /**
   * One value for each entry of `argsList`, in its order. A method of one argument also takes the bare arguments: `[1, 2, 3]`;
   * unless that is an array, which is taken for the list of arguments: `[[ids], [otherIds]]`.
   *
   * Rejects with the first error of any of them. For the values of the others, in the same one batch:
   *
   *     await Promise.allSettled(ids.map(id => api.get(User, 'getById', [id])))
   */
  async getMany<O extends AnyCachedObject, M extends MethodName<O>> (object: O, method: M, argsList: ReadonlyArray<ArgsOf<O, M> | SoleArg<ArgsOf<O, M>>>, options?: GetOptions): Promise<Array<ResultOf<O, M>>> {
    const bound = this.#manager.method(object, method)
    if (!Array.isArray(argsList)) throw new InvalidArgumentError('argsList', 'an array with the arguments of each read', show(argsList))
    const resolved = options === undefined ? undefined : resolveOptions(options)
    const together = new ReadsTogether(argsList.length)
    try {
      for (let i = 0; i < argsList.length; i++) {
        const args: unknown = argsList[i]
        const read = resolved === undefined && typeof args !== 'object' ? this.#readPlain(bound, args) : this.#read(bound, Array.isArray(args) ? args : [args], resolved)
        read.join(together, i)
      }
    } catch (error) {
      together.reject(error) // for all: those that are under way may fail as well
    }
    return await together.promise as Array<ResultOf<O, M>>
  }

  /** What this request already holds, or undefined; never touches a tier. @throws InvalidArgumentError */
  peek<O extends AnyCachedObject, M extends MethodName<O>> (object: O, method: M, args: ArgsOf<O, M>): ResultOf<O, M> | undefined {
    assertNoOptions(arguments, 3)
    const bound = this.#manager.method(object, method)
    const key = bound.key(args)
    return this.#reads.get(bound, args, () => key)?.held as ResultOf<O, M> | undefined
  }

  /**
   * A row as the loader would give it, or `null`; into the tiers and this request. Resolves when the tiers have it, and no
   * process finds the old one; where a tier is away, it forgets the old one later, and this resolves all the same.
   * @throws InvalidArgumentError, also for a row that can't be kept
   */
  async set<O extends AnyCachedObject, M extends MethodName<O>> (object: O, method: M, args: ArgsOf<O, M>, row: RowOf<O, M> | null, options: WriteOptions = {}): Promise<void> {
    const bound = this.#manager.method(object, method)
    const key = bound.key(args)
    if (row === undefined) throw new InvalidArgumentError('row', 'a row, or null for "there is no such row"', 'undefined')
    assertCallOptions(options, writeOptionNames)
    if (options.tags !== undefined) assertTags(options.tags)
    const policy = resolvePolicy(bound.policy, options)
    const { path } = bound.region
    const entry = path.entryOf(bound.store(row), policy, withTags(bound.tags(row), options.tags))
    const primed = row === null ? [] : bound.primed(row).map(prime => ({ ...prime, entry: path.entryOf(prime.value, prime.policy, prime.tags) }))
    const { presented, takeBack } = this.#handWritten(bound, args, key, entry, primed)
    try {
      // A missing row that isn't to be remembered beyond this request: what was there, isn't so any more.
      if (entry.value === null && policy.negativeTtl === 0) await path.invalidate({ keys: [key] })
      else await path.set([{ key, entry }, ...primed])
    } catch (error) {
      if (!(error instanceof InvalidationPendingError)) takeBack() // that one is done in this request
      throw error
    }
    await presented
  }

  /** Resolves once no reader, in any process, can start to read the old value. @throws InvalidationPendingError, InvalidArgumentError */
  async invalidate<O extends AnyCachedObject, M extends MethodName<O>> (object: O, method: M, args: ArgsOf<O, M>): Promise<void> {
    assertNoOptions(arguments, 3)
    const bound = this.#manager.method(object, method)
    const key = bound.key(args)
    this.#reads.delete(bound, args, key)
    this.#overtake(key)
    await bound.region.path.invalidate({ keys: [key] })
  }

  /**
   * Loads anew, past every tier, and replaces what they hold. Resolves when no process finds the old value; where a tier is
   * away, it forgets the old one later, and this resolves all the same. Rejects with what the loader throws: then everything
   * stays as it was.
   * @throws InvalidArgumentError
   */
  async refresh<O extends AnyCachedObject, M extends MethodName<O>> (object: O, method: M, args: ArgsOf<O, M>): Promise<ResultOf<O, M>> {
    assertNoOptions(arguments, 3)
    const bound = this.#manager.method(object, method)
    const key = bound.key(args)
    const seen = this.#reads.get(bound, args, () => key)
    this.#overtake(key)
    return await this.#fetch(new Fetching(this, bound, ownArguments(args), key, seen), undefined, undefined, true).promise as ResultOf<O, M>
  }

  /**
   * Defines `property` on `target`, loaded when it is first read: `await user.photo`. Those read in the same tick share
   * one batch. Returns `target`. The property is not enumerable: serialising the object loads nothing.
   * @throws InvalidArgumentError, also for a target that is frozen
   */
  lazyload<T extends object, P extends string, O extends AnyCachedObject, M extends MethodName<O>> (target: T, property: P, object: O, method: M, args: ArgsOf<O, M>): T & { readonly [K in P]: Promise<ResultOf<O, M>> } {
    assertNoOptions(arguments, 5)
    const bound = this.#manager.method(object, method)
    bound.key(args)
    if (typeof target !== 'object' || target === null || !Object.isExtensible(target)) throw new InvalidArgumentError('target', 'an object that is not frozen', show(target))
    if (typeof property !== 'string') throw new InvalidArgumentError('property', 'a string', show(property))
    const isDefined = Reflect.defineProperty(target, property, { get: () => this.get(object, method, args), configurable: true, enumerable: false })
    if (!isDefined) throw new InvalidArgumentError('target', `an object whose '${property}' can be defined anew`, show(target))
    return target as T & { readonly [K in P]: Promise<ResultOf<O, M>> }
  }

  /** Anything at all, kept for this request. Returns it. */
  stash<T> (key: string, value: T): T {
    (this.#ensureExtras().stash ??= new Map()).set(key, value)
    return value
  }

  /** What `stash` was given, or undefined. */
  stashed<T> (key: string): T | undefined {
    return this.#extras?.stash?.get(key) as T | undefined
  }

  /** The region with this request's memory in front of it. @throws UnknownRegionError */
  region (name: string): Pick<Region, 'get' | 'getMany' | 'getOrCreate' | 'getOrCreateMany' | 'set' | 'setMany' | 'delete' | 'deleteMany'> {
    const regions = this.#ensureExtras().regions ??= new Map()
    let region = regions.get(name)
    if (region === undefined) {
      region = new RequestRegion(this.#manager.region(name), this.#counts)
      regions.set(name, region)
    }
    return region
  }

  /**
   * The same instance for the same class and id throughout the request. In a request of the plugin's, what is assigned
   * to it and not saved is saved before the response is sent; what is assigned later, when the response is over.
   * @throws InvalidDefinitionError, InvalidArgumentError
   */
  object<C extends AnyCacheObjectClass> (cacheObject: C, id: string | number | bigint): InstanceType<C> {
    const extras = this.#ensureExtras()
    const objects = extras.objects ??= new Map()
    let byId = objects.get(cacheObject)
    if (byId === undefined) {
      const model = modelOf(cacheObject)
      if (model === undefined) throw new InvalidDefinitionError(`a cache object's class must be made by cacheObject(…), got ${show(cacheObject)}`)
      this.#manager.useForObjects(model.backends)
      objects.set(cacheObject, byId = new Map())
    }
    const known = byId.get(idOf(id, cacheObject.name))
    if (known !== undefined) return known as InstanceType<C>
    // eslint-disable-next-line new-cap -- a class that was handed in
    const made = new cacheObject(id) as InstanceType<C> & { id: string }
    assertUnhidden(made)
    if (this.#logger !== undefined) saveBy(made, extras.unsaved ??= new UnsavedObjects(this.#manager.unsaved, this.#logger, this.#response))
    byId.set(made.id, made)
    return made
  }

  /** @internal This is a request's: what is assigned to its objects is saved, and what couldn't be is a line of `logger`. */
  savesObjects (logger: Logger, response: Response | null): this {
    this.#logger = logger
    this.#response = response
    return this
  }

  /** @internal Its response, where that isn't known yet. */
  setResponse (response: Response): void {
    if (this.#response !== null) return
    this.#response = response
    this.#extras?.unsaved?.setResponse(response)
  }

  /** @internal Undefined: it has no objects, or nobody but its maker saves them. */
  get unsaved (): UnsavedObjects | undefined {
    return this.#extras?.unsaved
  }

  /** Where this request's values came from, so far. */
  get stats (): Readonly<RequestStats> {
    return this.#counts.stats
  }

  /** @internal The value of a `Server-Timing` header. */
  get serverTiming (): string {
    return this.#counts.serverTiming
  }

  get #reads (): RequestMemory {
    return this.#memory ?? this.#startReads()
  }

  get #counts (): Recorder {
    if (this.#recorder === undefined) this.#startReads()
    return this.#recorder!
  }

  #startReads (): RequestMemory {
    const memory = this.#memory = new RequestMemory()
    const recorder = this.#recorder = new Recorder()
    const hit = this.#onlyHit
    if (hit !== undefined) {
      memory.setPlain(hit)
      recorder.hit(hit.method.region.path.hit)
      this.#onlyHit = undefined
    }
    return memory
  }

  /** Little code, since every hit comes this way: V8 inlines only so much. What has options or needs a key goes to `#readOther`. */
  #read (bound: BoundMethod, args: readonly unknown[], resolved: ResolvedGetOptions | undefined): Read {
    return resolved === undefined && hasPlainArgument(args) ? this.#readPlain(bound, args[0]) : this.#readOther(bound, args, resolved ?? noGetOptions)
  }

  /** `arg`: a sole argument that is no object. */
  #readPlain (bound: BoundMethod, arg: unknown): Read {
    return this.#seen(bound, arg) ?? this.#recalled(bound, arg, undefined) ?? this.#readByKey(bound, [arg], undefined, false)
  }

  #seen (bound: BoundMethod, arg: unknown): Read | undefined {
    const memory = this.#memory ?? (this.#onlyHit === undefined ? undefined : this.#startReads())
    const seen = memory?.getPlain(bound, arg)
    return seen === undefined ? undefined : this.#again(bound, seen)
  }

  /** What the request has read, or is reading. @throws ReentrantLoadError */
  #again (bound: BoundMethod, seen: Read): Read {
    this.#recorder!.local++
    if (isLoading() && seen.isUnderWay) bound.region.path.registerWait((seen as Fetching | SharedRefresh).key!)
    return seen
  }

  /** What the memory tier finds without a key. */
  #recalled (bound: BoundMethod, arg: unknown, maxAge: number | undefined, previous?: Read): Read | undefined {
    if (this.#extras?.primed !== undefined) return undefined
    const { path } = bound.region
    const known = path.recalled(bound.shortcuts, arg, maxAge)
    if (known === undefined) return undefined
    if (this.#memory === undefined && bound.definition.postCache === undefined) return (this.#onlyHit = new Read(own(known), bound, arg))
    this.#counts.hit(path.hit)
    return this.#hand(bound, [arg], undefined, known, previous)
  }

  /** A read with options, or with arguments that are looked up by their key. */
  #readOther (bound: BoundMethod, args: readonly unknown[], { force, maxAge }: ResolvedGetOptions): Read {
    const seen = this.#reads.get(bound, args, keyOf)
    if (seen !== undefined && !force) return this.#again(bound, seen)
    if (!hasPlainArgument(args)) return this.#readByKey(bound, args, maxAge, force, seen)
    const [arg] = args
    return this.#recalled(bound, arg, maxAge, seen) ?? this.#readByKey(bound, [arg], maxAge, force, seen)
  }

  /**
   * What came along with another row, what the memory tier has, or a flight. A sole argument that is no object comes in an array
   * that nobody else has.
   */
  #readByKey (bound: BoundMethod, args: readonly unknown[], maxAge: number | undefined, force: boolean, previous?: Read): Read {
    const key = bound.key(args)
    const primed = this.#extras?.primed?.get(key)
    if (primed !== undefined) {
      this.#extras!.primed!.delete(key)
      if (!force) {
        this.#counts.local++
        return this.#hand(bound, args, key, primed)
      }
    }
    const { path } = bound.region
    const remembered = hasPlainArgument(args) ? path.rememberedAs(bound.shortcuts, args[0], key) : path.remembered(key)
    if (remembered === undefined || !path.isFresh(remembered, maxAge)) return this.#fetch(new Fetching(this, bound, hasPlainArgument(args) ? args : ownArguments(args), key, previous), maxAge, remembered)
    this.#counts.hit(path.hit)
    return this.#hand(bound, args, key, remembered, previous)
  }

  /** `remembered`: what memory has. A refresh loads whatever the tiers have. */
  #fetch (fetching: Fetching, maxAge: number | undefined, remembered: Entry | undefined, isRefresh = false): Read {
    const { method: bound, args, key } = fetching
    if (bound.definition.postCache !== undefined) fetching.context = new AsyncResource('fastify-caching-api', { requireManualDestroy: true })
    if (isRefresh && fetching.previous !== undefined) fetching.sharedRefresh = new SharedRefresh(fetching, fetching.previous)
    this.#reads.set(args, key, fetching.sharedRefresh ?? fetching)
    this.#fetching++
    bound.region.path.fetch(new Want({ key: key!, maxAge, load: bound, arg: args, isRefresh }), fetching, remembered)
    return fetching
  }

  /** @internal */
  landed (fetching: Fetching, landed: Landed): void {
    const { method: bound } = fetching
    this.#counts.landed(landed)
    if (landed.primed !== undefined) this.#prime(landed.primed)
    this.#ended()
    if (bound.definition.postCache === undefined) this.#resolve(fetching, landed)
    // Later, since it may do anything, and whoever calls this isn't done yet.
    else this.#settle(fetching, fetching.context!.runInAsyncScope(() => settled.then(() => this.#present(bound, ownOf(landed)))))
  }

  /** @internal */
  failed (fetching: Fetching, error: unknown): void {
    this.#ended()
    this.#forget(fetching, error)
  }

  #resolve (fetching: Fetching, landed: Landed): void {
    try {
      fetching.resolve(ownOf(landed))
    } catch (error) {
      this.#forget(fetching, error)
    }
  }

  /** What could not be read is tried again by the next read; what could not be read anew stays as it was read. */
  #forget (fetching: Fetching, error: unknown): void {
    const { method: bound, args, key, sharedRefresh, previous } = fetching
    fetching.reject(error)
    this.#restore(bound, args, key, sharedRefresh ?? fetching, previous)
  }

  /**
   * Puts back what was read before, unless that has failed meanwhile, where the request still has `read` for this key; without
   * `read`, where it has nothing.
   */
  #restore (bound: BoundMethod, args: readonly unknown[], key: string | undefined, read: Read | undefined, previous: Read | undefined): void {
    if (read === undefined ? this.#reads.get(bound, args, () => key!) !== undefined : !this.#reads.delete(bound, args, key, read)) return
    while ((previous instanceof SharedRefresh && previous.isOver) || (previous instanceof Fetching && previous.hasFailed)) previous = previous.previous
    if (previous !== undefined) this.#reads.set(args, key, previous)
  }

  #ensureExtras (): RequestExtras {
    return (this.#extras ??= new RequestExtras())
  }

  #ended (): void {
    if (--this.#fetching === 0 && this.#extras !== undefined) this.#extras.overtaken = undefined
  }

  #settle (fetching: Fetching, promise: Promise<unknown>): void {
    promise.then(value => fetching.resolve(value), error => this.#forget(fetching, error))
  }

  /** What came along with other rows for this key is older than what has happened to it now, and so is what is on its way. */
  #overtake (key: string): void {
    this.#extras?.primed?.delete(key)
    if (this.#fetching > 0) (this.#ensureExtras().overtaken ??= new Set()).add(key)
  }

  /** What one method loaded, another finds (the To Do of pyramid_caching_api). */
  #prime (primed: readonly Primed[]): void {
    for (const { key, value } of primed) {
      if (this.#extras?.overtaken?.has(key) === true) continue
      try {
        (this.#ensureExtras().primed ??= new Map()).set(key, copyIn(value))
      } catch {
        // What can't be copied isn't kept, here as in the tiers.
      }
    }
  }

  /** A value that is here already. @throws what `postCache` throws */
  #hand (bound: BoundMethod, args: readonly unknown[], key: string | undefined, shared: Shared, previous?: Read): Read {
    if (bound.definition.postCache !== undefined) return this.#handPresented(bound, args, key, shared, previous)
    const read = new Read(own(shared), bound, args[0])
    this.#reads.set(args, key, read)
    return read
  }

  #handPresented (bound: BoundMethod, args: readonly unknown[], key: string | undefined, shared: Shared, previous: Read | undefined): Read {
    const fetching = new Fetching(this, bound, ownArguments(args), key, previous)
    this.#reads.set(fetching.args, key, fetching) // first: it may read this very key
    try {
      const value = this.#present(bound, own(shared))
      if (isPromise(value)) this.#settle(fetching, Promise.resolve(value))
      else fetching.resolve(value)
    } catch (error) {
      this.#forget(fetching, error)
      throw error
    }
    return fetching
  }

  /**
   * This request sees what it writes, unless `takeBack` is called. `presented` rejects with what `postCache` throws, which is
   * told at the end: the row is written all the same.
   */
  #handWritten (bound: BoundMethod, args: readonly unknown[], key: string, entry: Shared, primed: readonly Written[]): { presented: Promise<void>, takeBack: () => void } {
    const previous = this.#reads.get(bound, args, () => key)
    const presented = (async () => { this.#hand(bound, args, key, entry) })()
    presented.catch(() => {})
    const handed = this.#reads.get(bound, args, () => key)
    this.#overtake(key)
    const takeBackPrimed = primed.map(prime => this.#handPrimed(prime))
    const takeBack = () => {
      this.#restore(bound, args, key, handed, previous)
      for (const takeBack of takeBackPrimed.toReversed()) takeBack()
    }
    return { presented, takeBack }
  }

  /** Returns what takes it back, unless it was read or replaced meanwhile. */
  #handPrimed ({ method, args, key, entry }: Written): () => void {
    const read = this.#reads.get(method, args, () => key)
    const row = this.#extras?.primed?.get(key)
    this.#overtake(key)
    this.#reads.delete(method, args, key)
    const rows = this.#ensureExtras().primed ??= new Map<string, Shared>()
    rows.set(key, entry)
    return () => {
      if (rows.get(key) !== entry) return
      if (row === undefined) rows.delete(key)
      else rows.set(key, row)
      this.#restore(method, args, key, undefined, read)
    }
  }

  #present ({ definition: { postCache } }: BoundMethod, value: unknown): unknown {
    return postCache === undefined || value === null ? value : postCache(value, this)
  }
}

/** The options of a read, checked. `maxAge` in milliseconds. */
interface ResolvedGetOptions { readonly force: boolean, readonly maxAge: number | undefined }

const noGetOptions: ResolvedGetOptions = { force: false, maxAge: undefined }

const getOptionNames = namesOf<GetOptions>({ force: true, maxAge: true })

/** @throws InvalidOptionsError */
function resolveOptions (options: GetOptions): ResolvedGetOptions {
  assertCallOptions(options, getOptionNames)
  const { force = false, maxAge } = options
  assertBoolean(force, 'options.force')
  return { force, maxAge: resolveMaxAge(maxAge) }
}

/** A row for another method, as it is kept. */
interface Written extends PrimedRow { readonly entry: Shared }

/** What few requests have: made with the first of it, since every property of a request takes time to make. */
class RequestExtras {
  /** Rows that came with others, by key, until they are read. */
  primed: Map<string, Shared> | undefined
  /** Keys that were written or invalidated while something was fetched: rows that come with that are older. */
  overtaken: Set<string> | undefined
  stash: Map<string, unknown> | undefined
  regions: Map<string, RequestRegion> | undefined
  /** Cache objects, by class and id. */
  objects: Map<AnyCacheObjectClass, Map<string, object>> | undefined
  unsaved: UnsavedObjects | undefined
}

const settled = Promise.resolve()

const keyOf = (bound: BoundMethod, args: readonly unknown[]) => bound.key(args)

/** A row keeps the tags of its definition, whatever a call adds. */
const withTags = (own: readonly string[], added: readonly string[] | undefined): readonly string[] => added === undefined ? own : [...new Set([...own, ...added])]
