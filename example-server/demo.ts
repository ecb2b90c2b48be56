import { randomBytes, randomUUID } from 'node:crypto'
import type { FastifyInstance } from 'fastify'
import { buildApp } from './app.js'
import { describeBackends } from './backends.js'
import { addCacheHeader } from './cache-header.js'
import { City } from './cached-objects.js'
import { openDatabase } from './database.js'
import { send, type Answer, type Sent } from './demo-client.js'
import { DemoTable, type Expected } from './demo-table.js'
import { schema } from './rows.js'

const { DATABASE_URL, REDIS_URL, MEMCACHED_SERVERS } = process.env
const backends = { redisUrl: REDIS_URL, memcachedServers: MEMCACHED_SERVERS }
const prefix = 'montp'

const started = performance.now()
const table = new DemoTable()
// A signal doesn't end the demo at once: the update is taken back first. No request takes longer than ten seconds.
let interrupted = false
process.on('SIGINT', () => { interrupted = true })
process.on('SIGTERM', () => { interrupted = true })

const database = await openDatabase({ url: DATABASE_URL, report: line => console.log(line) })
// Nobody has seen this namespace before, so every row is cold, whatever Redis and memcached remember of earlier runs.
const namespace = `caching-api-demo-${randomBytes(8).toString('hex')}`
const visitor = `demo-${randomUUID()}`
const servers: FastifyInstance[] = []
let queries = 0
// The pool checks a connection out for each query: counted here, the servers' own counts are not taken on trust.
database.pool().on('acquire', () => { queries++ })
try {
  const one = await startServer()
  // A memory of its own and the same Redis: what a second process is. With memcached alone there must be only one, since
  // nothing tells the other's memory what has changed.
  const two = REDIS_URL === undefined ? one : await startServer()
  const { tiers, visitors } = describeBackends(backends)
  console.log(`\n${servers.length} server${servers.length > 1 ? 's' : ''}, ${tiers} in front of ${database.name}; visitors in ${visitors}\n`)
  await runDemo(one, two)
} catch (error) {
  table.faults.push(`ended early: ${error instanceof Error ? error.message : error}`)
} finally {
  await forgetAll()
  await Promise.all(servers.map(server => server.close()))
  await database.close()
}

const seconds = ((performance.now() - started) / 1_000).toFixed(1)
if (table.faults.length === 0) {
  console.log(`\nAll counts of ${table.rows} rows are what they must be, after ${seconds} s.`)
} else {
  console.error(`\n${table.faults.length} of the counts in ${table.rows} rows are off, after ${seconds} s:\n  ${table.faults.join('\n  ')}`)
  process.exitCode = 1
}

