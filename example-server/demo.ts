import { randomUUID } from 'node:crypto'
import type { FastifyInstance } from 'fastify'
import { buildApp } from './app.js'
import { addCacheHeader } from './cache-header.js'
import { City } from './cached-objects.js'
import { openDatabase } from './database.js'
import { send, type Answer } from './demo-client.js'
import { DemoTable, type Expected } from './demo-table.js'
import { schema } from './rows.js'

const { DATABASE_URL, REDIS_URL } = process.env
const prefix = 'montp'

const started = performance.now()
const table = new DemoTable()
// Heard, not obeyed at once: the update is taken back before the end. No request takes longer than ten seconds.
let interrupted = false
process.on('SIGINT', () => { interrupted = true })
process.on('SIGTERM', () => { interrupted = true })

const database = await openDatabase({ url: DATABASE_URL, report: line => console.log(line) })
// Nobody has seen this namespace before, so every row is cold, whatever Redis remembers of earlier runs.
const namespace = `caching-api-demo-${randomUUID()}`
const servers: FastifyInstance[] = []
let queries = 0
try {
  const one = await startServer()
  // A memory of its own and the same Redis: what a second process is.
  const two = REDIS_URL === undefined ? one : await startServer()
  console.log(`\n${servers.length} server${servers.length > 1 ? 's' : ''}, memory${REDIS_URL === undefined ? '' : ' and Redis'} in front of ${database.name}\n`)
  await runDemo(one, two)
} catch (error) {
  table.faults.push(`ended early: ${error instanceof Error ? error.message : error}`)
} finally {
  await emptyRedis()
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

async function runDemo (one: string, two: string): Promise<void> {
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

  const population: number = cold.body.population
  try {
    await step('an update', { loaded: 0, loads: 0, queries: 1, body: hasPopulation(population + 1) },
      `${one}/cities/${city}`, { population: population + 1 })
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
      `${one}/cities/${city}`, { population })
  }
}

/** Sends the requests at once and prints them as one row. */
async function step (title: string, expected: Expected | ((answers: readonly Answer[]) => Expected), urls: string | readonly string[], body?: object): Promise<[Answer, ...Answer[]]> {
  if (interrupted) throw new Error('interrupted')
  const all = [urls].flat()
  const queriesBefore = queries
  const start = performance.now()
  const answers = await Promise.all(all.map(url => send(url, body))) as [Answer, ...Answer[]]
  const ms = performance.now() - start
  const { pathname, search } = new URL(all[0] ?? '')
  table.row(
    { request: `${body === undefined ? 'GET' : 'PATCH'} ${pathname}${search}`, title, answers, queries: queries - queriesBefore, ms },
    typeof expected === 'function' ? expected(answers) : expected
  )
  // Values go into the tiers off the caller's path; the next row is about what comes after that.
  await Promise.all(servers.map(server => server.cachingManager.idle()))
  return answers
}

async function startServer (): Promise<string> {
  const app = await buildApp({ database, redisUrl: REDIS_URL, namespace, logger: { level: 'warn' } })
  servers.push(app)
  if (servers.length === 1) {
    // The pool checks a connection out for each query: counted here, the servers' own counts are not taken on trust.
    database.pool().on('acquire', () => { queries++ })
  }
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

/** Nothing of the demo stays in Redis. */
async function emptyRedis (): Promise<void> {
  const redis = REDIS_URL === undefined ? undefined : servers[0]?.redis
  if (redis?.status !== 'ready') return
  for await (const keys of redis.scanStream({ match: `*${namespace}*`, count: 1_000 })) {
    if (keys.length > 0) await redis.unlink(keys)
  }
}

/** Kept open for what comes next: otherwise the first of many requests is answered before the last has a connection. */
async function openConnections (urls: readonly string[]): Promise<void> {
  await Promise.all(urls.map(url => send(new URL('/', url).href)))
}

/** Small ones, which no row of the demo loads by the way; and others each time, as two demos may share one database. */
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

function allTheSame (answers: readonly Answer[]): string | undefined {
  const bodies = new Set(answers.map(answer => JSON.stringify(answer.body)))
  return bodies.size === 1 ? undefined : `all must get the same answer, there were ${bodies.size}`
}

function hasPopulation (population: number): NonNullable<Expected['body']> {
  return ([answer]) => answer?.body.population === population ? undefined : `population must be ${population}, was ${answer?.body.population}`
}
