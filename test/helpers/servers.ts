import { execFile } from 'node:child_process'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { promisify } from 'node:util'
import { Redis } from 'ioredis'
import { monitor } from './monitor.js'
import { findProgram } from './programs.js'
import { ask, freePort, ServerProcess, type Owner } from './server-process.js'

const run = promisify(execFile)

export interface Server {
  readonly host: string
  readonly port: number
  readonly url: string
  /** Asks it to end, and resolves when it has. */
  stop (): Promise<void>
  /** Ends it at once. */
  kill (): Promise<void>
  /** On the same port, after `stop()` or `kill()`. A Redis or a memcached comes back empty. */
  start (): Promise<void>
  /** `stop()`, then `start()`. */
  restart (): Promise<void>
}

export interface PausableServer extends Server {
  /** Still there, connections open, but silent, until `resume()`. */
  pause (): void
  resume (): void
}

export interface RedisServer extends PausableServer {
  /** From now on, what the server itself sees of its clients' commands. Ends with the test that started the server. */
  recordCommands (): Promise<CommandRecorder>
}

export interface CommandRecorder {
  /** The names, in lower case, of the commands that were executed so far; not those that a script called. */
  commands (): Promise<string[]>
  /** The same with their arguments: `['get', 'some-key']`. */
  calls (): Promise<string[][]>
  /** Forgets what was executed so far. */
  reset (): Promise<void>
}

export interface RedisCluster {
  /** The masters. */
  readonly nodes: readonly [RedisServer, RedisServer, RedisServer]
  /** Of any master, as redis-cli has shared them out. */
  readonly replicas: readonly RedisServer[]
  /** What a client connects to: `new Cluster(cluster.addresses)`. */
  readonly addresses: ReadonlyArray<{ host: string, port: number }>
}

export interface MemcachedServer extends PausableServer {
  /** `host:port`, as memcached clients want it. */
  readonly address: string
}

export interface StartOptions {
  /**
   * For a test that needs a server but no faults: `REDIS_URL`, `MEMCACHED_SERVERS` or `DATABASE_URL` is taken instead,
   * where it is set. Others may use that one at the same time.
   */
  shared?: boolean
}

export interface StartRedisOptions extends StartOptions {
  /** More of redis-server's own: `['--maxmemory', '2mb']`. */
  args?: readonly string[]
}

export interface StartRedisClusterOptions {
  /** One of them takes the place of its master when that is killed. Default 0. */
  replicasOfEach?: number
}

export interface StartMemcachedOptions extends StartOptions {
  /** More of memcached's own: `['-m', '2', '-M']`. */
  args?: readonly string[]
}

/** One Redis that keeps nothing on disk. */
export async function startRedis (t: Owner, { shared = false, args = [] }: StartRedisOptions = {}): Promise<RedisServer> {
  const given = shared ? process.env['REDIS_URL'] : undefined
  if (given !== undefined) return recordable(t, sharedServer(given, 6379))
  const server = await ServerProcess.launch(t, {
    program: await findProgram('redis-server'),
    args: port => ['--port', String(port), '--bind', '127.0.0.1', '--save', '', '--appendonly', 'no', ...args],
    isReady: async (port, pid) => (await ask(port, 'INFO server', /process_id:\d+/))?.includes(`process_id:${pid}\r\n`) ?? false
  })
  return recordable(t, serverAt(server, port => `redis://127.0.0.1:${port}`))
}

/** Three masters that have all slots between them. A node that is killed is missed by the others after a second. */
export async function startRedisCluster (t: Owner, { replicasOfEach = 0 }: StartRedisClusterOptions = {}): Promise<RedisCluster> {
  const cli = await findProgram('redis-cli')
  async function startNode (): Promise<RedisServer> {
    const args = ['--cluster-enabled', 'yes', '--cluster-config-file', 'nodes.conf', '--cluster-node-timeout', '1000', '--repl-diskless-sync-delay', '0']
    return await startRedis(t, { args: [...args, '--cluster-port', String(await freePort())] })
  }
  const nodes = await Promise.all([startNode(), startNode(), startNode()])
  const replicas = await Promise.all(Array.from({ length: 3 * replicasOfEach }, startNode))
  const addresses = nodes.map(({ host, port }) => ({ host, port }))

  const all = [...nodes, ...replicas].map(({ host, port }) => `${host}:${port}`)
  await run(cli, ['--cluster', 'create', ...all, '--cluster-replicas', String(replicasOfEach), '--cluster-yes'])
  // redis-cli returns when the nodes know of each other; each of them takes a moment more to trust the whole, and to hear
  // of the replicas.
  const withReplicas = new RegExp(`(?:slave [^]*){${replicas.length}}`)
  for (const { port } of [...nodes, ...replicas]) {
    while (await ask(port, 'CLUSTER INFO', /cluster_state:ok/) === undefined) await pause(10)
    while (await ask(port, 'CLUSTER NODES', withReplicas) === undefined) await pause(10)
  }
  for (const { port } of replicas) {
    while (await ask(port, 'INFO replication', /master_link_status:up/) === undefined) await pause(10)
  }
  return { nodes, replicas, addresses }
}

