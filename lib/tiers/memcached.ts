import { createHash } from 'node:crypto'
import { Breaker } from '../breaker.js'
import { formatStamp, identityLength, parseStamp, type Stamp } from '../entry.js'
import { InvalidOptionsError, show } from '../errors.js'
import { groupBy } from '../group-by.js'
import type { Logger } from '../logger.js'
import { within } from '../within.js'
import { UnstorableError, type Backend, type BackendEntry, type LeaseRequest, type LeasedEntry, type LeasingBackend, type Revision, type SpreadBackend } from './backend.js'

/** As much of memcache-client's `MemcacheClient` as is called here. */
export interface MemcachedLike {
  readonly options: { readonly server: unknown }
  /** Bytes that the server answers once: other commands may stand before the last one, as long as they are 'noreply'. */
  send (data: string | Buffer): Promise<unknown>
}

export interface MemcachedOptions {
  /** In front of every key. Up to 50 printable ASCII characters without blanks. */
  keyPrefix?: string
}

/**
 * On one memcached server, or on several: then each has its share of the keys, and a client of its own. Clients are
 * handed in and stay open. @throws InvalidOptionsError
 *
 *     memcached(new MemcacheClient({ server: '127.0.0.1:11211' }))
 */
export function memcached (client: unknown, options: MemcachedOptions = {}): Backend {
  const clients: readonly unknown[] = Array.isArray(client) ? client : [client]
  if (clients.length === 0) throw new InvalidOptionsError('memcached(clients)', 'at least one client', 'an empty array')
  const servers = clients.map((one, i) => serverOf(one, Array.isArray(client) ? `memcached(clients)[${i}]` : 'memcached(client)'))
  const addresses = servers.map(server => server.address)
  if (new Set(addresses).size < addresses.length) throw new InvalidOptionsError('memcached(clients)', 'clients of different servers', addresses.join(', '))
  if (typeof options !== 'object' || options === null) throw new InvalidOptionsError('memcached(options)', 'an object', show(options))
  for (const [name, value] of Object.entries(options)) {
    if (name !== 'keyPrefix') throw new InvalidOptionsError(`memcached.${name}`, 'absent: there is keyPrefix', show(value))
    if (typeof value !== 'string' || !/^[!-~]{0,50}$/.test(value)) throw new InvalidOptionsError('memcached.keyPrefix', 'up to 50 printable ASCII characters without blanks', show(value))
  }
  return new MemcachedBackend(servers, options.keyPrefix ?? '')
}

function serverOf (client: unknown, path: string): Server {
  const candidate = client as Partial<MemcachedLike> | null | undefined
  if (typeof candidate !== 'object' || candidate === null || typeof candidate.send !== 'function') {
    throw new InvalidOptionsError(path, 'a MemcacheClient of memcache-client', show(client))
  }
  // It is given 'host:port', { server: 'host:port' }, or { servers: [{ server: 'host:port' }] }.
  const given = Object(candidate.options).server as { servers?: unknown } | undefined
  const [server, ...others]: unknown[] = Array.isArray(given?.servers) ? given.servers : [given]
  if (others.length > 0) {
    throw new InvalidOptionsError(path, 'a client of one server, since of several it takes any one for each command (for several: memcached([clientA, clientB]))', `one of ${others.length + 1} servers`)
  }
  const address: unknown = typeof server === 'string' ? server : Object(server).server
  if (typeof address !== 'string' || !/^[^\s:]+:[1-9]\d{0,4}$/.test(address)) throw new InvalidOptionsError(path, "a client whose options name its server as 'host:port'", show(address))
  return new Server(candidate as MemcachedLike, address)
}

