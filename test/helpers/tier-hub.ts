import { identityLength } from '../../lib/entry-format.js'
import type { Line } from '../../lib/line.js'
import { formatStamp, parseStamp, type Stamp } from '../../lib/stamp.js'
import type { DogpileLock } from '../../lib/locks/lock.js'
import { UnstorableError, type Backend, type LeaseRequest, type LeasedEntry, type LeasingBackend, type SeenEntry } from '../../lib/backends/backend.js'
import { Way, type HubProcess, type LineHub } from './line-hub.js'

/** What is asked of a server. */
export const operations = ['read', 'lease', 'fill', 'forget', 'revise', 'holdTags', 'lock', 'release', 'publish'] as const
export type Operation = typeof operations[number]

/**
 * What a Redis server does for a tier and a lock: lib/backends/redis-scripts.ts in other words, each in one step. An
 * entry's time is that of `now`, a lock's that of the hub.
 */
export class TierServer {
  readonly kept = new Map<string, { value: Uint8Array, until: number }>()
  /** Answered with an error. */
  refuses = (_operation: Operation): boolean => false
  refusesToKeep = (_key: string): boolean => false
  /** By operation: how many it has executed. */
  readonly executed = Object.fromEntries(operations.map(operation => [operation, 0])) as Record<Operation, number>
  readonly hub: LineHub
  readonly #now: () => number
  readonly #locks = new Map<string, { readonly token: string, until: number }>()
  #tokens = 0

  constructor (hub: LineHub, now: () => number) {
    this.hub = hub
    this.#now = now
  }

  flush (): void {
    this.kept.clear()
    this.#locks.clear()
  }

  /** For want of room, whichever it is. */
  evict (n: number): void {
    const keys = [...this.kept.keys()]
    if (keys.length > 0) this.kept.delete(keys[n % keys.length]!)
  }

