import { identityLength, type Stamp } from '../entry.js'
import { InvalidOptionsError, show } from '../errors.js'
import type { InvalidationBus } from '../line.js'
import type { Backend, BackendEntry, LeaseRequest, LeasedEntry, LeasingBackend, Revision, SeenEntry } from './backend.js'
import { assertConnected, inOrder, isOne, useRedis, type RedisLike } from './redis-client.js'
import { RedisLine } from './redis-line.js'

/** What ioredis has of every command, and its types of most. */
interface Evaluating { evalBuffer (script: string, keys: number, ...args: (string | Buffer | number)[]): Promise<unknown> }

/**
 * On a Redis server or a Redis Cluster, by an ioredis client, which stays open. To hear of other processes a second connection
 * is made like it when it is first needed, and closed with the manager; in a Cluster that takes the sharded channels of Redis 7.
 * `keyPrefix` stands in front of every key: up to 50 printable ASCII characters without blanks and braces.
 * @throws InvalidOptionsError
 */
export function redis (client: unknown, options: { keyPrefix?: string } = {}): Backend {
  const { keyPrefix = '' } = options
  const used = useRedis(client, 'redis(client)')
  for (const [name, value] of Object.entries(options)) {
    if (name !== 'keyPrefix') throw new InvalidOptionsError(`redis.${name}`, 'absent: there is keyPrefix', show(value))
    if (typeof value !== 'string' || !/^[!-z|~]{0,50}$/.test(value)) throw new InvalidOptionsError('redis.keyPrefix', 'up to 50 printable ASCII characters without blanks and braces', show(value))
  }
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

// In all scripts KEYS[1] is a region's stamp: 'epoch|softened|tagged|deleted'. See Stamp.

// Of a region's keys: what isn't there gets a mark. What is of another type, or too short to be told from others, is nobody's
// of ours and counts as not there: the mark takes its place.
const leaseKeys = `
local all = first > #KEYS and {} or redis.call('MGET', unpack(KEYS, first))
for i = first, #KEYS do
  local held = all[i - first + 1]
  if not held or #held < #ARGV[2] then
    held = ARGV[2]
    redis.call('SET', KEYS[i], held, 'PX', ARGV[3])
  else
    if ARGV[4] ~= '0' then
      redis.call('SETRANGE', KEYS[i], 4, string.sub(ARGV[2], 5))
      held = redis.call('GET', KEYS[i])
    end
    -- A stale entry stays as long as the lease on it: whether it is served is for its own times to say.
    if redis.call('PTTL', KEYS[i]) < tonumber(ARGV[3]) then redis.call('PEXPIRE', KEYS[i], ARGV[3]) end
  end
  result[#result + 1] = held
end
return result`

// A key of ours that holds anything else is put right.
const createStamp = `
local stamp = redis.pcall('GET', KEYS[1])
if type(stamp) ~= 'string' or not string.match(stamp, '^%d+|%d+|%d+|%d+$') or string.match(stamp, string.rep('%d', 16)) then
  stamp = ARGV[1]
  redis.call('SET', KEYS[1], stamp)
end
`

const ifUnchanged = `
local stamp = redis.pcall('GET', KEYS[1])
if type(stamp) ~= 'string' then return false end
local epoch, deleted = string.match(stamp, '^(%d+)|%d+|%d+|(%d+)$')
if epoch ~= ARGV[1] or deleted ~= ARGV[2] then return false end`

const scripts = {
  // ARGV: a new stamp, the mark, its ttl, whether to take over: 1, or 2 where that was said already
  lease: `${createStamp}
if ARGV[4] == '1' then
  local others, deleted = string.match(stamp, '^(.*|)(%d+)$')
  stamp = others .. string.format('%d', deleted + 1)
  redis.call('SET', KEYS[1], stamp)
end
local result = {stamp} local first = 2${leaseKeys}`,
  // In a cluster the stamp is on a node of its own.
  stamp: `${createStamp}return {stamp}`,
  leaseOnly: `local result = {} local first = 1${leaseKeys}`,

  // ARGV, for each key: lease, value, ttl
  fill: `
local filled = {}
for i, key in ipairs(KEYS) do
  local lease = ARGV[3 * i - 2]
  if redis.pcall('GETRANGE', key, 0, #lease - 1) == lease then
    redis.call('SET', key, ARGV[3 * i - 1], 'PX', ARGV[3 * i])
    filled[i] = 1
  else
    filled[i] = 0
  end
end
return filled`,

  // ARGV: epoch and deleted as they were; values; one ttl for all, or one for each. Returns which were refused.
  fillMissing: `
${ifUnchanged}
local call, refused, ttls = redis.call, {}, #KEYS + 1
for i = 2, #KEYS do
  local ttl = ARGV[ttls + i - 1] or ARGV[ttls + 1]
  if not call('SET', KEYS[i], ARGV[i + 1], 'PX', ttl, 'NX') then
    -- What is of another type, or too short, is nobody's of ours.
    if call('TYPE', KEYS[i]).ok == 'string' and call('STRLEN', KEYS[i]) >= ${identityLength} then refused[#refused + 1] = i - 2
    else call('SET', KEYS[i], ARGV[i + 1], 'PX', ttl) end
  end
end
return refused`,

  // ARGV: epoch and deleted as they were; for each key what told its value from others, or nothing; value, ttl
  fillUnchanged: `
${ifUnchanged}
local all = redis.call('MGET', unpack(KEYS, 2))
local refused = {}
for i, held in ipairs(all) do
  local identity = held and #held >= ${identityLength} and string.sub(held, 1, ${identityLength}) or ''
  if identity == ARGV[3 * i] then
    redis.call('SET', KEYS[i + 1], ARGV[3 * i + 1], 'PX', ARGV[3 * i + 2])
  else
    refused[#refused + 1] = i - 1
  end
end
return refused`,

  // ARGV: a new stamp, the kind of revision. KEYS[2] and on: the tags.
  revise: `${createStamp}
-- First, since a server without room still does it.
if ARGV[2] == 'deleted' then
  for i = 2, #KEYS do redis.call('UNLINK', KEYS[i]) end
end
local epoch, softened, tagged, deleted = string.match(stamp, '^(%d+)|(%d+)|(%d+)|(%d+)$')
if ARGV[2] == 'hard' then epoch = string.match(ARGV[1], '^%d+')
elseif ARGV[2] == 'soft' then softened = softened + 1
elseif ARGV[2] == 'tags' then tagged = tagged + 1
else deleted = deleted + 1 end
redis.call('SET', KEYS[1], string.format('%s|%d|%d|%d', epoch, softened, tagged, deleted))
if ARGV[2] == 'tags' then
  for i = 2, #KEYS do redis.call('SET', KEYS[i], string.format('%s|%d', epoch, tagged), 'XX', 'KEEPTTL') end
end`,

  // ARGV: for each tag its ttl
  holdTags: `
local stamp = redis.call('GET', KEYS[1])
if not stamp then return end -- and every entry is gone with it
local epoch, tagged = string.match(stamp, '^(%d+)|%d+|(%d+)|')
for i = 2, #KEYS do
  local ttl = tonumber(ARGV[i - 1])
  if not redis.call('SET', KEYS[i], epoch .. '|' .. tagged, 'PX', ttl, 'NX') and redis.call('PTTL', KEYS[i]) < ttl then
    redis.call('PEXPIRE', KEYS[i], ttl)
  end
end`
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

  // A stamp and its tags are in one slot, on a server and in a cluster alike.

  async revise (stampKey: string, revision: Revision): Promise<void> {
    const tagKeys = revision.kind === 'tags' ? revision.tagKeys : []
    await this.eval(scripts.revise, [stampKey, ...tagKeys], [revision.stamp, revision.kind])
  }

  async holdTags (stampKey: string, tags: readonly { key: string, ttl: number }[]): Promise<void> {
    await this.eval(scripts.holdTags, [stampKey, ...tags.map(tag => tag.key)], tags.map(tag => tag.ttl))
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

export class RedisBackend extends RedisCommands {
  get connection (): unknown { return inOrder(this.client) }

  async getMany (keys: readonly string[]): Promise<(Uint8Array | undefined)[]> {
    if (keys.length === 0) return []
    assertConnected(this.client)
    if (keys.length <= mostKeys) return undefinedForNull(await this.client.mgetBuffer(this.keys(keys)))
    const found = await Promise.all(chunksOf(keys).map(chunk => this.client.mgetBuffer(this.keys(chunk))))
    return undefinedForNull(found.flat())
  }

  async deleteMany (keys: readonly string[]): Promise<void> {
    if (keys.length === 0) return
    assertConnected(this.client)
    await Promise.all(chunksOf(keys).map(chunk => this.client.unlink(...this.keys(chunk))))
  }

  async leaseMany (stampKey: string, keys: readonly string[], lease: LeaseRequest): Promise<[Uint8Array, ...Uint8Array[]]> {
    const answers = await Promise.all(chunksOf(keys).map((chunk, i) => this.eval(scripts.lease, [stampKey, ...chunk], leaseArguments(lease, i > 0)))) as Uint8Array[][]
    // Of several stamps the first: what is older is believed less.
    return answers.flatMap((answer, i) => i === 0 ? answer : answer.slice(1)) as [Uint8Array, ...Uint8Array[]]
  }

  async fillMany (entries: readonly LeasedEntry[]): Promise<boolean[]> {
    const filled = await Promise.all(chunksOf(entries).map(chunk =>
      this.eval(scripts.fill, chunk.map(entry => entry.key), chunk.flatMap(fillArguments)))) as unknown[][]
    return filled.flat().map(isOne)
  }

  async fillUnchanged (stampKey: string, { epoch, deleted }: Pick<Stamp, 'epoch' | 'deleted'>, entries: readonly SeenEntry[]): Promise<boolean[] | undefined> {
    const chunks = chunksOf(entries)
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
    await Promise.all(chunksOf(keys).map(chunk => this.eval(scripts.revise, [stampKey, ...chunk], [stamp, 'deleted'])))
  }
}

/** Keys of a cluster are in many slots, and a command must keep to one: so one command for each key, all at once. */
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
      this.eval(scripts.stamp, [stampKey], [lease.stamp]),
      ...keys.map(key => this.eval(scripts.leaseOnly, [key], leaseArguments(lease)))
    ])
    return answers.flat() as [Uint8Array, ...Uint8Array[]]
  }

  async fillMany (entries: readonly LeasedEntry[]): Promise<boolean[]> {
    const filled = await Promise.all(entries.map(entry => this.eval(scripts.fill, [entry.key], fillArguments(entry))))
    return (filled as unknown[][]).map(([one]) => isOne(one))
  }

  async forgetMany (stampKey: string, stamp: string, keys: readonly string[]): Promise<void> {
    // In this order: whoever finds the stamp unchanged after putting his mark will lose that mark to the deletion.
    try {
      await this.eval(scripts.revise, [stampKey], [stamp, 'deleted'])
    } finally {
      await this.deleteMany(keys) // even where a server has no room for the stamp
    }
  }
}

