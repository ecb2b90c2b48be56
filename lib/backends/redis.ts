import { resolveKeyPrefix } from '../checks.js'
import { chunksOf } from '../chunks.js'
import { identityLength } from '../entry-format.js'
import type { InvalidationBus } from '../line.js'
import type { Stamp } from '../stamp.js'
import type { Backend, BackendEntry, LeaseRequest, LeasedEntry, LeasingBackend, Revision, SeenEntry } from './backend.js'
import { assertConnected, isOne, orderedConnection, useRedis, type RedisLike } from './redis-client.js'
import { RedisLine } from './redis-line.js'
import * as scripts from './redis-scripts.js'

/** ioredis has a Buffer variant of every command; its types lack this one. */
interface Evaluating { evalBuffer (script: string, keys: number, ...args: (string | Buffer | number)[]): Promise<unknown> }

/**
 * Keeps values on a Redis server or a Redis Cluster, by an ioredis client, which stays open. To hear of other processes a second
 * connection is made like it when it is first needed, and closed with the manager; in a Cluster that takes the sharded channels
 * of Redis 7. `keyPrefix` stands in front of every key: up to 50 printable ASCII characters without blanks and braces.
 * @throws InvalidOptionsError
 */
export function redis (client: unknown, options: { keyPrefix?: string } = {}): Backend {
  const used = useRedis(client, 'redis(client)')
  const keyPrefix = resolveKeyPrefix(options, 'redis(options)', { canHaveBraces: false }) // braces choose a slot in a Redis Cluster
  return used.isCluster ? new RedisClusterBackend(used, keyPrefix) : new RedisBackend(used, keyPrefix)
}

/**
 * Carries invalidations and wake-ups over a Redis server, for regions whose shared tier has no way to tell other processes:
 * memcached, or a backend of your own. The client stays open.
 * @throws InvalidOptionsError
 */
export function redisBus (client: unknown): InvalidationBus {
  return new RedisLine(useRedis(client, 'redisBus(client)'))
}

abstract class RedisCommands implements LeasingBackend {
  readonly name = 'redis'
  readonly line: RedisLine
  protected readonly client: RedisLike
  readonly #prefix: string

  constructor (client: RedisLike, prefix: string) {
    this.client = client
    this.#prefix = prefix
    this.line = new RedisLine(client, prefix)
  }

  abstract getMany (keys: readonly string[]): Promise<(Uint8Array | undefined)[]>
  abstract deleteMany (keys: readonly string[]): Promise<void>
  abstract leaseMany (stampKey: string, keys: readonly string[], lease: LeaseRequest): Promise<[Uint8Array, ...Uint8Array[]]>
  abstract fillMany (entries: readonly LeasedEntry[]): Promise<boolean[]>
  abstract forgetMany (stampKey: string, stamp: string, keys: readonly string[]): Promise<void>

  /** One command for each: SET, unlike MSET, takes a ttl. */
  async setMany (entries: readonly BackendEntry[]): Promise<void> {
    assertConnected(this.client)
    await Promise.all(entries.map(({ key, value, ttl }) => this.client.set(this.key(key), asBuffer(value), 'PX', ttl)))
  }

  // In a Cluster, too, a stamp and its tags are in one slot.

  async revise (stampKey: string, revision: Revision): Promise<void> {
    const tagKeys = revision.kind === 'tags' ? revision.tagKeys : []
    await Promise.all(chunksOf(tagKeys, mostKeys).map(chunk => this.eval(scripts.revise, [stampKey, ...chunk], [revision.stamp, revision.kind])))
  }

  async holdTags (stampKey: string, tags: readonly { key: string, ttl: number }[]): Promise<void> {
    await Promise.all(chunksOf(tags, mostKeys).map(chunk => this.eval(scripts.holdTags, [stampKey, ...chunk.map(tag => tag.key)], chunk.map(tag => tag.ttl))))
  }

  async close (): Promise<void> {
    await this.line.close()
  }

  reopen (): void {
    this.line.reopen()
  }

  protected key (key: string): string {
    return this.#prefix === '' ? key : this.#prefix + key
  }

  protected keys (keys: readonly string[]): string[] {
    return this.#prefix === '' ? keys as string[] : keys.map(key => this.#prefix + key)
  }

  /** EVAL, not EVALSHA: these are short, and a server that restarted or failed over knows no script. */
  protected eval (script: string, keys: readonly string[], args: readonly (string | Uint8Array | number)[]): Promise<unknown> {
    assertConnected(this.client)
    return (this.client as unknown as Evaluating).evalBuffer(script, keys.length, ...this.keys(keys), ...args as (string | Buffer | number)[])
  }
}

/** One server: a step can see many keys. */
export class RedisBackend extends RedisCommands {
  readonly mostKeys = mostKeys

  get connection (): unknown { return orderedConnection(this.client) }

  async getMany (keys: readonly string[]): Promise<(Uint8Array | undefined)[]> {
    if (keys.length === 0) return []
    assertConnected(this.client)
    const most = mostKeys + 1 // a stamp
    if (keys.length <= most) return undefinedForNull(await this.client.mgetBuffer(this.keys(keys)))
    const found = await Promise.all(chunksOf(keys, most).map(chunk => this.client.mgetBuffer(this.keys(chunk))))
    return undefinedForNull(found.flat())
  }

  async deleteMany (keys: readonly string[]): Promise<void> {
    if (keys.length === 0) return
    assertConnected(this.client)
    await Promise.all(chunksOf(keys, mostKeys).map(chunk => this.client.unlink(...this.keys(chunk))))
  }

