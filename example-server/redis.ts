import { once } from 'node:events'
import fastifyRedis from '@fastify/redis'
import type { FastifyInstance } from 'fastify'
import { Redis } from 'ioredis'

/** How long to wait for Redis before serving without it. Milliseconds. */
const patience = 2_000

/** Decorates the app with `redis`, whether it answers yet or not. */
export async function registerRedis (app: FastifyInstance, url: string): Promise<void> {
  const client = new Redis(url)
  logItsAbsence(app, client)
  // Not left to @fastify/redis: its quit() would wait for Redis to come back, behind whatever else does.
  // And not to quit() alone: a server that hangs would never answer it.
  app.addHook('onClose', () => client.disconnect())
  if (await isReady(client)) {
    await app.register(fastifyRedis, { client })
  } else {
    // @fastify/redis fails the whole start when it has to wait too long. The cache can do without Redis for a while, so
    // the example can too: the client goes on trying in the background.
    app.decorate('redis', client as FastifyInstance['redis'])
  }
}

async function isReady (client: Redis): Promise<boolean> {
  try {
    await once(client, 'ready', { signal: AbortSignal.timeout(patience) })
  } catch {
    // The first attempt's error lands here as well as the timeout.
  }
  return client.status === 'ready'
}

/** Two lines for each absence, rather than one for each attempt to connect. */
function logItsAbsence (app: FastifyInstance, client: Redis): void {
  let away = false
  client.on('error', error => {
    if (!away) app.log.warn({ err: error }, 'Redis is away')
    away = true
  })
  client.on('ready', () => {
    if (away) app.log.info('Redis is back')
    away = false
  })
}