async function runDemo (first: string, second: string): Promise<void> {
  let [one, two] = [first, second]
  const ids = await someCities(102)
  const [city, rushed, ...hundred] = ids as [number, number, ...number[]]
  const loadedIds = new Set(ids)
  table.head()

  // The city, its country and the country's capital.
  const [cold] = await step('cold', { local: 0, memory: 0, redis: 0, loaded: 3, loads: 3 },
    `${one}/cities/${city}`)
  await step('read twice in the same request', { local: 1, memory: 1, loaded: 0, loads: 0 },
    `${one}/twice/${city}`)
  await step('in another request', { memory: 3, loaded: 0, loads: 0 },
    `${one}/cities/${city}`)
  if (one !== two) {
    await step('at the other server', { memory: 0, redis: 3, loaded: 0, loads: 0 },
      `${two}/cities/${city}`)
  }
  // What was loaded as the capital of FR is kept under its own id as well.
  const capital: number = cold.body.country.capital.id
  loadedIds.add(capital)
  await step('the capital of the one above', { memory: 3, loaded: 0, loads: 0 },
    `${one}/cities/${capital}`)

  // A new visitor, who then sees the city, the capital, and the city again.
  await step('a visitor without an id gets one', { loaded: 0, loads: 0, body: answers => hasSeen([], 0)(answers) ?? isNew(answers) },
    `${one}/visitors/me`)
  await step('a visitor sees it', { memory: 3, loaded: 0, loads: 0 },
    `${one}/cities/${city}`, { visitor })
  await step('and the capital', { memory: 3, loaded: 0, loads: 0 },
    `${one}/cities/${capital}`, { visitor })
  await step('and the first one again', { memory: 3, loaded: 0, loads: 0 },
    `${one}/cities/${city}`, { visitor })
  await step('what the visitor has seen', { memory: 2, loaded: 0, loads: 0, body: hasSeen([city, capital], 1) },
    `${one}/visitors/me`, { visitor })
  if (one !== two) {
    await step('at the other server', { memory: 1, redis: 1, loaded: 0, loads: 0, body: hasSeen([city, capital], 1) },
      `${two}/visitors/me`, { visitor })
  }
  await step('not the id of a visitor', { status: 400, loaded: 0, loads: 0 },
    `${one}/visitors/me`, { visitor: 'a b' })

  await step('50 ids, cold', { memory: 0, loaded: 50, loads: 1 },
    `${one}/cities?ids=${hundred.slice(0, 50)}`)
  await step('100 ids, half of them cached', { memory: 50, loaded: 50, loads: 1, body: inOrder(hundred) },
    `${one}/cities?ids=${hundred}`)
  const crowd = Array.from({ length: 200 }, (_, number) => `${number % 2 === 0 ? one : two}/cities/${rushed}`)
  await openConnections(crowd)
  await step(`200 at once, cold${one === two ? '' : ', at both servers'}`, { loaded: 1, loads: 1, body: allTheSame },
    crowd)

  const [largest] = await step('the 10 largest, cold', answers => newList(answers, loadedIds, 1),
    `${one}/countries/FR/largest`)
  for (const { id } of largest.body) loadedIds.add(id)
  await step('the 10 largest, warm', { memory: 12, loaded: 0, loads: 0 },
    `${one}/countries/FR/largest`)
  const [found] = await step('by prefix, cold', answers => newList(answers, loadedIds, 0),
    `${one}/search?prefix=${prefix}`)
  await step('by prefix, warm', { memory: 1 + found.body.length, loaded: 0, loads: 0 },
    `${one}/search?prefix=${prefix.toUpperCase()}`)

  await step('nobody has this id', { status: 404, loads: 1 },
    `${one}/cities/1`)
  await step('that is remembered', { status: 404, loaded: 0, loads: 0 },
    `${one}/cities/1`)
  await step('not an id', { status: 400, loaded: 0, loads: 0 },
    `${one}/cities/2147483648`)

  if (REDIS_URL === undefined && MEMCACHED_SERVERS !== undefined) {
    one = two = await restartServer()
    await step('after a restart', { memory: 0, memcached: 3, loaded: 0, loads: 0 },
      `${one}/cities/${city}`)
    await step('the 10 largest, after it', { memory: 1, memcached: 11, loaded: 0, loads: 0 },
      `${one}/countries/FR/largest`)
    await step('the visitor, after it', { memory: 2, loaded: 0, loads: 0, body: hasSeen([city, capital], 1) },
      `${one}/visitors/me`, { visitor })
  }

  const population: number = cold.body.population
  try {
    await step('an update', { loaded: 0, loads: 0, queries: 1, body: hasPopulation(population + 1) },
      `${one}/cities/${city}`, { body: { population: population + 1 } })
    // The city is loaded anew; its country and capital are where they were.
    await step(`read after it${one === two ? '' : ', at the other server'}`, { memory: 2, loaded: 1, loads: 1, body: hasPopulation(population + 1) },
      `${two}/cities/${city}`)
    if (one !== two) {
      await step('and where it was updated', { memory: 2, redis: 1, loaded: 0, loads: 0, body: hasPopulation(population + 1) },
        `${one}/cities/${city}`)
    }
    // So are the ids of the list; its rows are where they were.
    await step('the 10 largest after it', { memory: 11, loaded: 1, loads: 1 },
      `${one}/countries/FR/largest`)
  } finally {
    interrupted = false
    await step('the update taken back', { loaded: 0, loads: 0, queries: 1, body: hasPopulation(population) },
      `${one}/cities/${city}`, { body: { population } })
  }
}

