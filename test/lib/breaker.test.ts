import t, { type Test } from 'tap'
import { Breaker, BreakerOpenError, HeldUpError } from '../../lib/breaker.js'
import { deferred, silentLogger } from '../helpers/doubles.js'

const refused = new Error('refused')
const fail = async () => { throw refused }
const leftAlone = { message: 'redis of region objects is left alone since it failed' }

/** A breaker, and the time that it sees. */
function breakerOf (t: Test, timeout = 10_000) {
  let time = 1000
  t.intercept(performance, 'now', { value: () => time })
  const logger = silentLogger()
  const breaker = new Breaker({ name: 'redis of region objects', timeout, logger })
  let asked = 0
  return {
    logger,
    breaker,
    advance: (ms: number) => { time += ms },
    asked: () => asked,
    /** Asks for something that fails. */
    failing: async () => await t.rejects(breaker.run(async () => { asked++; throw refused }), refused),
    /** Asks, and is refused without the tier being asked. */
    refusing: async () => {
      const before = asked
      await t.rejects(breaker.run(async () => { asked++ }), leftAlone)
      t.equal(asked, before)
    }
  }
}

t.test('an answer is passed on, and so is a failure', async t => {
  const { breaker, logger } = breakerOf(t)
  t.equal(await breaker.run(async () => 'it'), 'it')
  await t.rejects(breaker.run(fail), refused)
  await t.rejects(breaker.run(() => { throw refused }), refused, 'one that is thrown at once, too')
  t.strictSame(logger.lines, { debug: [], info: [], warn: [], error: [] })
})

t.test('silence past the timeout is a failure that names the tier', async t => {
  const { breaker, logger } = breakerOf(t, 1)
  for (let i = 0; i < 3; i++) await t.rejects(breaker.run(() => new Promise(() => {})), { message: 'redis of region objects did not answer within 1 ms' })
  await t.rejects(breaker.run(async () => 1), leftAlone)
  t.equal(logger.lines.warn.length, 1)
})

t.test('a tier that fails now and then is asked on', async t => {
  const { breaker, failing, logger } = breakerOf(t)
  for (let i = 0; i < 10; i++) {
    await failing()
    await failing()
    t.equal(await breaker.run(async () => i), i)
  }
  t.strictSame(logger.lines.warn, [])
})

t.test('after three failures in a row a tier is not asked, and the log says so once', async t => {
  const { failing, refusing, logger } = breakerOf(t)
  for (let i = 0; i < 3; i++) await failing()
  for (let i = 0; i < 10; i++) await refusing()
  t.strictSame(logger.lines.warn, [{ details: { tier: 'redis of region objects', err: refused }, message: 'a tier is away: it is left alone, and probed' }])
})

t.test('after a pause one operation probes it, and the others do not wait for that', async t => {
  const { breaker, failing, refusing, advance, logger } = breakerOf(t)
  for (let i = 0; i < 3; i++) await failing()
  advance(99)
  await refusing()
  advance(1)
  const answer = deferred<string>()
  const probe = breaker.run(() => answer.promise)
  await refusing()
  answer.resolve('back')
  t.equal(await probe, 'back')
  t.equal(await breaker.run(async () => 'again'), 'again')
  t.strictSame(logger.lines.info, [{ details: { tier: 'redis of region objects' }, message: 'a tier is back' }])
})

t.test('each probe that fails doubles the pause, up to two seconds', async t => {
  const { failing, refusing, advance, asked, logger } = breakerOf(t)
  for (let i = 0; i < 3; i++) await failing()
  for (const pause of [100, 200, 400, 800, 1600, 2000, 2000, 2000]) {
    advance(pause - 1)
    await refusing()
    advance(1)
    await failing()
  }
  t.equal(asked(), 3 + 8)
  t.equal(logger.lines.warn.length, 1)
})

