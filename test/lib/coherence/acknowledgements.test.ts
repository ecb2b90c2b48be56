import t, { type Test } from 'tap'
import { Acknowledgements } from '../../../lib/coherence/acknowledgements.js'
import { deferred } from '../../helpers/doubles.js'
import { LineHub, simulateTime } from '../../helpers/line-hub.js'

/** What a timer waits for a lease of 100 ms to be over, wherever it is. */
const over = 103

/** Those of a process that knows everybody, in a time that passes when the test says so. */
async function acknowledgementsIn (t: Test, { lease = 100, allKnown = true } = {}) {
  simulateTime(t)
  const hub = new LineHub()
  const process = hub.join()
  const line = { doubted: [] as string[], doubt: async (): Promise<void> => {} }
  const its = process.run(() => new Acknowledgements(lease, async member => {
    line.doubted.push(member)
    await line.doubt()
  }))
  if (allKnown) {
    process.run(() => its.asked())
    await hub.pass(over)
  }
  return {
    ...line,
    line,
    pass: async (ms: number) => await hub.pass(ms),
    /** Runs with the time of the process. */
    now: (what: (its: Acknowledgements) => void) => process.run(() => what(its)),
    /** A push, and whether nobody believes any more what it tells to forget. */
    wait (number: number) {
      const push = { isOver: false }
      process.run(() => its.wait(number)).then(() => { push.isOver = true }, () => {})
      return push
    },
    /** The same, published and heard here. */
    publish (number: number) {
      const push = this.wait(number)
      this.now(its => { its.published(number); its.echoed(number) })
      return push
    }
  }
}

t.test('where there is nobody else, a push is over when its echo is heard', async t => {
  const { wait, now, pass } = await acknowledgementsIn(t)
  const push = wait(1)
  now(its => its.published(1))
  await pass(0)
  t.notOk(push.isOver)
  now(its => its.echoed(1))
  await pass(0)
  t.ok(push.isOver)
  now(its => { its.echoed(1); its.published(1); its.withdrawn(1) }) // of no consequence: it is over
})

t.test('an echo may be heard before it is known that the push was published', async t => {
  const { wait, now, pass } = await acknowledgementsIn(t)
  now(its => its.greeted('b', 100))
  const push = wait(1)
  now(its => { its.echoed(1); its.published(1) })
  await pass(over - 1)
  t.notOk(push.isOver)
  await pass(1)
  t.ok(push.isOver)
})

t.test('a push is over when all members have acknowledged it, or a later one', async t => {
  const test = await acknowledgementsIn(t)
  test.now(its => { its.greeted('b', 100); its.greeted('c', 100) })
  const [first, second, third] = [test.publish(1), test.publish(2), test.publish(3)]
  test.now(its => { its.acknowledged('b', 2); its.acknowledged('c', 1); its.acknowledged('nobody', 3) })
  await test.pass(0)
  t.strictSame([first.isOver, second.isOver, third.isOver], [true, false, false])
  test.now(its => its.acknowledged('c', 3))
  await test.pass(0)
  t.strictSame([first.isOver, second.isOver, third.isOver], [true, true, false])
  test.now(its => its.left('b'))
  await test.pass(0)
  t.ok(third.isOver, 'who leaves is not waited for')
  test.now(its => { its.left('c'); its.left('nobody') })
  const alone = test.publish(4)
  await test.pass(0)
  t.ok(alone.isOver)
})

t.test('who has acknowledged a push before its echo is heard is not waited for', async t => {
  const { wait, now, pass } = await acknowledgementsIn(t)
  now(its => its.greeted('b', 100))
  const push = wait(1)
  now(its => { its.published(1); its.acknowledged('b', 1); its.acknowledged('b', 0) })
  await pass(0)
  t.notOk(push.isOver)
  now(its => its.echoed(1))
  await pass(0)
  t.ok(push.isOver)
})

t.test('until all have had a lease to show themselves, a push waits for those who have not', async t => {
  const test = await acknowledgementsIn(t, { allKnown: false })
  const early = test.publish(1)
  await test.pass(50)
  test.now(its => { its.asked(); its.asked() })
  await test.pass(over - 51)
  t.notOk(early.isOver)
  await test.pass(1)
  t.ok(early.isOver, 'its own lease is over, for all of them')

  const unheard = test.wait(2)
  test.now(its => its.published(2))
  const acknowledged = test.publish(3)
  const other = test.publish(4)
  test.now(its => { its.greeted('b', 100); its.acknowledged('b', 3) })
  await test.pass(49)
  t.notOk(acknowledged.isOver)
  await test.pass(1)
  t.ok(acknowledged.isOver, 'now all are known')
  t.notOk(other.isOver, 'this one b has not acknowledged')
  t.notOk(unheard.isOver, 'and who has greeted before this one may be heard of with its echo')
  test.now(its => { its.echoed(2); its.acknowledged('b', 4) })
  await test.pass(0)
  t.ok(other.isOver)
  t.ok(unheard.isOver)
})

