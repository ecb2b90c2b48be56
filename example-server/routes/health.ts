import type { FastifyInstance } from 'fastify'

const patience = 1_000

/** 503 when the database is away. Without Redis everything still works, only slower: that is `degraded`. */
export async function healthRoute (app: FastifyInstance): Promise<void> {
  app.get('/healthz', async (_request, reply) => {
    const [database, redis] = await Promise.all([
      answers(app.database.pool().query('select 1')),
      app.hasDecorator('redis') ? answers(app.redis.ping()) : undefined,
    ])
    const status = !database ? 'down' : redis === false ? 'degraded' : 'ok'
    reply.code(database ? 200 : 503)
    return { status, database: word(database), ...(redis !== undefined && { redis: word(redis) }) }
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
