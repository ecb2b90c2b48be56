import { execFile } from 'node:child_process'
import { setTimeout as pause } from 'node:timers/promises'
import { promisify } from 'node:util'
import { Redis } from 'ioredis'
import { findProgram } from '../helpers/programs.js'
import { ask, freePort, type Owner } from '../helpers/server-process.js'
import { startRedis, type RedisServer } from '../helpers/servers.js'

const run = promisify(execFile)

/** How long nodes may take to agree. Milliseconds. */
const patience = 30_000

/** Places of `nodes`: a master and its replica. */
interface Pair { master: number, replica: number }

/**
 * Three masters with a replica each. Replicas take over only when they are told to: so nothing is ever lost that a client
 * was told is done, which a real failover may lose and no cache can promise.
 */
export class ReplicatedCluster {
  readonly nodes: readonly RedisServer[]
  readonly #clients: readonly Redis[]
  readonly #pairs: Pair[] = []

  private constructor (t: Owner, nodes: readonly RedisServer[]) {
    this.nodes = nodes
    this.#clients = nodes.map(({ port }) => {
      const client = new Redis(port, { retryStrategy: () => 50, maxRetriesPerRequest: 0 })
      client.on('error', () => {})
      t.teardown(() => client.disconnect())
      return client
    })
  }

  static async start (t: Owner): Promise<ReplicatedCluster> {
    const cli = await findProgram('redis-cli')
    const nodes = await Promise.all(Array.from({ length: 6 }, async () => await startRedis(t, {
      args: [
        '--cluster-enabled', 'yes', '--cluster-config-file', 'nodes.conf', '--cluster-node-timeout', '1000',
        '--cluster-port', String(await freePort()), '--cluster-replica-no-failover', 'yes', '--repl-diskless-sync-delay', '0'
      ]
    })))
    const addresses = nodes.map(({ host, port }) => `${host}:${port}`)
    await run(cli, ['--cluster', 'create', ...addresses, '--cluster-replicas', '1', '--cluster-yes'])
    const cluster = new ReplicatedCluster(t, nodes)
    for (const node of nodes.keys()) await cluster.#agrees(node)
    await cluster.#findPairs()
    for (const { replica } of cluster.#pairs) await cluster.#inSync(replica)
    return cluster
  }

  get masters (): readonly number[] {
    return this.#pairs.map(({ master }) => master)
  }

  async slotOf (key: string): Promise<number> {
    return await this.#client(0).cluster('KEYSLOT', key)
  }

  /** The place of the node that has this key. */
  async masterOf (key: string): Promise<number> {
    return await this.#ownerOf(await this.slotOf(key))
  }

  /** Moves a slot from its master to another one, key by key, with `rest` milliseconds in each of its states. */
  async move (slot: number, rest: number): Promise<void> {
    const ids = await Promise.all(this.masters.map(async node => await this.#client(node).cluster('MYID') as string))
    const owner = await this.#ownerOf(slot)
    const from = this.masters.indexOf(owner)
    const to = (from + 1) % ids.length
    const [source, target] = [this.#client(owner), this.#client(this.masters[to]!)]
    await target.cluster('SETSLOT', slot, 'IMPORTING', ids[from]!)
    await source.cluster('SETSLOT', slot, 'MIGRATING', ids[to]!)
    await pause(rest)
    for (;;) {
      const keys = await source.cluster('GETKEYSINSLOT', slot, 1) as string[]
      if (keys.length === 0) break
      await source.call('MIGRATE', '127.0.0.1', this.nodes[this.masters[to]!]!.port, '', 0, 1000, 'REPLACE', 'KEYS', ...keys)
      await pause(rest / 4)
    }
    await pause(rest)
    // The one that gets it first: between the two, nobody must think that it is nobody's.
    for (const node of [this.masters[to]!, owner, ...this.masters]) await this.#client(node).cluster('SETSLOT', slot, 'NODE', ids[to]!)
  }

  /**
   * A master dies and its replica takes over after `outage` milliseconds; the dead one comes back as its replica.
   * `silence` keeps clients away from the master while the replica catches up, and returns the end of that.
   */
  async failover (master: number, outage: number, silence: () => () => void): Promise<void> {
    const pair = this.#pairs.find(pair => pair.master === master)
    if (pair === undefined) return
    await this.#inSync(pair.replica)
    const end = silence()
    try {
      // What was executed for anybody is at the replica when this write of ours is.
      await this.#writeSomething(master)
      if (await this.#client(master).wait(1, 2000) < 1) throw new Error('the replica is not in step')
      await this.nodes[master]!.kill()
    } finally {
      end()
    }
    await pause(outage)
    await this.#client(pair.replica).call('CLUSTER', 'FAILOVER', 'TAKEOVER')
    pair.master = pair.replica
    pair.replica = master
    await this.nodes[master]!.start()
    await this.#inSync(master)
  }

  /** Resolves when every node thinks that all is well. */
  async settled (): Promise<void> {
    for (const node of this.nodes.keys()) await this.#agrees(node)
  }

  async #writeSomething (master: number): Promise<void> {
    for (let i = 0; ; i++) {
      try {
        await this.#client(master).set(`torture-${i}`, '')
        return
      } catch (error) {
        if (!(error as Error).message.startsWith('MOVED')) throw error
      }
    }
  }

  async #ownerOf (slot: number): Promise<number> {
    const ranges = await this.#client(this.masters[0]!).cluster('SLOTS')
    const [, , master] = ranges.find(([first, last]) => first <= slot && slot <= last)!
    return this.nodes.findIndex(node => node.port === Number(master![1]))
  }

  async #findPairs (): Promise<void> {
    for (const [replica, client] of this.#clients.entries()) {
      const info = await client.info('replication')
      if (!info.includes('role:slave')) continue
      const port = Number(/master_port:(\d+)/.exec(info)![1])
      this.#pairs.push({ master: this.nodes.findIndex(node => node.port === port), replica })
    }
  }

  async #agrees (node: number): Promise<void> {
    await this.#says(node, 'CLUSTER INFO', /cluster_state:ok/)
  }

  async #inSync (replica: number): Promise<void> {
    await this.#says(replica, 'INFO replication', /role:slave[^]*master_link_status:up[^]*master_sync_in_progress:0/)
  }

  async #says (node: number, question: string, answer: RegExp): Promise<void> {
    const deadline = performance.now() + patience
    while (await ask(this.nodes[node]!.port, question, answer) === undefined) {
      if (performance.now() > deadline) throw new Error(`node ${node} does not say ${answer.source} after ${patience} ms`)
      await pause(20)
    }
  }

  #client (node: number): Redis {
    return this.#clients[node]!
  }
}