/** Longer keys are hashed: memcached takes 250 bytes, and the prefix takes up to 50 of them. */
const safe = /^(?!#)[!-~]{1,200}$/

/** Tries to change something that others change at the same moment; each time one of them succeeds. */
const mostAttempts = 100
/** How long changes of a stamp wait for earlier ones, which the client gives up after five seconds. Milliseconds. */
const patience = 10_000

/** What the answer is where a value can't be kept: never, or not now by a server that may evict nothing (-M). */
const noRoom = /^SERVER_ERROR (object too large|out of memory)/
const isFull = /^SERVER_ERROR out of memory/
/** Errors that the client has read from the server; all others are of a connection, or of silence. */
const answered = /^(NOT_STORED|EXISTS|NOT_FOUND|((CLIENT|SERVER)_)?ERROR)\b/

/** What stands under a key. `unique` is another one after every change. */
interface Item { readonly value: Buffer, readonly unique: string }

/**
 * Leases on memcached: a mark is left by `add`, and `gets` tells the number of what stands there, the `cas unique`. That
 * number is the lease. A fill is a `cas` with it, so it is refused after anything that happened to the key.
 */
export class MemcachedBackend implements LeasingBackend, SpreadBackend {
  readonly name = 'memcached'
  readonly #servers: readonly Server[]
  readonly #prefix: string
  /** Of what `leaseMany` has answered; an error where there was no room for a mark. */
  readonly #uniques = new WeakMap<Uint8Array, string | Error>()
  /** Changes of stamps, by key: those under way, and those that wait for them and will be made together. */
  readonly #changing = new Map<string, Promise<void>>()
  readonly #waiting = new Map<string, { changes: Change[], done: Promise<void> }>()

  constructor (servers: readonly Server[], prefix: string) {
    this.#servers = servers
    this.#prefix = prefix
  }

  serverOf (key: string): object {
    return this.#serverOf(this.#key(key))
  }

  /** A single server has no breaker of its own: that of the tier does. */
  allow (milliseconds: number, logger?: Logger): void {
    if (this.#servers.length > 1) for (const server of this.#servers) server.allow(milliseconds, logger)
  }

  async getMany (keys: readonly string[]): Promise<(Uint8Array | undefined)[]> {
    return (await this.#gets(keys.map(this.#key))).map(item => item?.value)
  }

  async setMany (entries: readonly BackendEntry[]): Promise<void> {
    // Of two for one key the later one counts; as two commands, one could overtake the other on another connection.
    const byKey = new Map(entries.map(entry => [entry.key, entry]))
    const stored = await Promise.all([...byKey.values()].map(({ key, value, ttl }) => this.#store('set', this.#key(key), value, lifetime(ttl))))
    const unstorable = [...byKey.keys()].filter((_, i) => stored[i] instanceof Error)
    const forNow = [...byKey.keys()].filter((_, i) => stored[i] instanceof Error && isFull.test(stored[i].message))
    if (unstorable.length > 0) throw new UnstorableError(unstorable, stored.find(one => one instanceof Error), forNow)
  }

  async deleteMany (keys: readonly string[]): Promise<void> {
    await this.#delete(keys.map(this.#key))
  }

  async #delete (keys: readonly string[]): Promise<void> {
    await Promise.all([...this.#byServer(keys)].map(async ([server, its]) => {
      const last = its.pop()!
      const others = its.map(key => `delete ${key} noreply\r\n`).join('')
      await unless('NOT_FOUND', server.send(`${others}delete ${last}\r\n`))
    }))
  }

  async leaseMany (stampKey: string, keys: readonly string[], { mark, ttl, stamp, takeOver }: LeaseRequest): Promise<[stamp: Uint8Array, ...held: Uint8Array[]]> {
    const at = this.#key(stampKey)
    const places = keys.map(this.#key)
    const leave = (key: string) => key === at ? storing('add', key, Buffer.from(stamp), never, noreply) : storing('add', key, mark, lifetime(ttl), noreply)
    if (takeOver) await Promise.all(places.map(key => this.#renew(key, leave(key))))
    let [stampItem, ...items] = await this.#gets([at, ...places], leave)
    if (stampIn(stampItem) === undefined) { // flushed in this very moment, or somebody else's
      await this.#change(stampKey, stamp, current => current)
      stampItem = (await this.#gets([at]))[0]
    }
    const held = await Promise.all(items.map(async (item, i) => {
      if (item === undefined) return await this.#unplaced(places[i]!, mark)
      this.#uniques.set(item.value, item.unique)
      return item.value
    }))
    return [stampItem?.value ?? Buffer.from(stamp), ...held]
  }

  /** Nothing is appended, which leaves everything as it is but for its number. */
  async #renew (key: string, leave: Buffer): Promise<void> {
    try {
      await this.#serverOf(key).send(Buffer.concat([leave, storing('append', key, nothing, never)]))
    } catch (error) {
      const { message } = error as Error
      if (message === 'NOT_STORED') return
      if (!noRoom.test(message)) throw error
      await this.#delete([key]) // which takes the right to fill it from everybody, too
    }
  }

  /** A mark that isn't there: deleted in this very moment, so the lease is revoked; or there was no room for it. */
  async #unplaced (key: string, mark: Uint8Array): Promise<Uint8Array> {
    const lease = Uint8Array.from(mark)
    const stored = await this.#store('cas', key, mark, never, ` ${nobodys}`)
    if (stored instanceof Error) this.#uniques.set(lease, stored)
    return lease
  }

  async fillMany (entries: readonly LeasedEntry[]): Promise<(boolean | Error)[]> {
    // A server that was restarted counts from 1 again, and may have given the number of an old lease to a newer one. Where
    // the server held the region's stamp too, that is another one then and what was filled is not believed; one server
    // of several is asked whether it still holds what was leased.
    const standing = this.#servers.length > 1 ? await this.#gets(entries.map(entry => this.#key(entry.key))) : undefined
    return await Promise.all(entries.map(async ({ key, lease, value, ttl }, i) => {
      const unique = this.#uniques.get(lease)
      if (unique instanceof Error) return unique
      if (unique === undefined || (standing !== undefined && !isLeased(standing[i], lease))) return false
      return await this.#store('cas', this.#key(key), value, lifetime(ttl), ` ${unique}`)
    }))
  }

  async revise (stampKey: string, revision: Revision): Promise<void> {
    switch (revision.kind) {
      case 'hard': return await this.#change(stampKey, revision.stamp, (stamp, fresh) => ({ ...stamp, epoch: fresh.epoch }))
      case 'soft': return await this.#change(stampKey, revision.stamp, stamp => ({ ...stamp, softened: stamp.softened + 1 }))
      case 'tags':
        await this.#change(stampKey, revision.stamp, stamp => ({ ...stamp, tagged: stamp.tagged + 1 }))
        // In this order, see `holdTags`. A tag without a version is doubted in all entries that are older than the stamp.
        await this.deleteMany(revision.tagKeys)
    }
  }

  async forgetMany (stampKey: string, stamp: string, keys: readonly string[]): Promise<void> {
    // In this order: whoever finds the stamp unchanged after putting his mark will lose that mark to the deletion.
    await this.#change(stampKey, stamp, current => ({ ...current, deleted: current.deleted + 1 }))
    await this.deleteMany(keys)
  }

  /** A tag's version is `epoch|tagged|until`: the last is the time to which it is kept at least, since nobody can ask. */
  async holdTags (stampKey: string, tags: readonly { key: string, ttl: number }[]): Promise<void> {
    const now = Date.now()
    const byKey = new Map(tags.map(({ key, ttl }) => [this.#key(key), ttl]))
    // 1. A mark where there is no version.
    const items = await this.#gets([...byKey.keys()], key => storing('add', key, versionless, lifetime(byKey.get(key)!), noreply))
    const short = [...byKey].flatMap(([key, ttl], i) => {
      const item = items[i]
      return item === undefined || untilOf(item) >= now + ttl ? [] : [{ key, ttl, item }]
    })
    if (short.length === 0) return
    // 2. Only now the stamp. Whoever invalidates raises it first and deletes the tag's key then: after 1, and step 3 is
    // refused; or before, and the stamp that is read here has been raised.
    const stamp = stampIn((await this.#gets([this.#key(stampKey)]))[0])
    if (stamp === undefined) return // and every entry is gone with it
    // 3. The version; or the one that there is, for longer. Twice as long as needed, so that the next ones needn't.
    await Promise.all(short.map(async ({ key, ttl, item }) => {
      const version = /^\d+\|\d+(?=\|)/.exec(item.value.toString('latin1'))?.[0] ?? `${stamp.epoch}|${stamp.tagged}`
      await this.#store('cas', key, Buffer.from(`${version}|${now + 2 * ttl}`), lifetime(2 * ttl), ` ${item.unique}`)
    }))
  }

  /**
   * Changes a stamp, or the one that takes the place of a lost one. What is asked for while another change is under way
   * is done after it, in one step: it must not count as done by something that began before it.
   */
  #change (stampKey: string, stamp: string, change: Change): Promise<void> {
    const key = this.#key(stampKey)
    const waiting = this.#waiting.get(key)
    if (waiting !== undefined) {
      waiting.changes.push(change)
      return waiting.done
    }
    const changes = [change]
    const before = this.#changing.get(key)
    const turn = before === undefined ? Promise.resolve() : within(patience, before, 'an earlier change of the stamp').catch(() => {})
    const done = turn
      .then(() => {
        this.#waiting.delete(key)
        return this.#changeNow(key, stamp, changes)
      })
      .finally(() => { if (this.#changing.get(key) === done) this.#changing.delete(key) })
    this.#waiting.set(key, { changes, done })
    this.#changing.set(key, done)
    return done
  }

  async #changeNow (key: string, stamp: string, changes: readonly Change[]): Promise<void> {
    const fresh = parseStamp(stamp)!
    for (let attempt = 0; attempt < mostAttempts; attempt++) {
      const [item] = await this.#gets([key])
      const changed = Buffer.from(formatStamp(changes.reduce((current, change) => change(current, fresh), stampIn(item) ?? fresh)))
      const stored = item === undefined ? await this.#store('add', key, changed, never) : await this.#store('cas', key, changed, never, ` ${item.unique}`)
      if (stored === true) return
      // No room for it: without a stamp nothing of the region is believed, which is more than any change asks for.
      if (stored instanceof Error) return await this.#delete([key])
    }
    throw new Error(`the stamp was changed by others ${mostAttempts} times`)
  }

  /** False: something else stands there, or nothing. An error: the server can't keep it. */
  async #store (command: 'set' | 'add' | 'cas', key: string, value: Uint8Array, exptime: number, more = ''): Promise<boolean | Error> {
    try {
      await this.#serverOf(key).send(storing(command, key, value, exptime, more))
      return true
    } catch (error) {
      const { message } = error as Error
      if (message === 'NOT_STORED' || message === 'EXISTS' || message === 'NOT_FOUND') return false
      if (noRoom.test(message)) return error as Error
      throw error
    }
  }

  /** One command to each server. What `first` makes of a key is done before, on the same connection. */
  async #gets (keys: readonly string[], first?: (key: string) => Buffer): Promise<(Item | undefined)[]> {
    const found = await Promise.all([...this.#byServer(keys)].map(([server, its]) => server.gets(its, first === undefined ? [] : its.map(first))))
    const [only] = found
    if (found.length === 1) return keys.map(key => only!.get(key))
    const items = new Map(found.flatMap(some => [...some]))
    return keys.map(key => items.get(key))
  }

  #byServer (keys: readonly string[]): Map<Server, string[]> {
    const [only] = this.#servers
    if (this.#servers.length === 1) return new Map(keys.length === 0 ? [] : [[only!, [...keys]]])
    return groupBy(keys, key => this.#serverOf(key))
  }

  /** Rendezvous hashing: when a server is added or taken away, only its own keys move. */
  #serverOf (key: string): Server {
    let [best] = this.#servers as readonly [Server, ...Server[]]
    if (this.#servers.length === 1) return best
    const hash = hashOf(key)
    let highest = -1
    for (const server of this.#servers) {
      const score = mixed(hash ^ server.seed)
      if (score > highest) [best, highest] = [server, score]
    }
    return best
  }

  readonly #key = (key: string): string => {
    const whole = this.#prefix + key
    // The client collects what it finds in a plain object.
    if (safe.test(key) && whole !== '__proto__') return whole
    return `${this.#prefix}#${createHash('sha256').update(key, 'utf16le').digest('base64url')}`
  }
}

/**
 * One client, which talks to one server over one or more connections. As soon as it is told how long it may wait, a
 * server that is away is left alone for a while, and probed.
 */
class Server {
  readonly address: string
  readonly seed: number
  readonly #client: MemcachedLike
  #breaker: Breaker | undefined
  #logger: Logger | undefined

  constructor (client: MemcachedLike, address: string) {
    this.#client = client
    this.address = address
    this.seed = mixed(hashOf(address))
  }

  allow (milliseconds: number, logger = this.#logger): void {
    this.#logger = logger
    this.#breaker ??= new Breaker({
      name: `memcached at ${this.address}`,
      timeout: milliseconds,
      logger: {
        info: (details, message) => this.#logger?.info(details, message),
        warn: (details, message) => this.#logger?.warn(details, message)
      }
    })
    this.#breaker.allow(milliseconds)
  }

  async send (data: string | Buffer): Promise<unknown> {
    if (this.#breaker === undefined) return await this.#client.send(data)
    const answer = await this.#breaker.run(() => this.#answerTo(data))
    if (answer instanceof Error) throw answer
    return answer
  }

  /** An error that the server has answered with, or that the client has made of its answer, is one: it isn't away. */
  async #answerTo (data: string | Buffer): Promise<unknown> {
    try {
      return await this.#client.send(data)
    } catch (error) {
      if (answered.test((error as Error).message) || isForeign(error)) return error
      throw error
    }
  }

  async gets (keys: readonly string[], first: readonly Buffer[]): Promise<Map<string, Item>> {
    const command = Buffer.from(`gets ${keys.join(' ')}\r\n`)
    try {
      const found = await this.send(first.length === 0 ? command : Buffer.concat([...first, command])) as Record<string, { value: unknown, casUniq: string }>
      return new Map(Object.entries(found).map(([key, { value, casUniq }]) => {
        if (casUniq === '0') throw new Error(`memcached at ${this.address} was started with -C: nothing can be compared and swapped`)
        return [key, { value: Buffer.isBuffer(value) ? value : Buffer.from(String(value)), unique: casUniq }]
      }))
    } catch (error) {
      if (!isForeign(error)) throw error
      return await this.#getsWithoutForeign(keys)
    }
  }

  async #getsWithoutForeign (keys: readonly string[]): Promise<Map<string, Item>> {
    if (keys.length > 1) {
      const found = await Promise.all(keys.map(key => this.gets([key], [])))
      return new Map(found.flatMap(one => [...one]))
    }
    await unless('NOT_FOUND', this.send(`delete ${keys[0]}\r\n`))
    return new Map()
  }
}

/** `fresh` is what a lost stamp starts from. */
type Change = (stamp: Stamp, fresh: Stamp) => Stamp

const noreply = ' noreply'
const nothing = Buffer.alloc(0)
const lineBreak = Buffer.from('\r\n')
/** A number that no change has. */
const nobodys = 2n ** 64n - 1n
/** Of a tag. */
const versionless = Buffer.from('-')

/** 8 is what the client takes for bytes. `more`: the number that `cas` compares, or that there is to be no answer. */
const storing = (command: 'set' | 'add' | 'cas' | 'append', key: string, value: Uint8Array, exptime: number, more = ''): Buffer =>
  Buffer.concat([Buffer.from(`${command} ${key} 8 ${exptime} ${value.length}${more}\r\n`), value, lineBreak])

async function unless (refusal: string, sent: Promise<unknown>): Promise<void> {
  try {
    await sent
  } catch (error) {
    if ((error as Error).message !== refusal) throw error
  }
}

/** The client can't unpack what somebody else has left under some key of ours, and doesn't tell which. */
const isForeign = (error: unknown): boolean => error instanceof SyntaxError || (error as NodeJS.ErrnoException).code === 'ERR_ASSERTION'

const stampIn = (item: Item | undefined): Stamp | undefined => item === undefined ? undefined : parseStamp(item.value.toString('latin1'))

const untilOf = (item: Item): number => Number(item.value.toString('latin1').split('|')[2] ?? 0)

const isLeased = (item: Item | undefined, lease: Uint8Array): boolean =>
  item !== undefined && item.value.subarray(0, identityLength).equals(lease.subarray(0, identityLength))

/** An expiry of memcached's: no such thing. */
const never = 0
const thirtyDays = 30 * 24 * 60 * 60
const latest = 2 ** 31 - 1

/**
 * Milliseconds as memcached wants them: seconds, or past thirty days the second of the epoch. One more than it takes:
 * memcached counts the strokes of its clock, and the next one may be about to come.
 */
function lifetime (ttl: number): number {
  const seconds = Math.ceil(ttl / 1000) + 1
  if (seconds <= thirtyDays) return seconds
  const at = Math.ceil(Date.now() / 1000) + seconds
  return at <= latest ? at : never
}

/** FNV-1a. */
function hashOf (text: string): number {
  let hash = 0x811c9dc5
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193)
  return hash
}

/** MurmurHash's last steps: numbers that are close come out far apart. */
function mixed (hash: number): number {
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b)
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35)
  return (hash ^ (hash >>> 16)) >>> 0
}
