import t from 'tap'
import { Receipts } from '../../../lib/coherence/receipts.js'
import { gate } from '../../helpers/doubles.js'

/** Those of a process, and what they have told: each as `a 3`, up to which push of which sender was acknowledged. */
function receiptsOf () {
  const told: string[] = []
  const line = { tell: async (): Promise<void> => {} }
  const receipts = new Receipts(async (member, message) => {
    if (message.kind === 'acknowledgement') told.push(`${member} ${message.upTo}`)
    await line.tell()
  })
  return { receipts, told, line }
}

t.test('a process that hears each push of another one has missed none', async t => {
  const { receipts } = receiptsOf()
  t.strictSame(receipts.hear('a', 7, 6), { missed: false, upTo: 7 }, 'nor any of before it came')
  t.strictSame(receipts.hear('a', 8, 7), { missed: false, upTo: 8 })
  t.strictSame(receipts.hear('b', 1, 0), { missed: false, upTo: 1 }, 'each sender counts for itself')
  t.strictSame(receipts.hear('a', 10, 8), { missed: false, upTo: 10 }, 'its sender has not published the ninth')
})

t.test('a push that does not follow the last one that was heard tells that others were missed', async t => {
  const { receipts } = receiptsOf()
  receipts.hear('a', 1, 0)
  t.strictSame(receipts.hear('a', 3, 2), { missed: true, upTo: 3 })
  t.strictSame(receipts.hear('a', 4, 3), { missed: false, upTo: 4 }, 'once')
})

t.test('a push that comes after its successor takes nothing back', async t => {
  const { receipts } = receiptsOf()
  receipts.hear('a', 1, 0)
  receipts.hear('a', 3, 1)
  t.strictSame(receipts.hear('a', 2, 1), { missed: false, upTo: 3 })
  t.strictSame(receipts.hear('a', 4, 3), { missed: false, upTo: 4 })
})

t.test('after an interruption nobody knows what was missed: each sender begins anew', async t => {
  const { receipts } = receiptsOf()
  receipts.hear('a', 1, 0)
  receipts.interrupted()
  t.strictSame(receipts.hear('a', 5, 4), { missed: false, upTo: 5 })
})

t.test('pushes that were obeyed together are acknowledged together, to each sender once', async t => {
  const { receipts, told } = receiptsOf()
  receipts.acknowledge('a', 1)
  receipts.acknowledge('a', 2)
  receipts.acknowledge('b', 1)
  t.strictSame(told, [], 'not at once')
  await Promise.resolve()
  t.strictSame(told, ['a 2', 'b 1'])
  await receipts.send()
  t.equal(told.length, 2, 'then nothing is due')
})

t.test('what is obeyed while an acknowledgement is under way is acknowledged after it', async t => {
  const { receipts, told, line } = receiptsOf()
  const held = gate()
  line.tell = async () => await held.opened
  receipts.acknowledge('a', 1)
  await Promise.resolve()
  receipts.acknowledge('a', 2)
  await new Promise(setImmediate)
  t.strictSame(told, ['a 1'])
  held.open()
  await new Promise(setImmediate)
  t.strictSame(told, ['a 1', 'a 2'])
})

t.test('an acknowledgement that could not be sent stays due, unless a later one takes its place', async t => {
  const { receipts, told, line } = receiptsOf()
  line.tell = async () => { throw new Error('no line') }
  receipts.acknowledge('a', 1)
  await new Promise(setImmediate)
  line.tell = async () => {}
  await receipts.send()
  t.strictSame(told, ['a 1', 'a 1'])

  line.tell = async () => {
    receipts.acknowledge('a', 3)
    throw new Error('no line')
  }
  receipts.acknowledge('a', 2)
  await new Promise(setImmediate)
  line.tell = async () => {}
  await receipts.send()
  t.strictSame(told.slice(2), ['a 2', 'a 3'])
})