const leaseArguments = ({ stamp, mark, ttl, takeOver }: LeaseRequest, isSaid = false) => [stamp, mark, Math.ceil(ttl), takeOver ? isSaid ? '2' : '1' : '0']

const fillArguments = ({ lease, value, ttl }: LeasedEntry) => [lease.subarray(0, identityLength), value, ttl]

const isMissing = ({ held }: SeenEntry) => held === undefined

/** An entry's own times say when it is over: the server may keep some a little longer, rather than be told a time for each. */
function missingArguments (entries: readonly SeenEntry[]): (Uint8Array | number)[] {
  const args: (Uint8Array | number)[] = entries.map(entry => entry.value)
  let [shortest, longest] = [Infinity, 0]
  for (const { ttl } of entries) {
    shortest = Math.min(shortest, ttl)
    longest = Math.max(longest, ttl)
  }
  if (longest <= 1.25 * shortest) args.push(longest)
  else for (const { ttl } of entries) args.push(ttl)
  return args
}

const seenArguments = ({ held, value, ttl }: SeenEntry) => [held === undefined || held.length < identityLength ? '' : held.subarray(0, identityLength), value, ttl]

/** A command blocks the server while it runs, and has no room for any number of keys. */
const mostKeys = 1000

/** One list at least, if an empty one. All are sent at once: it is one round trip still. */
function chunksOf<T> (list: readonly T[]): (readonly T[])[] {
  if (list.length <= mostKeys) return [list]
  return Array.from({ length: Math.ceil(list.length / mostKeys) }, (_, i) => list.slice(i * mostKeys, (i + 1) * mostKeys))
}

/** In its place: of a hundred keys, most were found. */
function undefinedForNull (values: (Buffer | null)[]): (Buffer | undefined)[] {
  for (let i = 0; i < values.length; i++) if (values[i] === null) (values as (Buffer | undefined)[])[i] = undefined
  return values as (Buffer | undefined)[]
}

const asBuffer = (bytes: Uint8Array): Buffer => Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
