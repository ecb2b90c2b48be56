import { execFile } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import t, { type Test } from 'tap'
import { dyingWithUs, freePort } from '../helpers/server-process.js'
import { startMemcached, startPostgres, startRedis } from '../helpers/servers.js'

const run = promisify(execFile)
const root = fileURLToPath(new URL('../..', import.meta.url))

const [postgres, redis, mc1, mc2] = await Promise.all([startPostgres(t), startRedis(t), startMemcached(t), startMemcached(t)])
const REDIS_URL = redis.url
const MEMCACHED_SERVERS = `${mc1.address}, ${mc2.address}`

t.test('the demo finds every count right', async t => {
  const all: [NodeJS.ProcessEnv, string][] = [
    [{}, '1 server, memory in front of PostgreSQL; visitors in memory'],
    [{ REDIS_URL }, '2 servers, memory and Redis in front of PostgreSQL; visitors in Redis'],
    [{ MEMCACHED_SERVERS }, '1 server, memory and memcached in front of PostgreSQL; visitors in memcached'],
    [{ REDIS_URL, MEMCACHED_SERVERS }, '2 servers, memory and Redis in front of PostgreSQL; visitors in Redis and memcached']
  ]
  for (const [env, where] of all) {
    const [program, args, options] = await example('demo.ts', env)
    const { stdout, stderr } = await run(program, args, options)
    t.equal(stderr, '')
    t.match(stdout, `\n${where}\n`)
    t.match(stdout, /\nAll counts of \d+ rows are what they must be/)
  }
})

t.test('without its memcached the example starts, shows cities and stops', async t => {
  const { address, stop } = await startServer(t, { MEMCACHED_SERVERS: `127.0.0.1:${await freePort()}` })
  const [city, visitor, health] = await Promise.all(['/cities/2988507', '/visitors/me', '/healthz'].map(async path =>
    await fetch(address + path, { headers: { 'x-visitor': 'alice' } })))
  t.equal(city?.status, 200)
  t.match(await city?.json(), { name: 'Paris', country: { name: 'France' } })
  t.equal(visitor?.status, 503)
  t.match(await visitor?.json(), { code: 'FST_CACHING_API_BACKEND_FAILED' })
  t.match(await health?.json(), { status: 'degraded', database: 'up', memcached: 'down' })
  t.equal(await stop(), 0)
})

t.test('with Redis, a memcached that is away costs the visitor only the count', async t => {
  const { address, stop } = await startServer(t, { REDIS_URL, MEMCACHED_SERVERS: `127.0.0.1:${await freePort()}` })
  const headers = { 'x-visitor': 'bob' }
  // Eleven and the first one again, of which ten are kept.
  const response = await fetch(`${address}/countries/FR/largest?limit=11`)
  const ids = (await response.json() as { id: number }[]).map(city => city.id)
  for (const id of [...ids, ids[0]]) t.equal((await fetch(`${address}/cities/${id}`, { headers })).status, 200)
  const me = await (await fetch(`${address}/visitors/me`, { headers })).json() as { cities: { id: number }[] }
  t.match(me, { visits: null, lastSeen: String })
  t.strictSame(me.cities.map(city => city.id), [ids[0], ...ids.slice(2).reverse()])
  t.equal(await stop(), 0)
})

t.test('a name that is no address of a memcached is refused at once', async t => {
  const [program, args, options] = await example('main.ts', { MEMCACHED_SERVERS: 'localhost' })
  await t.rejects(run(program, args, options), { code: 1, stderr: "MEMCACHED_SERVERS must be host:port, or several with commas between them, got 'localhost'" })
})

interface Running {
  address: string
  /** Asks it to end, and resolves to its exit code. */
  stop (): Promise<number | null>
}

async function startServer (t: Test, env: NodeJS.ProcessEnv): Promise<Running> {
  const port = String(await freePort())
  const [program, args, options] = await example('main.ts', { ...env, PORT: port, LOG_LEVEL: 'silent' })
  const child = execFile(program, args, options)
  const ended = once(child, 'exit')
  t.teardown(() => child.kill('SIGKILL'))
  await new Promise<void>((resolve, reject) => {
    let output = ''
    const listen = (chunk: string): void => {
      output += chunk
      if (output.includes('/healthz\n')) resolve()
    }
    child.stdout?.on('data', listen)
    child.stderr?.on('data', listen)
    child.once('exit', () => reject(new Error(`it ended while starting:\n${output}`)))
  })
  return {
    address: `http://127.0.0.1:${port}`,
    async stop () {
      child.kill('SIGTERM')
      return (await ended)[0] as number | null
    }
  }
}

/** Only with the servers that are named here. */
async function example (file: string, servers: NodeJS.ProcessEnv): Promise<[program: string, args: string[], options: { cwd: string, env: NodeJS.ProcessEnv }]> {
  const [program, ...args] = await dyingWithUs([process.execPath, '--import', 'tsx', `example-server/${file}`])
  const { REDIS_URL: _, MEMCACHED_SERVERS: __, HOST: ___, ...env } = process.env
  return [program, args, { cwd: root, env: { ...env, DATABASE_URL: postgres.url, _TAPJS_PROCESSINFO_COVERAGE_: '0', ...servers } }]
}
