import type { Entry } from '../entry.js'
import type { Line } from '../line.js'
import type { Logger } from '../logger.js'
import type { Stamp } from '../stamp.js'

/**
 * A place that keeps bytes under keys for a time. A backend that cannot answer throws; it never invents a miss.
 *
 * These three methods are all that a backend of your own needs. What more one can do (compare-and-set fills, telling
 * other processes of an invalidation, keeping values instead of bytes) is optional, and a region says at boot what it
 * goes without.
 */
export interface Backend {
  /** Shown in stats and metrics: 'memory', 'redis', 'memcached'. */
  readonly name: string
  /** Resolves to what each key holds, in the order of `keys`; `undefined` in the gaps. */
  getMany (keys: readonly string[]): Promise<(Uint8Array | undefined)[]>
  /** Replaces what is there, its ttl too. Of two for one key the later one stays. @throws UnstorableError where some can't be kept */
  setMany (entries: readonly BackendEntry[]): Promise<void>
  /** Resolves when no `getMany` that begins later finds them. What isn't there can be deleted. */
  deleteMany (keys: readonly string[]): Promise<void>
  /** Ends what the backend has opened itself: a client that was handed in stays open. Called when the last manager that has it in a region is closed. */
  close? (): Promise<void>
}

export interface BackendEntry {
  /** Any string without lone surrogates: it may have blanks and line breaks, and ten thousand characters. */
  key: string
  /** To be given back byte by byte. */
  value: Uint8Array
  /** How long it is found. Milliseconds, a positive integer. */
  ttl: number
}

/** `setMany` has stored all values but these, which the backend will not keep: they are too large, or there is no room. */
export class UnstorableError extends Error {
  readonly keys: readonly string[]
  /** Those of them that it may keep another time, since there was no room. */
  readonly forNow: readonly string[]

  constructor (keys: readonly string[], cause: unknown, forNow: readonly string[] = []) {
    super(cause instanceof Error ? cause.message : String(cause), { cause })
    this.keys = keys
    this.forNow = forNow
  }
}

/**
 * A shared backend that refuses stale fills. The lease (Memcache, NSDI '13) stands in the entry's own place: on a miss
 * a mark is put under the key; a fill replaces just that mark, or just the stale entry that was there. Deleting the key
 * deletes the mark, so one plain delete forgets the value and revokes every right to fill it, and a flush, an eviction
 * or an expiry does the same.
 */
export interface LeasingBackend extends Backend {
  /**
   * Reads again, and leaves the mark where there is nothing. First in the answer is what `stampKey` holds, `stamp` if it
   * held nothing; then for each key what it holds now: the mark, a value that was filled meanwhile, or another caller's mark,
   * which can be shared.
   */
  leaseMany (stampKey: string, keys: readonly string[], lease: LeaseRequest): Promise<[stamp: Uint8Array, ...held: Uint8Array[]]>
  /**
   * Replaces what `leaseMany` has found or left; false where that isn't there any more, or was touched since. An error
   * for a value that this backend will never keep, such as one that is too large.
   */
  fillMany (entries: readonly LeasedEntry[]): Promise<(boolean | Error)[]>
  /**
   * A fill without a mark, where a server can see a region's stamp and its keys in one step: writes only if the stamp is
   * still of this epoch and nothing was deleted since, and then only those keys that still hold what they held. Undefined
   * where the stamp has changed.
   */
  fillUnchanged? (stampKey: string, since: Pick<Stamp, 'epoch' | 'deleted'>, entries: readonly SeenEntry[]): Promise<boolean[] | undefined>
  /** Creates or changes the stamp of a region in one step, and with `tags` the keys of those tags that exist. */
  revise (stampKey: string, revision: Revision): Promise<void>
  /** Deletes the keys, and raises `deleted` in the stamp no later than that. */
  forgetMany (stampKey: string, stamp: string, keys: readonly string[]): Promise<void>
  /** Makes sure that each tag has a version, and that it lives for at least `ttl` milliseconds. */
  holdTags (stampKey: string, tags: readonly { key: string, ttl: number }[]): Promise<void>
  /** How many keys one of its commands is for at most, besides a stamp: of more, each part is read while it is at work on the next. */
  readonly mostKeys?: number
  /** The line to other processes over the same server. Undefined where it has none. */
  readonly line?: Line
  /** The connection that it works on, where a single one executes all its commands in order. */
  readonly connection?: unknown
}

export interface LeaseRequest {
  mark: Uint8Array
  /** How long a mark is held. Milliseconds. */
  ttl: number
  stamp: string
  /** Gives what each key holds the identity of `mark`, which revokes earlier leases on it. With `fillUnchanged`: raises `deleted`, too. */
  takeOver: boolean
}

/** `lease`: what `leaseMany` answered for the key, the same object. A backend may know it by its first bytes. */
export interface LeasedEntry extends BackendEntry { lease: Uint8Array }

/** `held`: what `getMany` has found under the key. */
export interface SeenEntry extends BackendEntry { held: Uint8Array | undefined }

/** `stamp` is what a missing one starts from, and for 'hard' what replaces it. */
export type Revision =
  | { kind: 'hard' | 'soft', stamp: string }
  | { kind: 'tags', stamp: string, tagKeys: readonly string[] }

/** A backend inside this process that keeps values instead of bytes, and answers synchronously. */
export interface LocalBackend extends Backend {
  getEntry (key: string): LocalEntry | undefined
  setEntry (key: string, entry: LocalEntry): void
  deleteEntry (key: string): void
  /** Whether it was asked for so recently that it may be used without telling the backend: its eviction is far off. */
  isRecent (entry: LocalEntry): boolean
}

export interface LocalEntry extends Entry {
  /** The region's, in this process, when the load began. */
  readonly generation: Generation
  /** That in which it was last found valid: as long as the region's is the same one, it still is. */
  validIn: Generation
  /** When its key was last asked for, in the backend's own count. */
  usedAt: number
  /** A table where it is found as well, under `alias`, until the backend replaces or evicts it. */
  shortcuts: Shortcuts | undefined
  alias: unknown
}

/** Entries by the argument that their readers pass: to make a key and hash it takes longer than all the rest of a hit. */
export type Shortcuts = Map<unknown, LocalEntry>

/** A stamp of a region in this process: its own invalidations, and those that it has heard of. */
export type Generation = Stamp

/** A backend that opens its connection itself when it is first used, and closes it. */
export interface OpeningBackend extends Backend {
  /** Loads the library that it needs. That takes its time before the first operation, and counts for no timeout. */
  loadLibrary (): Promise<unknown>
}

/** What can be used again after it was closed, by one manager after another. */
export interface Reopening { reopen (): void }

/** A backend on several servers, each with its share of the keys. A call that concerns one that is away fails as a whole. */
export interface SpreadBackend extends Backend {
  /** The same for keys that share a server. */
  serverOf (key: string): object
  /**
   * How long a server may take to answer before it counts as silent; the largest value counts. A server that was silent
   * several times in a row may be left alone for a while, which is logged to the latest `logger`.
   */
  allow? (milliseconds: number, logger?: Logger): void
}

export const isSpread = (backend: Backend): backend is SpreadBackend => 'serverOf' in backend

export const isReopening = (used: object): used is Reopening => 'reopen' in used

export const isOpening = (backend: Backend): backend is OpeningBackend => 'loadLibrary' in backend

export const isLeasing = (backend: Backend): backend is LeasingBackend => 'leaseMany' in backend && 'fillMany' in backend

export const isLocal = (backend: Backend): backend is LocalBackend => 'getEntry' in backend && 'setEntry' in backend
