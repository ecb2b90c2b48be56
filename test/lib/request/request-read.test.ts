import t from 'tap'
import type { BoundMethod } from '../../../lib/bound-object.js'
import { Read, Reading, ReadsTogether } from '../../../lib/request/request-read.js'

const method = {} as BoundMethod

/** How a promise has been settled, or that it hasn't. */
async function stateOf (promise: Promise<unknown>) {
  return await Promise.race([
    promise.then(value => ({ value }), (error: unknown) => ({ error })),
    new Promise(resolve => setImmediate(resolve, 'under way'))
  ])
}

t.test('what was read is one promise, and a value', async t => {
  const read = new Read(1, method, 1)
  t.equal(read.promise, read.promise)
  t.equal(await read.promise, 1)
  t.equal(read.value, 1)
})

t.test('what is being read is one promise, whoever asks for it and when', async t => {
  const [early, late] = [new Reading(method, 1), new Reading(method, 1)]
  const { promise } = early
  t.equal(early.value, undefined)
  t.equal(await stateOf(promise), 'under way')
  for (const reading of [early, late]) reading.resolve(1)
  t.equal(early.promise, promise)
  t.equal(late.promise, late.promise)
  for (const reading of [early, late]) {
    t.equal(await reading.promise, 1)
    t.equal(reading.value, 1)
  }
})

t.test('what could not be read fails everybody who asks, and nobody else', async t => {
  const unhandled: unknown[] = []
  const listener = (reason: unknown) => { unhandled.push(reason) }
  process.on('unhandledRejection', listener)
  t.teardown(() => process.off('unhandledRejection', listener))
  const [asked, late, never] = [new Reading(method, 1), new Reading(method, 1), new Reading(method, 1)]
  const { promise } = asked
  const error = new Error('no')
  for (const reading of [asked, late, never]) reading.reject(error)
  await new Promise(setImmediate)
  t.strictSame(await stateOf(promise), { error })
  t.strictSame(await stateOf(late.promise), { error })
  t.equal(late.promise, late.promise)
  await new Promise(setImmediate)
  t.strictSame(unhandled, [])
})

t.test('several reads are one promise, in their order', async t => {
  const together = new ReadsTogether(4)
  const readings = [new Reading(method, 1), new Reading(method, 1)] as const
  new Read('read', method, 1).join(together, 1)
  readings[0].join(together, 0)
  readings[1].join(together, 2)
  readings[1].join(together, 3)
  readings[1].resolve('second')
  t.equal(await stateOf(together.promise), 'under way')
  readings[0].resolve('first')
  t.strictSame(await together.promise, ['first', 'read', 'second', 'second'])
  const again = new ReadsTogether(1)
  readings[0].join(again, 0)
  t.strictSame(await again.promise, ['first'])
  t.strictSame(await new ReadsTogether(0).promise, [])
})

t.test('one read of several that fails fails them all, with its error', async t => {
  const error = new Error('no')
  for (const already of [true, false]) {
    const [failing, other] = [new Reading(method, 1), new Reading(method, 1)]
    if (already) failing.reject(error)
    const [one, two] = [new ReadsTogether(2), new ReadsTogether(1)]
    other.join(one, 0)
    failing.join(one, 1)
    failing.join(two, 0)
    if (!already) failing.reject(error)
    other.resolve(1)
    t.strictSame(await stateOf(one.promise), { error })
    t.strictSame(await stateOf(two.promise), { error })
  }
})
