import { unthrowing, type Logger } from '../logger.js'
import { promiseTry } from '../promise-try.js'

/** An object with assignments that may not have been saved yet. */
export interface Saveable { save (): Promise<void> }

/** A response of http; or of http2, where only the stream knows whether it is over. */
export interface Response {
  once (event: 'close', listener: () => void): unknown
  readonly destroyed?: boolean
  readonly stream?: { readonly destroyed: boolean }
}

/**
 * The cache objects of one request that have something to save. The plugin calls `save()` before it sends the response. What
 * is assigned from then on is saved when the response is over, sent or not; what is assigned after that, at once and in the
 * background.
 */
export class UnsavedObjects {
  /** The ones of all requests that have something to save, or are saving. */
  readonly #all: Set<UnsavedObjects>
  readonly #logger: Logger
  #response: Response | null
  /** The end of the response is listened for. */
  #isHeard = false
  /** The response is over, or nobody will call `save()` any more. */
  #isOver = false
  #objects: Set<Saveable> | undefined
  #saving: Promise<void> | undefined

  /** `response`: null until `setResponse` is called with it. */
  constructor (all: Set<UnsavedObjects>, logger: Logger, response: Response | null) {
    this.#all = all
    this.#logger = unthrowing(logger)
    this.#response = response
  }

  /** Resolves when what is being saved is saved, or the log says why not. Undefined if nothing is being saved. */
  get saving (): Promise<void> | undefined {
    return this.#saving
  }

  setResponse (response: Response): void {
    this.#response = response
    if (this.#objects !== undefined) this.#follow(response)
  }

  /** Takes over to save the object. False: there is no response yet, whose end would see to it. */
  take (object: Saveable): boolean {
    if (this.#objects !== undefined) {
      this.#objects.add(object)
    } else {
      this.#objects = new Set([object])
      if (this.#response !== null) this.#follow(this.#response)
    }
    return this.#response !== null
  }

  /** Undefined where nothing was assigned, and nothing is being saved. Otherwise resolves as `saving` does. */
  save (): Promise<void> | undefined {
    // Fastify sends again if an async handler doesn't return what it has sent: the second save must not overtake the first.
    return this.#objects === undefined ? this.#saving : this.#track(Promise.all([this.#saving, this.#saveAll()]))
  }

  /** Nobody will call `save()` any more. */
  end (): void {
    this.#isOver = true
    if (this.#objects !== undefined) this.#saveSoon()
  }

  #follow (response: Response): void {
    this.#all.add(this)
    // Not Fastify's onResponse or onRequestAbort: a client that goes away can get past both.
    if (!this.#isHeard) response.once('close', () => this.end())
    this.#isHeard = true
    if (this.#isOver || isOver(response)) this.end()
  }

  /** Together with what else is assigned in this tick, and until the save that is under way has ended. */
  #saveSoon (): void {
    void this.#track(Promise.resolve(this.#saving).then(() => this.#saveAll()))
  }

  async #saveAll (): Promise<void> {
    const objects = this.#objects ?? []
    this.#objects = undefined
    const saved = await Promise.allSettled(Array.from(objects, object => promiseTry(() => object.save())))
    for (const result of saved) {
      if (result.status === 'rejected') this.#logger.warn({ err: result.reason }, 'what was assigned to a cache object could not be saved')
    }
  }

  #track (work: Promise<unknown>): Promise<void> {
    const saving = this.#saving = work.then(() => {
      if (this.#saving !== saving) return // a newer one is under way
      this.#saving = undefined
      if (this.#objects === undefined) this.#all.delete(this)
    })
    return saving
  }
}

const isOver = ({ destroyed, stream }: Response): boolean => destroyed ?? stream!.destroyed

/** Nothing of it may refer to the object, which would then never be dropped. */
interface Watched {
  readonly name: string
  readonly hasUnsaved: () => boolean
}

const warned = new Set<string>()

/** Warns, once for each name, that assignments were lost. */
export function warnOfLoss ({ name, hasUnsaved }: Watched): void {
  if (warned.has(name) || !hasUnsaved()) return
  warned.add(name)
  process.emitWarning(`an object of ${name} was dropped with assignments that were never saved: call save() after assigning`, 'FastifyCachingApiWarning')
}

const dropped = new FinalizationRegistry(warnOfLoss)

/** For an object that no request saves, when the first assignment is staged: warns if it is dropped without being saved. */
export function watch (object: object, watched: Watched): void {
  dropped.register(object, watched)
}