  async leaseMany (stampKey: string, keys: readonly string[], lease: LeaseRequest): Promise<[Uint8Array, ...Uint8Array[]]> {
    const answers = await Promise.all(chunksOf(keys, mostKeys).map((chunk, i) => this.eval(scripts.lease, [stampKey, ...chunk], leaseArguments(lease, i > 0)))) as Uint8Array[][]
    // Each chunk answers a stamp. The first one is the oldest: what changed later voids the fills.
    return answers.flatMap((answer, i) => i === 0 ? answer : answer.slice(1)) as [Uint8Array, ...Uint8Array[]]
  }

  async fillMany (entries: readonly LeasedEntry[]): Promise<boolean[]> {
    const filled = await Promise.all(chunksOf(entries, mostKeys).map(chunk =>
      this.eval(scripts.fill, chunk.map(entry => entry.key), chunk.flatMap(fillArguments)))) as unknown[][]
    return filled.flat().map(isOne)
  }

  async fillUnchanged (stampKey: string, { epoch, deleted }: Pick<Stamp, 'epoch' | 'deleted'>, entries: readonly SeenEntry[]): Promise<boolean[] | undefined> {
    const chunks = chunksOf(entries, mostKeys)
    const refused = await Promise.all(chunks.map(chunk => {
      const [script, args] = chunk.every(isMissing) ? [scripts.fillMissing, missingArguments(chunk)] : [scripts.fillUnchanged, chunk.flatMap(seenArguments)]
      return this.eval(script, [stampKey, ...chunk.map(entry => entry.key)], [epoch, deleted, ...args])
    })) as (unknown[] | null)[]
    const filled = entries.map(() => true)
    for (const [i, places] of refused.entries()) {
      if (places === null) return undefined
      for (const place of places) filled[i * mostKeys + Number(place)] = false
    }
    return filled
  }

  async forgetMany (stampKey: string, stamp: string, keys: readonly string[]): Promise<void> {
    await Promise.all(chunksOf(keys, mostKeys).map(chunk => this.eval(scripts.revise, [stampKey, ...chunk], [stamp, 'deleted'])))
  }
}

/** A Cluster: a command must keep to one slot, so there is one for each key, all sent at once. */
export class RedisClusterBackend extends RedisCommands {
  async getMany (keys: readonly string[]): Promise<(Uint8Array | undefined)[]> {
    assertConnected(this.client)
    // MGET, not GET: a key of another type is missing, and no error.
    return undefinedForNull((await Promise.all(keys.map(key => this.client.mgetBuffer([this.key(key)])))).flat())
  }

  async deleteMany (keys: readonly string[]): Promise<void> {
    assertConnected(this.client)
    await Promise.all(keys.map(key => this.client.unlink(this.key(key))))
  }

  async leaseMany (stampKey: string, keys: readonly string[], lease: LeaseRequest): Promise<[Uint8Array, ...Uint8Array[]]> {
    const answers = await Promise.all([
      this.eval(scripts.leaseStamp, [stampKey], [lease.stamp]),
      ...keys.map(key => this.eval(scripts.leaseWithoutStamp, [key], leaseArguments(lease)))
    ])
    return answers.flat() as [Uint8Array, ...Uint8Array[]]
  }

  async fillMany (entries: readonly LeasedEntry[]): Promise<boolean[]> {
    const filled = await Promise.all(entries.map(entry => this.eval(scripts.fill, [entry.key], fillArguments(entry))))
    return (filled as unknown[][]).map(([one]) => isOne(one))
  }

  async forgetMany (stampKey: string, stamp: string, keys: readonly string[]): Promise<void> {
    // The order matters: a load that puts its mark and then finds the stamp unchanged will lose that mark to the deletion.
    try {
      await this.eval(scripts.revise, [stampKey], [stamp, 'deleted'])
    } finally {
      await this.deleteMany(keys) // even where a server has no room for the stamp
    }
  }
}

/** `isRaised`: an earlier chunk raises `deleted` for all of them. */
const leaseArguments = ({ stamp, mark, ttl, takeOver }: LeaseRequest, isRaised = false) => [stamp, mark, Math.ceil(ttl), takeOver ? isRaised ? '2' : '1' : '0']

const fillArguments = ({ lease, value, ttl }: LeasedEntry) => [lease.subarray(0, identityLength), value, ttl]

const isMissing = ({ held }: SeenEntry) => held === undefined

/** One ttl where they differ little, as by jitter: an entry knows when it is over, so the server may keep it a little longer. */
function missingArguments (entries: readonly SeenEntry[]): (Uint8Array | number)[] {
  const args: (Uint8Array | number)[] = entries.map(entry => entry.value)
  let shortest = Infinity
  let longest = 0
  for (const { ttl } of entries) {
    shortest = Math.min(shortest, ttl)
    longest = Math.max(longest, ttl)
  }
  if (longest <= 1.25 * shortest) args.push(longest)
  else for (const { ttl } of entries) args.push(ttl)
  return args
}

const seenArguments = ({ held, value, ttl }: SeenEntry) => [held === undefined || held.length < identityLength ? '' : held.subarray(0, identityLength), value, ttl]

/**
 * The most keys of one command: the server does nothing else meanwhile, and Lua's `unpack` has a limit. Several commands that are
 * sent at once take one round trip.
 */
const mostKeys = 1000

/** Replaces each null. It changes the array itself, since most keys are found. */
function undefinedForNull (values: (Buffer | null)[]): (Buffer | undefined)[] {
  for (let i = 0; i < values.length; i++) if (values[i] === null) (values as (Buffer | undefined)[])[i] = undefined
  return values as (Buffer | undefined)[]
}

const asBuffer = (bytes: Uint8Array): Buffer => Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
