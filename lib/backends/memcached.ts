import { createHash } from 'node:crypto'
import { resolveKeyPrefix } from '../checks.js'
import { identityLength } from '../entry-format.js'
import { InvalidOptionsError, show } from '../errors.js'
import type { Logger } from '../logger.js'
import { UnstorableError, type Backend, type BackendEntry, type LeaseRequest, type LeasedEntry, type LeasingBackend, type Revision, type SpreadBackend } from './backend.js'
import { exptimeOf, isFull, isUnstorable, never, noreply, storageCommand, unusedUnique } from './memcached-protocol.js'
import { MemcachedServer, type Item, type MemcachedLike } from './memcached-server.js'
import { MemcachedShards } from './memcached-shards.js'
import { MemcachedStamps, stampIn } from './memcached-stamps.js'

export interface MemcachedOptions {
  /** Stands in front of every key. Up to 50 printable ASCII characters without blanks. */
  keyPrefix?: string
}

/**
 * Keeps values on one memcached server, or on several: then each has its share of the keys, and a client of its own. Clients are
 * handed in and stay open. @throws InvalidOptionsError
 *
 *     memcached(new MemcacheClient({ server: '127.0.0.1:11211' }))
 */
export function memcached (client: unknown, options: MemcachedOptions = {}): Backend {
  const clients: readonly unknown[] = Array.isArray(client) ? client : [client]
  const [first, ...others] = clients.map((one, i) => serverOf(one, Array.isArray(client) ? `memcached(clients)[${i}]` : 'memcached(client)'))
  if (first === undefined) throw new InvalidOptionsError('memcached(clients)', 'at least one client', 'an empty array')
  const addresses = [first, ...others].map(server => server.address)
  if (new Set(addresses).size < addresses.length) throw new InvalidOptionsError('memcached(clients)', 'clients of different servers', addresses.join(', '))
  return new MemcachedBackend(new MemcachedShards([first, ...others]), resolveKeyPrefix(options, 'memcached(options)', { canHaveBraces: true }))
}

function serverOf (client: unknown, path: string): MemcachedServer {
  const candidate = client as Partial<MemcachedLike> | null | undefined
  if (typeof candidate !== 'object' || candidate === null || typeof candidate.send !== 'function') {
    throw new InvalidOptionsError(path, 'a MemcacheClient of memcache-client', show(client))
  }
  // The client was given 'host:port', { server: 'host:port' }, or { servers: [{ server: 'host:port' }] }.
  const given = Object(candidate.options).server as { servers?: unknown } | undefined
  const [server, ...others]: unknown[] = Array.isArray(given?.servers) ? given.servers : [given]
  if (others.length > 0) {
    throw new InvalidOptionsError(path, 'a client of one server, since of several it takes any one for each command (for several: memcached([clientA, clientB]))', `one of ${others.length + 1} servers`)
  }
  const address: unknown = typeof server === 'string' ? server : Object(server).server
  if (typeof address !== 'string' || !/^[^\s:]+:[1-9]\d{0,4}$/.test(address)) throw new InvalidOptionsError(path, "a client whose options name its server as 'host:port'", show(address))
  return new MemcachedServer(candidate as MemcachedLike, address)
}