/** Sends the requests at once and prints them as one row. */
async function step (title: string, expected: Expected | ((answers: readonly Answer[]) => Expected), urls: string | readonly string[], sent?: Sent): Promise<[Answer, ...Answer[]]> {
  if (interrupted) throw new Error('interrupted')
  const all = [urls].flat()
  const queriesBefore = queries
  const start = performance.now()
  const answers = await Promise.all(all.map(url => send(url, sent))) as [Answer, ...Answer[]]
  const ms = performance.now() - start
  const { pathname, search } = new URL(all[0] ?? '')
  table.row(
    { request: `${sent?.body === undefined ? 'GET' : 'PATCH'} ${pathname}${search}`, title, answers, queries: queries - queriesBefore, ms },
    typeof expected === 'function' ? expected(answers) : expected
  )
  // Values go into the tiers off the caller's path; the next row is about what comes after that.
  await Promise.all(servers.map(server => server.cachingManager.idle()))
  return answers
}

async function startServer (): Promise<string> {
  const app = await buildApp({ database, ...backends, namespace, logger: { level: 'warn' } })
  servers.push(app)
  await app.register(async scope => {
    addCacheHeader(scope)
    scope.get<{ Params: { id: string } }>('/twice/:id', async request => {
      const id = Number(request.params.id)
      const first = await request.cachingApi.get(City, 'getById', [id])
      const second = await request.cachingApi.get(City, 'getById', [id])
      return { same: first === second }
    })
  })
  return app.listen({ host: '127.0.0.1', port: 0 })
}

/** In place of one that is closed. Its memory begins empty. */
async function restartServer (): Promise<string> {
  await servers.pop()?.close()
  return await startServer()
}

/** Nothing of the demo stays in Redis. memcached doesn't tell its keys: but for the visitor, all there goes by its ttl. */
async function forgetAll (): Promise<void> {
  const [server] = servers
  if (server === undefined) return
  await new server.Visitor(visitor).deleteAll().catch(() => {})
  const redis = REDIS_URL === undefined ? undefined : server.redis
  if (redis?.status !== 'ready') return
  for await (const keys of redis.scanStream({ match: `*${namespace}*`, count: 1_000 })) {
    if (keys.length > 0) await redis.unlink(keys)
  }
}

/** Kept open for what comes next: otherwise the first of many requests is answered before the last has a connection. */
async function openConnections (urls: readonly string[]): Promise<void> {
  await Promise.all(urls.map(url => send(new URL('/', url).href)))
}

/** Small ones, which no row of the demo loads in passing; and others each time, as two demos may share one database. */
async function someCities (count: number): Promise<number[]> {
  const { rows } = await database.pool().query<{ id: number }>(
    `select id from ${schema}.cities
     where country_code = 'FR' and population < 50000 and search_name not like $1 order by random() limit $2`, [`${prefix}%`, count]
  )
  return rows.map(row => row.id)
}

/** The ids are loaded, and those of the rows that nothing has loaded before. */
function newList ([answer]: readonly Answer[], loadedIds: ReadonlySet<number>, cachedBesides: number): Expected {
  const cities: { id: number }[] = answer?.body ?? []
  const unseen = cities.filter(({ id }) => !loadedIds.has(id)).length
  return { memory: cachedBesides + cities.length - unseen, loaded: 1 + unseen, loads: unseen > 0 ? 2 : 1 }
}

function inOrder (ids: readonly number[]): NonNullable<Expected['body']> {
  return ([answer]) => answer?.body.map((city: { id: number } | null) => city?.id).join() === ids.join() ? undefined : 'the cities must come in the order of the ids'
}

function hasSeen (ids: readonly number[], visits: number): NonNullable<Expected['body']> {
  return ([answer]) => {
    const seen = answer?.body.cities?.map((city: { id: number }) => city.id).join()
    if (seen !== ids.join()) return `the visitor must have seen ${ids.join() || 'nothing'}, saw ${seen}`
    return answer?.body.visits === visits ? undefined : `visits must be ${visits}, were ${answer?.body.visits}`
  }
}

function isNew ([answer]: readonly Answer[]): string | undefined {
  return answer?.visitor ? undefined : 'a new visitor must be told their id'
}

function allTheSame (answers: readonly Answer[]): string | undefined {
  const bodies = new Set(answers.map(answer => JSON.stringify(answer.body)))
  return bodies.size === 1 ? undefined : `all must get the same answer, there were ${bodies.size}`
}

function hasPopulation (population: number): NonNullable<Expected['body']> {
  return ([answer]) => answer?.body.population === population ? undefined : `population must be ${population}, was ${answer?.body.population}`
}
