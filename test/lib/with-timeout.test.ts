import { execFileSync } from 'node:child_process'
import { Redis } from 'ioredis'
import t from 'tap'
import { withTimeout } from '../../lib/with-timeout.js'
import { deferred } from '../helpers/doubles.js'
import { findProgram } from '../helpers/programs.js'
import { startRedis } from '../helpers/servers.js'

t.test('an answer in time is the answer', async t => {
  t.equal(await withTimeout(10_000, Promise.resolve('it'), 'the tier'), 'it')
})

t.test('a failure in time is that very failure', async t => {
  const error = new Error('refused')
  await t.rejects(withTimeout(10_000, Promise.reject(error), 'the tier').catch(reason => { t.equal(reason, error); throw reason }), error)
})

t.test('silence past the timeout is an error that names who was silent', async t => {
  await t.rejects(withTimeout(1, new Promise(() => {}), 'the tier'), { message: 'the tier did not answer within 1 ms' })
})

t.test('an answer that came while the process was busy has come in time', async t => {
  const { port } = await startRedis(t)
  const client = new Redis(port)
  t.teardown(() => client.disconnect())
  await client.ping()
  const cli = await findProgram('redis-cli')
  const answer = withTimeout(1, client.ping(), 'Redis')
  execFileSync(cli, ['-p', String(port), 'ping']) // the event loop stands still, and Redis has answered both
  t.equal(await answer, 'PONG')
})

t.test('what comes too late changes nothing, a failure neither', async t => {
  const unhandled: unknown[] = []
  const listener = (reason: unknown) => { unhandled.push(reason) }
  process.on('unhandledRejection', listener)
  t.teardown(() => process.off('unhandledRejection', listener))
  const late = deferred<string>()
  const failed = deferred<string>()
  await t.rejects(withTimeout(1, late.promise, 'a'))
  await t.rejects(withTimeout(1, failed.promise, 'b'))
  late.resolve('late')
  failed.reject(new Error('late'))
  await new Promise(setImmediate)
  t.strictSame(unhandled, [])
})

t.test('whoever has answered keeps no process alive', async t => {
  const timers = () => process.getActiveResourcesInfo().filter(name => name === 'Timeout').length
  const before = timers()
  await withTimeout(60_000, Promise.resolve(), 'a')
  await withTimeout(60_000, Promise.reject(new Error('no')), 'b').catch(() => {})
  t.equal(timers(), before)
})