/** Watches over a master, by the name of `main`. One that is killed is replaced by its replica after some seconds. */
export async function startRedisSentinel (t: Owner, master: RedisServer): Promise<Server> {
  const settings = [`monitor main 127.0.0.1 ${master.port} 1`, 'down-after-milliseconds main 500', 'failover-timeout main 2000']
  const server = await ServerProcess.launch(t, {
    program: await findProgram('redis-server'),
    prepare: async folder => await writeFile(join(folder, 'sentinel.conf'), settings.map(setting => `sentinel ${setting}\n`)),
    args: (port, folder) => [join(folder, 'sentinel.conf'), '--sentinel', '--port', String(port), '--bind', '127.0.0.1'],
    isReady: async (port, pid) => (await ask(port, 'INFO server', /process_id:\d+/))?.includes(`process_id:${pid}\r\n`) ?? false
  })
  return serverAt(server, port => `redis://127.0.0.1:${port}`)
}

export async function startMemcached (t: Owner, { shared = false, args = [] }: StartMemcachedOptions = {}): Promise<MemcachedServer> {
  const given = shared ? process.env['MEMCACHED_SERVERS'] : undefined
  if (given !== undefined) {
    const server = sharedServer(`memcached://${given.split(',', 1)[0]}`, 11211)
    return { ...server, address: `${server.host}:${server.port}` }
  }
  const server = await ServerProcess.launch(t, {
    program: await findProgram('memcached'),
    notAsRoot: true,
    args: port => ['-l', '127.0.0.1', '-p', String(port), '-U', '0', ...args],
    isReady: async (port, pid) => (await ask(port, 'stats', /STAT pid \d+/))?.includes(`STAT pid ${pid}\r\n`) ?? false
  })
  return { ...serverAt(server, port => `memcached://127.0.0.1:${port}`), address: `127.0.0.1:${server.port}` }
}

/** An empty PostgreSQL. It takes seconds to make one: share it within a test file. */
export async function startPostgres (t: Owner, { shared = false }: StartOptions = {}): Promise<Server> {
  const given = shared ? process.env['DATABASE_URL'] : undefined
  if (given !== undefined) return sharedServer(given, 5432)

  const initdb = await findProgram('initdb')
  const server = await ServerProcess.launch(t, {
    program: await findProgram('postgres'),
    notAsRoot: true,
    prepare: async (folder, identity) => {
      await run(initdb, ['-D', join(folder, 'data'), '-A', 'trust', '-U', 'postgres', '-E', 'UTF8', '--no-locale', '--no-sync'],
        { cwd: folder, ...identity })
    },
    args: (port, folder) => ['-D', join(folder, 'data'), '-p', String(port), '-k', folder, '-h', '127.0.0.1', '-F'],
    isReady: async (port, pid, folder) => {
      // What `pg_ctl --wait` looks at: the first line is the process, the last one says whether it takes connections.
      const lines = (await readFile(join(folder, 'data', 'postmaster.pid'), 'utf8').catch(() => '')).trim().split('\n')
      return Number(lines[0]) === pid && lines.at(-1)?.trim() === 'ready'
    },
    // After SIGKILL its own children would hold on to the data for a while; this ends them too, as a crash does.
    killSignal: 'SIGQUIT'
  })
  const { pause: _, resume: __, ...rest } = serverAt(server, port => `postgres://postgres@127.0.0.1:${port}/postgres`)
  return rest
}

function serverAt (server: ServerProcess, urlOf: (port: number) => string): PausableServer {
  return {
    host: '127.0.0.1',
    port: server.port,
    url: urlOf(server.port),
    stop: async () => await server.stop(),
    kill: async () => await server.kill(),
    start: async () => await server.start(),
    restart: async () => await server.restart(),
    pause: () => server.pause(),
    resume: () => server.resume()
  }
}

function sharedServer (url: string, defaultPort: number): PausableServer {
  const { hostname, port } = new URL(url)
  const notOurs = (): never => { throw new Error(`${url} is shared: a test with faults starts a server of its own`) }
  const refused = async (): Promise<never> => notOurs()
  return {
    host: hostname,
    port: Number(port || defaultPort),
    url,
    stop: refused,
    kill: refused,
    start: refused,
    restart: refused,
    pause: notOurs,
    resume: notOurs
  }
}

function recordable (t: Owner, server: PausableServer): RedisServer {
  return { ...server, recordCommands: async () => await recordCommands(t, server.url) }
}

async function recordCommands (t: Owner, url: string): Promise<CommandRecorder> {
  let seen: string[][] = []
  let marks = 0
  const mark = `recorder-${process.pid}-${Math.random()}`
  const heard = new Map<string, () => void>()
  const client = new Redis(url, { retryStrategy: () => null })
  client.on('error', () => {})
  t.teardown(() => client.disconnect())
  await client.ping() // what it says when it connects is nobody's that is recorded
  await monitor(t, url, ([name = '', ...args]) => {
    const [argument = ''] = args
    if (argument.startsWith(mark)) heard.get(argument)?.()
    else seen.push([name.toLowerCase(), ...args])
  })

  // The server tells in the order in which it executes: when it tells of our mark, it has told of all before it.
  async function caughtUp (): Promise<void> {
    const own = `${mark}-${marks++}`
    const arrived = new Promise<void>(resolve => heard.set(own, resolve))
    await client.echo(own)
    await arrived
    heard.delete(own)
  }

  return {
    commands: async () => {
      await caughtUp()
      return seen.map(([name = '']) => name)
    },
    calls: async () => {
      await caughtUp()
      return [...seen]
    },
    reset: async () => {
      await caughtUp()
      seen = []
    }
  }
}
