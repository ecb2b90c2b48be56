import { ask, type Owner } from '../helpers/server-process.js'
import { startMemcached, startRedis, type PausableServer } from '../helpers/servers.js'
import { ReplicatedCluster } from './cluster.js'
import type { Tier, TortureOptions } from './options.js'
import { Proxy } from './proxy.js'

/** Where a process finds its servers: at its own proxies. */
export type Connections =
  | { readonly tier: 'redis', readonly redis: number }
  | { readonly tier: 'memcached', readonly memcached: number, readonly redis: number }
  /** `ports`: of the nodes, as they know each other, to those of the proxies. */
  | { readonly tier: 'cluster', readonly ports: readonly (readonly [node: number, proxy: number])[] }

interface Place { readonly name: string, readonly server: PausableServer, readonly flush: () => Promise<unknown> }

/** The servers of a tier, and the ways to them. */
export class World {
  readonly places: readonly Place[]
  readonly cluster: ReplicatedCluster | undefined
  readonly #tier: Tier
  /** By process, then by server. */
  readonly #proxies: readonly (readonly Proxy[])[]

  private constructor (tier: Tier, places: readonly Place[], proxies: readonly (readonly Proxy[])[], cluster?: ReplicatedCluster) {
    this.#tier = tier
    this.places = places
    this.#proxies = proxies
    this.cluster = cluster
  }

  static async start (t: Owner, { tier, processes }: Pick<TortureOptions, 'tier' | 'processes'>): Promise<World> {
    const cluster = tier === 'cluster' ? await ReplicatedCluster.start(t) : undefined
    const places = cluster !== undefined
      ? cluster.nodes.map((node, i) => redisPlace(`node ${i}`, node))
      : [...tier === 'memcached' ? [memcachedPlace(await startMemcached(t))] : [], redisPlace('redis', await startRedis(t))]
    const proxies = await Promise.all(Array.from({ length: processes }, async () =>
      await Promise.all(places.map(async ({ server }) => await Proxy.start(t, server.port)))))
    return new World(tier, places, proxies, cluster)
  }

  /** How many there are to hurt. */
  get servers (): number {
    return this.cluster?.masters.length ?? this.places.length
  }

  proxy (worker: number, server: number): Proxy {
    return this.#proxies[worker]![server]!
  }

  /** The ways of all processes to one server. */
  proxiesTo (server: number): readonly Proxy[] {
    return this.#proxies.map(proxies => proxies[server]!)
  }

  connections (worker: number): Connections {
    const [first, second] = this.#proxies[worker]!.map(proxy => proxy.port) as [number, number]
    switch (this.#tier) {
      case 'redis': return { tier: 'redis', redis: first }
      case 'memcached': return { tier: 'memcached', memcached: first, redis: second }
      case 'cluster': return { tier: 'cluster', ports: this.places.map(({ server }, i) => [server.port, this.#proxies[worker]![i]!.port]) }
    }
  }
}

const redisPlace = (name: string, server: PausableServer): Place =>
  ({ name, server, flush: async () => await ask(server.port, 'FLUSHALL', /OK\r\n/) })

const memcachedPlace = (server: PausableServer): Place =>
  ({ name: 'memcached', server, flush: async () => await ask(server.port, 'flush_all', /OK\r\n/) })
