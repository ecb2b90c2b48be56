import { buildApp } from './app.js'
import { describeBackends } from './backends.js'
import { openDatabase } from './database.js'

const { DATABASE_URL, REDIS_URL, MEMCACHED_SERVERS, HOST = '127.0.0.1', PORT = '3000', LOG_LEVEL = 'info' } = process.env

/** The longest that a stop may take. Milliseconds. */
const patience = 10_000
/** Within this, a second signal is the first one again: Ctrl-C reaches us from the terminal and by way of npm. */
const echo = 1_000

let started = false
let stoppingSince: number | undefined
process.on('SIGTERM', onSignal)
process.on('SIGINT', onSignal)

const database = await openDatabase({ url: DATABASE_URL, report: line => console.log(line) })
const servers = { redisUrl: REDIS_URL, memcachedServers: MEMCACHED_SERVERS }
const app = await buildApp({ database, ...servers, logger: { level: LOG_LEVEL } })
started = true
try {
  const address = await app.listen({ host: HOST, port: Number(PORT) })
  const { tiers, visitors } = describeBackends(servers)
  console.log(`\ncities in ${database.name}, cached in ${tiers}; visitors in ${visitors}. Try:
  curl -i ${address}/cities/2988507                              a city, its country, and that country's capital
  curl -i '${address}/cities?ids=745044,2950159,3117735'         cities by id
  curl -i '${address}/countries/JP/largest?limit=5'              a country's largest cities
  curl -i '${address}/search?prefix=san'                         cities by the beginning of their name
  curl -i -X PATCH ${address}/cities/2988507 -H 'content-type: application/json' -d '{"population":2138552}'
  curl -i ${address}/cities/2988507 -H 'x-visitor: alice'        remembered for alice
  curl -i ${address}/visitors/me -H 'x-visitor: alice'           what she has seen
  curl -i ${address}/healthz\n`)
} catch (error) {
  app.log.fatal({ err: error }, `can't listen on ${HOST}:${PORT}`)
  process.exitCode = 1
  await stop()
}

async function onSignal (): Promise<void> {
  if (stoppingSince !== undefined) {
    if (performance.now() - stoppingSince > echo) process.exit(1)
    return
  }
  stoppingSince = performance.now()
  // Nothing is served yet: a half-done load is rolled back by PostgreSQL, and PGlite's memory goes with this process.
  if (!started) process.exit(0)
  setTimeout(() => process.exit(1), patience).unref()
  try {
    await stop()
    process.exit(0)
  } catch (error) {
    app.log.error({ err: error }, 'not stopped cleanly')
    process.exit(1)
  }
}

async function stop (): Promise<void> {
  await app.close()
  await database.close()
}
