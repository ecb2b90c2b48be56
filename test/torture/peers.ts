import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import type { Row } from './database.js'
import { versionOf, type Answer, type ReadOperation, type Subject, type SubjectOptions, type WriteOperation } from './subject.js'

/*
 * Other caches, with memory, Redis and their bus where they have one, as their own pages recommend it. They take part in
 * what they can do: reading and forgetting keys of one region.
 */

const bench = fileURLToPath(new URL('../../bench/package.json', import.meta.url))
const require = createRequire(bench)

export const peerNames = ['layered-loader', 'bentocache', 'cacheable', 'async-cache-dedupe'] as const
export type PeerName = typeof peerNames[number]

/** They are no dependencies of ours: the benchmark has them. */
export async function installPeers (): Promise<void> {
  if (peerNames.every(name => existsSync(`${dirname(bench)}/node_modules/${name}`))) return
  await promisify(execFile)('npm', ['--prefix', dirname(bench), 'ci', '--silent', '--no-audit', '--no-fund'])
}

/** What a peer can do, for one key and for several. */
interface Peer {
  get (id: number): Promise<Row | null | undefined>
  getMany?: (ids: readonly number[]) => Promise<readonly (Row | null | undefined)[]>
  delete (id: number): Promise<unknown>
  deleteMany?: (ids: readonly number[]) => Promise<unknown>
}

/** As long as our `lasting`. */
const ttl = 10 * 60_000

type Open = (database: SubjectOptions['database'], port: number) => Promise<Peer>

const peers: Readonly<Record<PeerName, Open>> = {
  async 'layered-loader' (database, port) {
    const { Loader, RedisCache, createNotificationPair } = require('layered-loader')
    const { publisher, consumer } = createNotificationPair({ channel: 'torture', publisherRedis: client(port), consumerRedis: client(port) })
    const loader = new Loader({
      inMemoryCache: { ttlInMsecs: ttl, maxItems: 10_000 },
      asyncCache: new RedisCache(client(port), { json: true, ttlInMsecs: ttl, prefix: 'torture' }),
      notificationPublisher: publisher,
      notificationConsumer: consumer,
      dataSourceGetOneFn: async (key: string) => (await database.byIds([Number(key)]))[0],
      dataSourceGetManyFn: async (keys: string[]) => await database.byIds(keys.map(Number)),
      cacheKeyFromValueResolver: (row: Row) => String(row.id),
      logger: { error () {} }
    })
    await loader.init()
    return {
      get: async id => await loader.get(String(id)),
      getMany: async ids => {
        // Its answer is in no order, and tells nothing of what is missing.
        const rows = await loader.getMany([...new Set(ids)].map(String)) as Row[]
        return ids.map(id => rows.find(row => row?.id === id))
      },
      delete: async id => await loader.invalidateCacheFor(String(id)),
      deleteMany: async ids => await loader.invalidateCacheForMany(ids.map(String))
    }
  },

  async bentocache (database, port) {
    const { BentoCache, bentostore } = await import(require.resolve('bentocache'))
    const { memoryDriver } = await import(require.resolve('bentocache/drivers/memory'))
    const { redisDriver, redisBusDriver } = await import(require.resolve('bentocache/drivers/redis'))
    const cache = new BentoCache({
      default: 'store',
      ttl,
      stores: {
        store: bentostore()
          .useL1Layer(memoryDriver({ maxItems: 10_000 }))
          .useL2Layer(redisDriver({ connection: client(port) }))
          .useBus(redisBusDriver({ connection: { host: '127.0.0.1', port } }))
      }
    })
    return {
      get: async id => await cache.getOrSet({ key: String(id), factory: async () => (await database.byIds([id]))[0] }),
      delete: async id => await cache.delete({ key: String(id) }),
      deleteMany: async ids => await cache.deleteMany({ keys: ids.map(String) })
    }
  },

  async cacheable (database, port) {
    const { Cacheable, Keyv } = await import(require.resolve('cacheable'))
    const { default: KeyvRedis } = await import(require.resolve('@keyv/redis'))
    const { RedisMessageProvider } = await import(require.resolve('@qified/redis'))
    const url = `redis://127.0.0.1:${port}`
    const provider = new RedisMessageProvider({ uri: url })
    // Nobody else listens there: the first lost connection would end the process.
    for (const connection of [provider.pub, provider.sub]) connection.on('error', () => {})
    const cache = new Cacheable({ ttl, secondary: new Keyv({ store: new KeyvRedis(url) }), sync: { qified: provider } })
    cache.on('error', () => {})
    return {
      get: async id => await cache.getOrSet(String(id), async () => (await database.byIds([id]))[0], { ttl }),
      delete: async id => await cache.delete(String(id)),
      deleteMany: async ids => await cache.deleteMany(ids.map(String))
    }
  },

  /** Memory or Redis, and nothing between processes: Redis then. */
  async 'async-cache-dedupe' (database, port) {
    const { createCache } = await import(require.resolve('async-cache-dedupe'))
    const cache = createCache({ ttl: ttl / 1000, storage: { type: 'redis', options: { client: client(port), invalidation: { referencesTTL: ttl / 1000 } } } })
    cache.define('item', { references: (id: number) => [`item ${id}`] }, async (id: number) => (await database.byIds([id]))[0])
    return {
      get: async id => await cache.item(id),
      delete: async id => await cache.invalidate('item', `item ${id}`),
      deleteMany: async ids => await cache.invalidate('item', ids.map(id => `item ${id}`))
    }
  }
}

/** With its defaults. */
function client (port: number) {
  const { Redis } = require('ioredis')
  return new Redis(port).on('error', () => {})
}

export async function peer (name: string, { connections, database }: SubjectOptions): Promise<Subject> {
  if (connections.tier !== 'redis') throw new Error('peers are tortured over one Redis')
  const open = peers[name as PeerName] as Open | undefined
  if (open === undefined) throw new Error(`there is no peer ${name}: there are ${peerNames.join(', ')}`)
  const { get, getMany, delete: remove, deleteMany } = await open(database, connections.redis)
  const reads: ReadOperation[] = [{ way: 'get', weight: 5, kinds: ['key'], run: async (_region, _kind, [id]) => answers([await get(id!)]) }]
  const writes: WriteOperation[] = [{ way: 'delete', weight: 5, kinds: ['key'], run: async (_region, _kind, [row]) => { await remove(row!.id) } }]
  if (getMany !== undefined) reads.push({ way: 'getMany', weight: 3, kinds: ['key'], many: true, run: async (_region, _kind, ids) => answers(await getMany(ids)) })
  if (deleteMany !== undefined) writes.push({ way: 'deleteMany', weight: 1, kinds: ['key'], many: true, run: async (_region, _kind, rows) => { await deleteMany(rows.map(row => row.id)) } })
  return { regions: ['lasting'], reads, writes }
}

const answers = (rows: readonly (Row | null | undefined)[]): Answer[] => rows.map(row => ({ version: versionOf(row), origin: 'unknown' }))