  get (key: string): Uint8Array | undefined {
    const found = this.kept.get(key)
    if (found !== undefined && this.#now() < found.until) return found.value
    this.kept.delete(key)
    return undefined
  }

  set (key: string, value: Uint8Array, ttl: number): void {
    this.kept.set(key, { value, until: this.#now() + ttl })
  }

  stamp (stampKey: string, fresh: string): Uint8Array {
    const stamp = this.get(stampKey)
    if (stamp !== undefined) return stamp
    this.set(stampKey, Buffer.from(fresh), Infinity)
    return this.get(stampKey)!
  }

  lease (key: string, { mark, ttl, takeOver }: LeaseRequest): Uint8Array {
    const held = this.get(key)
    if (held === undefined) {
      this.set(key, mark, ttl)
      return mark
    }
    const kept = this.kept.get(key)!
    kept.until = Math.max(kept.until, this.#now() + ttl)
    if (takeOver) kept.value = Buffer.concat([held.subarray(0, 4), mark.subarray(4), held.subarray(identityLength)])
    return kept.value
  }

  fill ({ key, lease, value, ttl }: LeasedEntry): boolean {
    const held = this.get(key)
    if (held === undefined || !identityOf(held).equals(identityOf(lease))) return false
    this.set(key, value, ttl)
    return true
  }

  /** Undefined where the stamp has changed. */
  fillUnchanged (stampKey: string, { epoch, deleted }: Pick<Stamp, 'epoch' | 'deleted'>, entries: readonly SeenEntry[]): boolean[] | undefined {
    const stamp = parseStamp(Buffer.from(this.get(stampKey) ?? '').toString())
    if (stamp?.epoch !== epoch || stamp.deleted !== deleted) return undefined
    return entries.map(({ key, held, value, ttl }) => {
      const standing = this.get(key)
      const isUnchanged = standing === undefined || held === undefined ? standing === held : identityOf(standing).equals(identityOf(held))
      if (isUnchanged) this.set(key, value, ttl)
      return isUnchanged
    })
  }

  revise (stampKey: string, fresh: string, change: (stamp: Stamp) => Partial<Stamp>): Stamp {
    const stamp = parseStamp(Buffer.from(this.stamp(stampKey, fresh)).toString())!
    const changed = { ...stamp, ...change(stamp) }
    this.set(stampKey, Buffer.from(formatStamp(changed)), Infinity)
    return changed
  }

  reviseTags (stampKey: string, fresh: string, tagKeys: readonly string[]): void {
    const { epoch, tagged } = this.revise(stampKey, fresh, stamp => ({ tagged: stamp.tagged + 1 }))
    for (const key of tagKeys) if (this.get(key) !== undefined) this.kept.get(key)!.value = Buffer.from(`${epoch}|${tagged}`)
  }

  holdTags (stampKey: string, tags: readonly { key: string, ttl: number }[]): void {
    const stamp = this.get(stampKey)
    if (stamp === undefined) return
    const { epoch, tagged } = parseStamp(Buffer.from(stamp).toString())!
    for (const { key, ttl } of tags) {
      if (this.get(key) === undefined) this.set(key, Buffer.from(`${epoch}|${tagged}`), ttl)
      const kept = this.kept.get(key)!
      kept.until = Math.max(kept.until, this.#now() + ttl)
    }
  }

  /** All of `names`, or none. Resolves to a token. */
  lock (names: readonly string[], ttl: number): string | undefined {
    if (names.some(name => (this.#locks.get(name)?.until ?? 0) > this.hub.time)) return undefined
    const token = `token ${this.#tokens++}`
    for (const name of names) this.#locks.set(name, { token, until: this.hub.time + ttl })
    return token
  }

  extend (names: readonly string[], token: string, ttl: number): boolean {
    const own = names.map(name => this.#locks.get(name))
    if (!own.every(lock => lock?.token === token && lock.until > this.hub.time)) return false
    for (const lock of own) lock!.until = this.hub.time + ttl
    return true
  }

  unlock (names: readonly string[], token: string): void {
    for (const name of names) if (this.#locks.get(name)?.token === token) this.#locks.delete(name)
  }
}

/** What takes calls to a server, and its answers back: a connection, or a test that lets them overtake each other. */
export interface Carrier { call<T> (operation: Operation, execute: () => T, keys?: readonly string[]): Promise<T> }

const identityOf = (bytes: Uint8Array): Buffer => Buffer.from(bytes.subarray(0, identityLength))

/** A process's connection to a server. Each direction keeps its order, can be held up, and loses nothing until it is told to. */
export class Connection implements Carrier {
  readonly #server: TierServer
  readonly #process: HubProcess
  #requests!: Way
  #replies!: Way
  /** Connections that are lost: what was on its way may still arrive. */
  readonly #lost: Way[] = []
  readonly #waiting = new Set<(error: Error) => void>()
  #isDown = false

  constructor (server: TierServer, process: HubProcess) {
    this.#server = server
    this.#process = process
    this.#open()
  }

  call<T> (operation: Operation, execute: () => T): Promise<T> {
    if (this.#isDown) return Promise.reject(new Error('there is no connection'))
    const server = this.#server
    const replies = this.#replies
    return new Promise((resolve, reject) => {
      this.#waiting.add(reject)
      const reply = (settle: () => void) => replies.carry(() => { this.#waiting.delete(reject); settle() })
      this.#requests.carry(() => {
        if (server.refuses(operation)) return reply(() => reject(new Error(`the server refuses ${operation}`)))
        const result = execute()
        server.executed[operation]++
        reply(() => resolve(result))
      })
    })
  }

  hold (way: 'requests' | 'replies'): void {
    (way === 'requests' ? this.#requests : this.#replies).hold()
  }

  release (): void {
    for (const way of [...this.#lost.splice(0), this.#requests, this.#replies]) way.release()
  }

  /** What is under way is never answered, and the process isn't told. */
  lose (way: 'requests' | 'replies'): void {
    (way === 'requests' ? this.#requests : this.#replies).lose()
  }

  /** The process is told. What the server has been sent, it may yet receive. */
  break (): void {
    this.#isDown = true
    this.#replies.lose()
    this.#lost.push(this.#requests)
    for (const reject of this.#waiting) reject(new Error('the connection was lost'))
    this.#waiting.clear()
    this.#open()
  }

  restore (): void {
    this.#isDown = false
  }

  #open (): void {
    this.#requests = new Way(this.#server.hub, undefined)
    this.#replies = new Way(this.#server.hub, this.#process)
  }
}

/** All its commands go over one connection and stay in order, and each is one step: a Redis server. */
export function serverBackend (server: TierServer, connection: Carrier, line: Line | undefined): LeasingBackend {
  const call = connection.call.bind(connection)
  return {
    name: 'server',
    connection,
    ...line !== undefined && { line },
    getMany: keys => call('read', () => keys.map(key => server.get(key)), keys),
    setMany: entries => call('fill', () => { for (const { key, value, ttl } of entries) server.set(key, value, ttl) }, keysOf(entries)),
    deleteMany: keys => call('forget', () => { for (const key of keys) server.kept.delete(key) }, keys),
    leaseMany: (stampKey, keys, request) => call('lease', () => {
      if (request.takeOver) raiseDeleted(server, stampKey, request.stamp)
      return [server.stamp(stampKey, request.stamp), ...keys.map(key => server.lease(key, request))]
    }, keys),
    fillMany: entries => call('fill', () => entries.map(entry => server.fill(entry)), keysOf(entries)),
    fillUnchanged: (stampKey, since, entries) => call('fill', () => server.fillUnchanged(stampKey, since, entries), keysOf(entries)),
    revise: (stampKey, revision) => call('revise', () => { revise(server, stampKey, revision) }),
    forgetMany: (stampKey, stamp, keys) => call('forget', () => {
      raiseDeleted(server, stampKey, stamp)
      for (const key of keys) server.kept.delete(key)
    }, keys),
    holdTags: (stampKey, tags) => call('holdTags', () => { server.holdTags(stampKey, tags) }, keysOf(tags))
  }
}

/** Each key has a node, the stamp and the tags have another; nothing keeps their commands in order: a Redis Cluster. */
export function clusterBackend (server: TierServer, connections: readonly Carrier[], line: Line | undefined): LeasingBackend {
  const [first, ...others] = connections as [Carrier, ...Carrier[]]
  const call = <T>(operation: Operation, key: string, execute: () => T) => nodeOf(key).call(operation, execute, [key])
  const nodeOf = (key: string) => key.startsWith('{') ? first : others[key.charCodeAt(key.length - 1) % others.length]!
  const deleteMany = async (keys: readonly string[]) => { await Promise.all(keys.map(key => call('forget', key, () => { server.kept.delete(key) }))) }
  return {
    name: 'cluster',
    ...line !== undefined && { line },
    getMany: keys => Promise.all(keys.map(key => call('read', key, () => server.get(key)))),
    setMany: async entries => { await Promise.all(entries.map(({ key, value, ttl }) => call('fill', key, () => { server.set(key, value, ttl) }))) },
    deleteMany,
    leaseMany: (stampKey, keys, request) => Promise.all([
      call('lease', stampKey, () => server.stamp(stampKey, request.stamp)),
      ...keys.map(key => call('lease', key, () => server.lease(key, request)))
    ]),
    fillMany: entries => Promise.all(entries.map(entry => call('fill', entry.key, () => server.fill(entry)))),
    revise: (stampKey, revision) => call('revise', stampKey, () => { revise(server, stampKey, revision) }),
    forgetMany: async (stampKey, stamp, keys) => {
      await call('revise', stampKey, () => { raiseDeleted(server, stampKey, stamp) })
      await deleteMany(keys)
    },
    holdTags: (stampKey, tags) => call('holdTags', stampKey, () => { server.holdTags(stampKey, tags) })
  }
}

function raiseDeleted (server: TierServer, stampKey: string, fresh: string): void {
  server.revise(stampKey, fresh, ({ deleted }) => ({ deleted: deleted + 1 }))
}

function revise (server: TierServer, stampKey: string, revision: Parameters<LeasingBackend['revise']>[1]): void {
  switch (revision.kind) {
    case 'hard': server.revise(stampKey, revision.stamp, () => ({ epoch: parseStamp(revision.stamp)!.epoch })); break
    case 'soft': server.revise(stampKey, revision.stamp, ({ softened }) => ({ softened: softened + 1 })); break
    case 'tags': server.reviseTags(stampKey, revision.stamp, revision.tagKeys)
  }
}

/** Three methods, as somebody's own backend has them. A server that `refusesToKeep` a key has it still as it was. */
export function bareBackend (server: TierServer, carrier: Carrier): Backend {
  return {
    name: 'bare',
    getMany: keys => carrier.call('read', () => keys.map(key => server.get(key)), keys),
    setMany: entries => carrier.call('fill', () => {
      const refused = keysOf(entries).filter(key => server.refusesToKeep(key))
      for (const { key, value, ttl } of entries) if (!refused.includes(key)) server.set(key, value, ttl)
      if (refused.length > 0) throw new UnstorableError(refused, 'too large')
    }, keysOf(entries)),
    deleteMany: keys => carrier.call('forget', () => { for (const key of keys) server.kept.delete(key) }, keys)
  }
}

const keysOf = (entries: readonly { readonly key: string }[]): string[] => entries.map(({ key }) => key)

/** On the same server, over the same connection. */
export function serverLock (server: TierServer, connection: Carrier): DogpileLock {
  return {
    connection,
    acquire: async (names, ttl) => {
      const token = await connection.call('lock', () => server.lock(names, ttl))
      if (token === undefined) return undefined
      return {
        token,
        extend: ttl => connection.call('lock', () => server.extend(names, token, ttl)),
        release: async () => await connection.call('release', () => { server.unlock(names, token) }).catch(() => {})
      }
    }
  }
}

/** The line of a hub, where what is published goes over this connection, among its other commands. */
export function lineOver (server: TierServer, connection: Connection, line: Line): Line {
  return { ...line, publish: (channel, message) => connection.call('publish', () => { server.hub.deliver(channel, message) }) }
}
