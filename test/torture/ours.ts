import { Cluster, Redis } from 'ioredis'
import { MemcacheClient } from 'memcache-client'
import { pathToFileURL } from 'node:url'
import type * as Library from '../../plugin/index.js'
import type { Backend, CachingApi, CachingManager, InvalidationBus, RegionOptions, RequestStats } from '../../plugin/index.js'
import { nameOf, type Row } from './database.js'
import { groupOf, type RegionName } from './layout.js'
import { versionOf, type Answer, type Subject, type SubjectOptions } from './subject.js'
import type { Origin } from './ways.js'
import type { Connections } from './world.js'

type Servers = { client: Redis | Cluster, shared: Backend, bus?: InvalidationBus }

/** `lasting` keeps values longer than any run, so that nothing stale heals by itself. */
const policies: Readonly<Record<RegionName, Omit<RegionOptions, 'tiers'> & { maxEntries: number }>> = {
  lasting: { ttl: '10m', maxEntries: 10_000 },
  brief: { ttl: '2s', grace: '3s', maxEntries: 100 }
}

/** As a process of an application would have it: a manager, regions with their tiers, a lock, cached objects. */
export async function ours ({ connections, database, memory, build, random }: SubjectOptions): Promise<Subject> {
  const library = await import(pathToFileURL(`${build}/plugin/index.ts`).href) as typeof Library
  const { client, shared, bus } = connect(library, connections)
  const region = ({ maxEntries, ...policy }: typeof policies[RegionName]): RegionOptions =>
    ({ ...policy, tiers: memory ? [library.memory({ maxEntries }), shared] : [shared], lockTtl: '1s', lockWait: '2s' })
  const manager: CachingManager = new library.CachingManager({
    regions: { lasting: region(policies.lasting), brief: region(policies.brief) },
    lock: library.redlock([client]),
    ...(bus !== undefined && { bus })
  })
  await manager.ready()

  const objects = { lasting: define('lasting'), brief: define('brief') }
  function define (name: RegionName) {
    return library.cachedObject({
      name: 'Item',
      region: name,
      methods: {
        byId: library.loadMany({ load: async (_context, ids: readonly number[]) => await database.byIds(ids), idOf: row => row.id, tags: tagsOf }),
        byName: library.loadOne(async (_context, name: string) => await database.byName(name), { primes: { byId: (row: Row) => [row.id] }, tags: tagsOf })
      }
    })
  }
  // With a request's memory in front of it, which counts where values came from; sometimes without.
  const regionOf = (name: RegionName, api: CachingApi) => random.chance(0.8) ? api.region(name) : manager.region(name)
  const keyOf = (id: number) => `item-${id}`
  const [both, keys] = [['byId', 'byName'], ['key']] as const

  return {
    regions: ['lasting', 'brief'],
    reads: [
      {
        way: 'api.get',
        weight: 5,
        kinds: both,
        run: async (name, kind, [id]) => await told(manager.createApi(), async api =>
          [kind === 'byId' ? await api.get(objects[name], 'byId', [id!]) : await api.get(objects[name], 'byName', [nameOf(id!)])])
      },
      {
        way: 'api.getMany',
        weight: 2,
        kinds: both,
        many: true,
        run: async (name, kind, ids) => await told(manager.createApi(), async api =>
          kind === 'byId' ? await api.getMany(objects[name], 'byId', ids) : await api.getMany(objects[name], 'byName', ids.map(nameOf)))
      },
      {
        way: 'api.refresh',
        weight: 0.1,
        kinds: both,
        run: async (name, kind, [id]) => await told(manager.createApi(), async api =>
          [kind === 'byId' ? await api.refresh(objects[name], 'byId', [id!]) : await api.refresh(objects[name], 'byName', [nameOf(id!)])])
      },
      {
        way: 'region.get',
        weight: 1,
        kinds: keys,
        run: async (name, _kind, [id]) => await told(manager.createApi(), async api => [await regionOf(name, api).get<Row>(keyOf(id!))])
      },
      {
        way: 'region.getMany',
        weight: 1,
        kinds: keys,
        many: true,
        run: async (name, _kind, ids) => await told(manager.createApi(), async api => await regionOf(name, api).getMany<Row>(ids.map(keyOf)))
      },
      {
        way: 'region.getOrCreate',
        weight: 3,
        kinds: keys,
        run: async (name, _kind, [id]) => await told(manager.createApi(), async api =>
          [await regionOf(name, api).getOrCreate(keyOf(id!), async () => (await database.byIds([id!]))[0]!, { tags: tagsOf })])
      },
      {
        way: 'region.getOrCreateMany',
        weight: 2,
        kinds: keys,
        many: true,
        run: async (name, _kind, ids) => await told(manager.createApi(), async api => await regionOf(name, api).getOrCreateMany(
          ids.map(keyOf),
          async missing => await database.byIds(missing.map(key => Number(key.slice(5)))).then(rows => missing.map(key => rows.find(row => keyOf(row.id) === key)!)),
          { tags: tagsOf }
        ))
      }
    ],
    writes: [
      {
        way: 'api.invalidate',
        weight: 40,
        kinds: both,
        run: async (name, kind, [row]) => {
          if (kind === 'byId') await manager.createApi().invalidate(objects[name], 'byId', [row!.id])
          else await manager.createApi().invalidate(objects[name], 'byName', [row!.name])
        }
      },
      { way: 'region.delete', weight: 20, kinds: keys, run: async (name, _kind, [row]) => await manager.region(name).delete(keyOf(row!.id)) },
      { way: 'region.deleteMany', weight: 10, kinds: keys, many: true, run: async (name, _kind, rows) => await manager.region(name).deleteMany(rows.map(row => keyOf(row.id))) },
      { way: 'region.invalidateTags(row)', weight: 12, kinds: ['byId', 'byName', 'key'], run: async (name, _kind, [row]) => await manager.region(name).invalidateTags(tagsOf(row!)[0]) },
      { way: 'region.invalidateTags(group)', weight: 4, kinds: ['byId', 'byName', 'key'], run: async (name, _kind, [row]) => await manager.region(name).invalidateTags(tagsOf(row!)[1]) },
      { way: 'region.invalidate', weight: 0.5, kinds: keys, run: async name => await manager.region(name).invalidate() },
      // Where there is grace, a soft one leaves values to be served as stale ones.
      { way: 'region.invalidate(soft)', weight: 0.5, kinds: keys, regions: ['lasting'], run: async name => await manager.region(name).invalidate({ soft: true }) },
      { way: 'region.set', weight: 6, kinds: keys, run: async (name, _kind, [row]) => await manager.region(name).set(keyOf(row!.id), row!, { tags: tagsOf(row!) }) },
      {
        way: 'api.set',
        weight: 6,
        kinds: ['byId'],
        run: async (name, _kind, [row]) => await manager.createApi().set(objects[name], 'byId', [row!.id], row!)
      },
      {
        way: 'refresh',
        weight: 6,
        kinds: both,
        run: async (name, kind, [row]) => {
          if (kind === 'byId') await manager.createApi().refresh(objects[name], 'byId', [row!.id])
          else await manager.createApi().refresh(objects[name], 'byName', [row!.name])
        }
      }
    ]
  }
}