t.test('once a tier was back, the pauses start over', async t => {
  const { breaker, failing, refusing, advance, logger } = breakerOf(t)
  for (const round of [1, 2]) {
    for (let i = 0; i < 3; i++) await failing()
    advance(99)
    await refusing()
    advance(1)
    await failing()
    advance(200)
    t.equal(await breaker.run(async () => round), round)
  }
  t.equal(logger.lines.warn.length, 2)
  t.equal(logger.lines.info.length, 2)
})

t.test('a hundred that fail together make no longer pause than three', async t => {
  const { breaker, refusing, advance } = breakerOf(t)
  const answer = deferred<never>()
  const together = Array.from({ length: 100 }, () => t.rejects(breaker.run(() => answer.promise), refused))
  answer.reject(refused)
  await Promise.all(together)
  await refusing()
  advance(100)
  t.equal(await breaker.run(async () => 'back'), 'back')
})

t.test('an answer that was under way when the tier was given up shows that it is there', async t => {
  const { breaker, failing, logger } = breakerOf(t)
  const answer = deferred<string>()
  const slow = breaker.run(() => answer.promise)
  for (let i = 0; i < 3; i++) await failing()
  answer.resolve('slow')
  t.equal(await slow, 'slow')
  t.equal(await breaker.run(async () => 'next'), 'next')
  t.equal(logger.lines.info.length, 1)
})

t.test('a probe that fails after the tier was heard of counts as one failure', async t => {
  const { breaker, failing, advance } = breakerOf(t)
  const slow = deferred<string>()
  const answer = breaker.run(() => slow.promise)
  for (let i = 0; i < 3; i++) await failing()
  advance(100)
  const probe = deferred<never>()
  const probing = t.rejects(breaker.run(() => probe.promise), refused)
  slow.resolve('it is there')
  await answer
  probe.reject(refused)
  await probing
  t.equal(await breaker.run(async () => 'next'), 'next')
})

t.test('a part that is left alone by itself tells nothing of the rest', async t => {
  const { breaker, failing, refusing, advance, logger } = breakerOf(t)
  const ofItsOwn = new BreakerOpenError('a server of it is left alone')
  const notTried = async () => { throw ofItsOwn }
  for (let i = 0; i < 10; i++) await t.rejects(breaker.run(notTried), ofItsOwn)
  t.equal(breaker.failing, true, 'the last operation failed all the same')
  t.equal(await breaker.run(async () => 'the rest'), 'the rest')
  t.equal(breaker.failing, false)

  for (let i = 0; i < 2; i++) await failing()
  await t.rejects(breaker.run(notTried), ofItsOwn)
  await failing()
  await refusing()
  advance(100)
  await t.rejects(breaker.run(notTried), ofItsOwn, 'a probe that was not tried')
  t.equal(await breaker.run(async () => 'the rest'), 'the rest', 'and the next one is')
  t.equal(logger.lines.warn.length, 1)
})

t.test('an operation that another one holds up tells nothing of the tier', async t => {
  const { breaker, failing, advance } = breakerOf(t)
  const heldUp = new HeldUpError('by an earlier one')
  const operation = async () => { throw heldUp }
  for (let i = 0; i < 10; i++) await t.rejects(breaker.run(operation), heldUp)
  t.equal(breaker.failing, false)
  t.equal(await breaker.run(async () => 'an answer'), 'an answer')
  for (let i = 0; i < 3; i++) await failing()
  advance(100)
  await t.rejects(breaker.run(operation), heldUp, 'a probe')
  t.equal(await breaker.run(async () => 'an answer'), 'an answer', 'the next one probes')
})

t.test('the largest timeout that it was given counts', async t => {
  const { breaker } = breakerOf(t, 1)
  for (const [milliseconds, largest] of [[3, 3], [2, 3], [4, 4]] as const) {
    breaker.raiseTimeout(milliseconds)
    await t.rejects(breaker.run(() => new Promise(() => {})), { message: `redis of region objects did not answer within ${largest} ms` })
    t.equal(await breaker.run(async () => largest), largest)
  }
})