/** Other keys are hashed: memcached takes 250 bytes, of which a prefix may take 50. */
const unhashedKey = /^(?!#)[!-~]{1,200}$/

/** Under a tag's key, until there is a version. */
const noVersion = Buffer.from('-')

/**
 * Leases on memcached: `add` leaves a mark, and `gets` returns the `cas unique` of what the key holds. That number is the
 * lease. A fill is a `cas` with it, so it is refused after anything that happened to the key.
 */
export class MemcachedBackend implements LeasingBackend, SpreadBackend {
  readonly name = 'memcached'
  readonly #shards: MemcachedShards
  readonly #stamps: MemcachedStamps
  readonly #prefix: string
  /** The `cas unique` of each lease that `leaseMany` has answered; an error where there was no room for a mark. */
  readonly #uniques = new WeakMap<Uint8Array, string | Error>()

  constructor (shards: MemcachedShards, prefix: string) {
    this.#shards = shards
    this.#stamps = new MemcachedStamps(shards)
    this.#prefix = prefix
  }

  serverOf (key: string): object {
    return this.#shards.serverOf(this.#key(key))
  }

  allow (milliseconds: number, logger?: Logger): void {
    this.#shards.allow(milliseconds, logger)
  }

  // ─── three methods ─────────────────────────────────────────────────────────────────────────────

  async getMany (keys: readonly string[]): Promise<(Uint8Array | undefined)[]> {
    return (await this.#shards.gets(keys.map(this.#key))).map(item => item?.value)
  }

  async setMany (entries: readonly BackendEntry[]): Promise<void> {
    // Only the last of several for one key is sent: as two commands, one could overtake the other on another connection.
    const byKey = new Map(entries.map(entry => [entry.key, entry]))
    const keys = [...byKey.keys()]
    const stored = await Promise.all([...byKey.values()].map(({ key, value, ttl }) => this.#shards.set(this.#key(key), value, exptimeOf(ttl))))
    const error = stored.find(one => one instanceof Error)
    if (error === undefined) return
    const unstorable = keys.filter((_, i) => stored[i] instanceof Error)
    const forNow = keys.filter((_, i) => stored[i] instanceof Error && isFull(stored[i]))
    throw new UnstorableError(unstorable, error, forNow)
  }

  async deleteMany (keys: readonly string[]): Promise<void> {
    await this.#shards.deleteMany(keys.map(this.#key))
  }

  // ─── leases ────────────────────────────────────────────────────────────────────────────────────

  async leaseMany (stampKey: string, keys: readonly string[], { mark, ttl, stamp, takeOver }: LeaseRequest): Promise<[stamp: Uint8Array, ...held: Uint8Array[]]> {
    const stampAt = this.#key(stampKey)
    const entriesAt = keys.map(this.#key)
    const addMissing = (at: string) => at === stampAt ? storageCommand('add', at, Buffer.from(stamp), never, noreply) : storageCommand('add', at, mark, exptimeOf(ttl), noreply)
    if (takeOver) await Promise.all(entriesAt.map(at => this.#takeOver(at, addMissing(at))))
    let [stampItem, ...items] = await this.#shards.gets([stampAt, ...entriesAt], addMissing)
    if (stampIn(stampItem) === undefined) { // flushed in this very moment, or no stamp of ours
      await this.#stamps.change(stampAt, stamp, current => current)
      stampItem = (await this.#shards.gets([stampAt]))[0]
    }
    const held = await Promise.all(items.map(async (item, i) => {
      if (item === undefined) return await this.#leaseWithoutMark(entriesAt[i]!, mark)
      this.#uniques.set(item.value, item.unique)
      return item.value
    }))
    return [stampItem?.value ?? Buffer.from(stamp), ...held]
  }

  /** Appends nothing, which changes the `cas unique` and nothing else. */
  async #takeOver (at: string, addMissing: Buffer): Promise<void> {
    try {
      await this.#shards.serverOf(at).send(Buffer.concat([addMissing, storageCommand('append', at, Buffer.alloc(0), never)]))
    } catch (error) {
      if ((error as Error).message === 'NOT_STORED') return
      if (!isUnstorable(error as Error)) throw error
      await this.#shards.deleteMany([at]) // which takes the right to fill it from everybody, too
    }
  }

  /** The mark was deleted in this very moment, so the lease is revoked; or there was no room for it, which a `cas` tells. */
  async #leaseWithoutMark (at: string, mark: Uint8Array): Promise<Uint8Array> {
    const lease = Uint8Array.from(mark)
    const stored = await this.#shards.cas(at, mark, never, unusedUnique)
    if (stored instanceof Error) this.#uniques.set(lease, stored)
    return lease
  }

  async fillMany (entries: readonly LeasedEntry[]): Promise<(boolean | Error)[]> {
    // A server that was restarted counts from 1 again, and may have given the number of an old lease to a newer one. Where
    // it held the region's stamp as well, that is another one now, and what is filled under the old one is not believed.
    // One server of several may not have held it: so they are asked whether they still hold what was leased.
    const held = this.#shards.count > 1 ? await this.#shards.gets(entries.map(entry => this.#key(entry.key))) : undefined
    return await Promise.all(entries.map(async ({ key, lease, value, ttl }, i) => {
      const unique = this.#uniques.get(lease)
      if (unique instanceof Error) return unique
      if (unique === undefined || (held !== undefined && !isLeased(held[i], lease))) return false
      return await this.#shards.cas(this.#key(key), value, exptimeOf(ttl), unique)
    }))
  }

  // ─── stamps and tags ───────────────────────────────────────────────────────────────────────────

  async revise (stampKey: string, revision: Revision): Promise<void> {
    const stampAt = this.#key(stampKey)
    switch (revision.kind) {
      case 'hard': return await this.#stamps.change(stampAt, revision.stamp, (stamp, fresh) => ({ ...stamp, epoch: fresh.epoch }))
      case 'soft': return await this.#stamps.change(stampAt, revision.stamp, stamp => ({ ...stamp, softened: stamp.softened + 1 }))
      case 'tags':
        // The order matters, see `holdTags`. A tag without a version is doubted in all entries that are older than the stamp.
        await this.#stamps.change(stampAt, revision.stamp, stamp => ({ ...stamp, tagged: stamp.tagged + 1 }))
        await this.deleteMany(revision.tagKeys)
    }
  }

  async forgetMany (stampKey: string, stamp: string, keys: readonly string[]): Promise<void> {
    // The order matters: a load that puts its mark and then finds the stamp unchanged will lose that mark to the deletion.
    await this.#stamps.change(this.#key(stampKey), stamp, current => ({ ...current, deleted: current.deleted + 1 }))
    await this.deleteMany(keys)
  }

  /** A tag's version is `epoch|tagged|until`. `until`: when it expires at the earliest, since memcached can't be asked. */
  async holdTags (stampKey: string, tags: readonly { key: string, ttl: number }[]): Promise<void> {
    const now = Date.now()
    const ttls = new Map(tags.map(({ key, ttl }) => [this.#key(key), ttl]))
    // 1. A mark where there is no version.
    const items = await this.#shards.gets([...ttls.keys()], at => storageCommand('add', at, noVersion, exptimeOf(ttls.get(at)!), noreply))
    const expiring = [...ttls].flatMap(([at, ttl], i) => {
      const item = items[i]
      return item === undefined || untilOf(item) >= now + ttl ? [] : [{ at, ttl, item }]
    })
    if (expiring.length === 0) return
    // 2. Then the stamp. An invalidation raises the stamp and then deletes the tag's key: after 1, so that 3 is refused; or
    // before 1, so that the stamp that is read here has been raised.
    const stamp = stampIn((await this.#shards.gets([this.#key(stampKey)]))[0])
    if (stamp === undefined) return // and every entry is gone with it
    // 3. The version; or the present one, for longer: twice as long as needed, so that the next fills need not do this.
    await Promise.all(expiring.map(async ({ at, ttl, item }) => {
      const version = /^\d+\|\d+(?=\|)/.exec(item.value.toString('latin1'))?.[0] ?? `${stamp.epoch}|${stamp.tagged}`
      await this.#shards.cas(at, Buffer.from(`${version}|${now + 2 * ttl}`), exptimeOf(2 * ttl), item.unique)
    }))
  }

  readonly #key = (key: string): string => {
    const prefixed = this.#prefix + key
    // The client collects what it finds in a plain object.
    if (unhashedKey.test(key) && prefixed !== '__proto__') return prefixed
    return `${this.#prefix}#${createHash('sha256').update(key, 'utf16le').digest('base64url')}`
  }
}

const untilOf = (item: Item): number => Number(item.value.toString('latin1').split('|')[2] ?? 0)

const isLeased = (item: Item | undefined, lease: Uint8Array): boolean =>
  item !== undefined && item.value.subarray(0, identityLength).equals(lease.subarray(0, identityLength))
