import { setImmediate } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { isSystemTime, recentTime } from '../../lib/clock.js'

/** One whose event loop turns when the test says so: then its timer fires. */
async function clockOf (t: Test) {
  const clock = { now: 1000, turn: () => {} }
  const { restore } = t.intercept(Date, 'now', { value: () => clock.now })
  const setTimeout = (fire: () => void) => {
    clock.turn = fire
    return { unref () { return this }, refresh () { return this } }
  }
  const { recentTime } = await t.mockImport<{ recentTime: () => number }>('../../lib/clock.js', { 'node:timers': { setTimeout } })
  restore()
  return Object.assign(clock, { recentTime })
}

t.test('the time goes on with the event loop', async t => {
  for (let i = 0; i < 3; i++) {
    const first = recentTime()
    while (recentTime() === first) await setImmediate()
    t.ok(recentTime() > first)
  }
})

t.test('while the event loop stands still, the time that was read once is told 32 times', async t => {
  const clock = await clockOf(t)
  clock.turn()
  const times = Array.from({ length: 65 }, () => { clock.now++; return clock.recentTime() })
  t.strictSame(times, [...Array(32).fill(1001), ...Array(32).fill(1033), 1065])
})

t.test('when the event loop has turned, the time is read again', async t => {
  const clock = await clockOf(t)
  clock.turn()
  t.equal(clock.recentTime(), 1000)
  clock.now++
  t.equal(clock.recentTime(), 1000)
  clock.turn()
  t.equal(clock.recentTime(), 1001)
})

t.test('until the event loop has turned once, the time is read for everybody: a test may have stopped its timers', async t => {
  const clock = await clockOf(t)
  t.strictSame(Array.from({ length: 3 }, () => { clock.now++; return clock.recentTime() }), [1001, 1002, 1003])
})

t.test('a clock that somebody has put in its place is no system time', async t => {
  t.ok(isSystemTime(Date.now))
  t.notOk(isSystemTime(() => Date.now()))
  const fake = () => 0
  t.intercept(Date, 'now', { value: fake })
  t.notOk(isSystemTime(Date.now))
  const loadedThen = await t.mockImport<{ isSystemTime: typeof isSystemTime }>('../../lib/clock.js')
  t.notOk(loadedThen.isSystemTime(fake), 'nor one from before the library was loaded')
})