t.test('a push that was not published is not waited for', async t => {
  const { wait, now, pass } = await acknowledgementsIn(t)
  const push = wait(1)
  now(its => { its.published(1); its.withdrawn(1) })
  await pass(0)
  t.ok(push.isOver)
})

t.test('who does not acknowledge is waited for until a lease is over; told so, until another one is over', async t => {
  const test = await acknowledgementsIn(t)
  test.now(its => { its.greeted('b', 100); its.greeted('dead', 100) })
  const first = test.publish(1)
  const second = test.publish(2)
  test.now(its => its.acknowledged('b', 2))
  await test.pass(over - 1)
  t.notOk(first.isOver)
  t.strictSame(test.doubted, [])
  await test.pass(1)
  t.ok(first.isOver && second.isOver)
  t.strictSame(test.doubted, ['dead'], 'once')

  await test.pass(over - 1)
  const third = test.publish(3)
  await test.pass(1)
  const fourth = test.publish(4)
  test.now(its => its.acknowledged('b', 4))
  await test.pass(0)
  t.notOk(third.isOver)
  t.ok(fourth.isOver)
  test.now(its => its.greeted('dead', 100))
  const fifth = test.publish(5)
  test.now(its => its.acknowledged('b', 5))
  await test.pass(0)
  t.notOk(fifth.isOver, 'it has greeted again')
})

t.test('who greets while it is told that it is not waited for is waited for', async t => {
  const test = await acknowledgementsIn(t)
  const told = deferred()
  test.line.doubt = async () => await told.promise
  test.now(its => its.greeted('b', 100))
  test.publish(1)
  await test.pass(over)
  t.strictSame(test.doubted, ['b'])
  test.now(its => its.greeted('b', 100))
  told.resolve()
  await test.pass(2 * over)
  const push = test.publish(2)
  await test.pass(over - 1)
  t.notOk(push.isOver)
})

t.test('who could not be told stays a member, and is told with the next push that it does not acknowledge', async t => {
  const test = await acknowledgementsIn(t)
  test.line.doubt = async () => { throw new Error('no line') }
  test.now(its => its.greeted('b', 100))
  for (const number of [1, 2, 3]) {
    const push = test.publish(number)
    await test.pass(over - 1)
    t.notOk(push.isOver)
    await test.pass(1)
    t.ok(push.isOver)
  }
  t.strictSame(test.doubted, ['b', 'b', 'b'])
})

t.test('after an interruption nobody is known: each push waits for a lease, and nobody is blamed', async t => {
  const test = await acknowledgementsIn(t)
  test.now(its => its.greeted('b', 100))
  const before = test.publish(1)
  await test.pass(10)
  test.now(its => its.interrupted())
  test.now(its => its.acknowledged('b', 1))
  const after = test.publish(2)
  await test.pass(over - 11)
  t.notOk(before.isOver)
  await test.pass(1)
  t.ok(before.isOver)
  t.notOk(after.isOver)
  await test.pass(10)
  t.ok(after.isOver)
  t.strictSame(test.doubted, [])

  test.now(its => its.asked())
  await test.pass(over - 1)
  test.now(its => its.interrupted()) // what had been asked was in vain
  test.now(its => its.asked())
  await test.pass(1)
  const third = test.publish(3)
  await test.pass(over - 2)
  t.notOk(third.isOver)
  await test.pass(1)
  t.ok(third.isOver, 'all are known')
  const fourth = test.publish(4)
  await test.pass(0)
  t.ok(fourth.isOver, 'and those of before the interruption are no members')
})

t.test('the longest lease that a member has told of counts', async t => {
  const test = await acknowledgementsIn(t)
  test.now(its => { its.greeted('patient', 1000); its.greeted('b', 20) })
  const push = test.publish(1)
  await test.pass(1011)
  t.notOk(push.isOver)
  await test.pass(1)
  t.ok(push.isOver)
})

t.test('after close nobody hears who acknowledges: what is waited for takes a lease', async t => {
  const test = await acknowledgementsIn(t)
  test.now(its => its.greeted('b', 100))
  const push = test.publish(1)
  test.now(its => its.close())
  await test.pass(over - 1)
  t.notOk(push.isOver)
  await test.pass(1)
  t.ok(push.isOver)
  t.strictSame(test.doubted, [])
})