/** No more than peers have: reading and forgetting the keys of one region. */
export async function oursPlain (options: SubjectOptions): Promise<Subject> {
  const { reads, writes } = await ours(options)
  return {
    regions: ['lasting'],
    reads: reads.filter(({ way }) => way === 'region.getOrCreate' || way === 'region.getOrCreateMany'),
    writes: writes.filter(({ way }) => way === 'region.delete' || way === 'region.deleteMany')
  }
}

const tagsOf = (row: Row): [row: string, group: string] => [`row ${row.id}`, `group ${groupOf(row.id)}`]

function connect ({ redis, memcached, redisBus }: typeof Library, connections: Connections): Servers {
  switch (connections.tier) {
    case 'redis': {
      const client = quiet(new Redis(connections.redis))
      return { client, shared: redis(client) }
    }
    case 'memcached': {
      const client = quiet(new Redis(connections.redis))
      const shared = memcached(new MemcacheClient({ server: { server: `127.0.0.1:${connections.memcached}`, maxConnections: 2 }, noDelay: true }))
      return { client, shared, bus: redisBus(client) }
    }
    case 'cluster': {
      const natMap = Object.fromEntries(connections.ports.map(([node, proxy]) => [`127.0.0.1:${node}`, { host: '127.0.0.1', port: proxy }]))
      const client = quiet(new Cluster(connections.ports.map(([, port]) => ({ host: '127.0.0.1', port })), { natMap }))
      return { client, shared: redis(client) }
    }
  }
}

/** What goes wrong with a connection is what the run is about. */
const quiet = <C extends Redis | Cluster>(client: C): C => client.on('error', () => {}) as C

/** What was read, and where it came from, if all of it came from one place. */
async function told (api: CachingApi, read: (api: CachingApi) => Promise<readonly (Row | null | undefined)[]>): Promise<Answer[]> {
  const rows = await read(api)
  const origin = originOf(api.stats)
  return rows.map(row => ({ version: versionOf(row), origin }))
}

function originOf ({ tiers: { memory = 0, ...shared }, stale, loaded, waited }: Readonly<RequestStats>): Origin {
  if (stale > 0) return 'stale'
  const counts = { memory, shared: Object.values(shared).reduce((sum, count) => sum + count, 0), loaded, waited }
  const [origin, ...others] = (Object.keys(counts) as (keyof typeof counts)[]).filter(name => counts[name] > 0)
  return origin === undefined || others.length > 0 ? 'unknown' : origin
}
