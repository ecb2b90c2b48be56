import { setImmediate } from 'node:timers/promises'
import t from 'tap'
import { isSystemTime, recentTime } from '../../lib/clock.js'

/** Without a turn of the event loop. */
function nextMillisecond () {
  const began = Date.now()
  while (Date.now() === began);
}

t.test('the time goes on with the event loop', async t => {
  for (let i = 0; i < 3; i++) {
    const first = recentTime()
    while (recentTime() === first) await setImmediate()
    t.ok(recentTime() > first)
  }
})

t.test('while the event loop stands still, it is kept for 32 reads', async t => {
  for (let i = 0; i < 3; i++) {
    const first = recentTime()
    nextMillisecond()
    let reads = 1
    while (recentTime() === first) reads++
    t.ok(reads <= 32, `${reads}`)
    t.ok(recentTime() > first)
  }
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

t.test('it is never ahead', async t => {
  for (let i = 0; i < 100; i++) t.ok(recentTime() <= Date.now())
})
