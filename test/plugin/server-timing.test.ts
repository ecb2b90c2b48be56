import Fastify, { type FastifyReply } from 'fastify'
import t, { type Test } from 'tap'
import { addServerTiming } from '../../plugin/server-timing.js'

async function sentBy (t: Test, act: (reply: FastifyReply) => void): Promise<unknown> {
  const app = Fastify()
  t.teardown(() => app.close())
  app.get('/', async (_request, reply) => { act(reply); return 'sent' })
  return (await app.inject('/')).headers['server-timing']
}

t.test('metrics go into the header', async t => {
  t.equal(await sentBy(t, reply => addServerTiming(reply, 'cache;dur=1')), 'cache;dur=1')
})

t.test('they come after those of others, of one header or several', async t => {
  t.equal(await sentBy(t, reply => { void reply.header('server-timing', 'db;dur=5'); addServerTiming(reply, 'cache;dur=1') }), 'db;dur=5, cache;dur=1')
  t.equal(await sentBy(t, reply => { void reply.header('server-timing', ['db;dur=5', 'auth;dur=2']); addServerTiming(reply, 'cache;dur=1') }), 'db;dur=5, auth;dur=2, cache;dur=1')
})

t.test('when the reply is sent again they take the place of the earlier ones, wherever others have added', async t => {
  const again = (before: string | undefined, after: string) => sentBy(t, reply => {
    if (before !== undefined) void reply.header('server-timing', before)
    addServerTiming(reply, 'cache;dur=1')
    void reply.header('server-timing', String(reply.getHeader('server-timing')) + after)
    addServerTiming(reply, 'cache;dur=2')
  })
  t.equal(await again(undefined, ''), 'cache;dur=2')
  t.equal(await again('db;dur=5', ''), 'db;dur=5, cache;dur=2')
  t.equal(await again(undefined, ', late'), 'late, cache;dur=2')
  t.equal(await again('db;dur=5', ', late'), 'db;dur=5, late, cache;dur=2')
})
