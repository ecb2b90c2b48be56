import type { FastifyInstance } from 'fastify'

const patience = 1_000

/** 503 when the database is away. Without Redis or memcached there are still all the cities: that is `degraded`. */
export async function healthRoute (app: FastifyInstance): Promise<void> {
  app.get('/healthz', async (_request, reply) => {
    const [database, redis, memcached] = await Promise.all([
      answers(app.database.pool().query('select 1')),
      app.hasDecorator('redis') ? answers(app.redis.ping()) : undefined,
      app.hasDecorator('memcached') ? answers(Promise.all(app.memcached.map(async client => await client.version()))) : undefined,
    ])
    const status = !database ? 'down' : redis === false || memcached === false ? 'degraded' : 'ok'
    reply.code(database ? 200 : 503)
    return { status, database: word(database), ...(redis !== undefined && { redis: word(redis) }), ...(memcached !== undefined && { memcached: word(memcached) }) }
  })
}

async function answers (question: Promise<unknown>): Promise<boolean> {
  let timer: NodeJS.Timeout | undefined
  const silence = new Promise<false>(resolve => {
    timer = setTimeout(resolve, patience, false)
  })
  try {
    return await Promise.race([question.then(() => true, () => false), silence])
  } finally {
    clearTimeout(timer)
  }
}

function word (up: boolean): 'up' | 'down' {
  return up ? 'up' : 'down'
}
