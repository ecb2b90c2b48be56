import t from 'tap'
import type { Acknowledgements } from '../../../lib/coherence/acknowledgements.js'
import type { MessageBody, Push } from '../../../lib/coherence/messages.js'
import { Outbox, split } from '../../../lib/coherence/outbox.js'
import { gate } from '../../helpers/doubles.js'

type PushMessage = Extract<MessageBody, { kind: 'push' }>

/** Keys that a push is to forget: as many as that, and none that another push has. */
const keys = (count: number, from = 0) => Array.from({ length: count }, (_, i) => `k${from + i}`)

/** One whose messages wait for the test, or fail; `waits` is what it has told of the numbers that it has used. */
function outboxOf () {
  const sent: PushMessage[] = []
  const waits: string[] = []
  const line = { publish: async (): Promise<void> => {} }
  const acknowledgements = {
    wait: async (number: number) => { waits.push(`wait for ${number}`) },
    published: (number: number) => { waits.push(`published ${number}`) },
    withdrawn: (number: number) => { waits.push(`withdrawn ${number}`) }
  } as Pick<Acknowledgements, 'wait' | 'published' | 'withdrawn'> as Acknowledgements
  const outbox = new Outbox(async message => {
    sent.push(message as PushMessage)
    await line.publish()
  }, acknowledgements)
  return { outbox, sent, waits, line, add: async (keys: readonly string[]) => await (await outbox.add({ region: 'people', keys }, true)).forgotten }
}

t.test('what is invalidated in one tick is one message', async t => {
  const { add, sent, waits } = outboxOf()
  await Promise.all([add(['a']), add(['b'])])
  t.strictSame(sent, [{ kind: 'push', number: 1, previous: 0, pushes: [{ region: 'people', keys: ['a'] }, { region: 'people', keys: ['b'] }] }])
  t.strictSame(waits, ['wait for 1', 'published 1'])
})

t.test('acknowledgements are waited for where somebody does: the wait would keep a process alive for a lease', async t => {
  const { outbox, waits } = outboxOf()
  await outbox.add({ region: 'people', keys: ['a'] }, false)
  t.strictSame(waits, ['published 1'])
  await Promise.all([outbox.add({ region: 'people', keys: ['a'] }, false), outbox.add({ region: 'people', keys: ['b'] }, true)])
  t.strictSame(waits.slice(1), ['wait for 2', 'published 2'])
})

t.test('what is invalidated while a message is under way goes into the next one, together', async t => {
  const { add, sent, line } = outboxOf()
  const [begun, held] = [gate(), gate()]
  line.publish = async () => { begun.open(); await held.opened }
  const pushes = [add(['a'])]
  await begun.opened
  pushes.push(add(['b']), add(['c']))
  t.equal(sent.length, 1)
  held.open()
  await Promise.all(pushes)
  t.strictSame(sent.map(({ pushes }) => pushes.map(({ keys }) => keys![0])), [['a'], ['b', 'c']])
})

t.test('each message tells which one before it was published: one that failed is not missed by those who hear the next', async t => {
  const { add, sent, waits, line } = outboxOf()
  await add(['a'])
  const error = new Error('no line')
  line.publish = async () => { throw error }
  await t.rejects(add(['b']), error)
  line.publish = async () => {}
  await add(['c'])
  t.strictSame(sent.map(({ number, previous }) => [number, previous]), [[1, 0], [2, 1], [3, 1]])
  t.strictSame(waits.slice(2), ['wait for 2', 'withdrawn 2', 'wait for 3', 'published 3'])
})

t.test('a message that fails fails the invalidations that it carried, and no others', async t => {
  const { add, line } = outboxOf()
  const begun = gate()
  const held = gate()
  line.publish = async () => { line.publish = async () => {}; begun.open(); await held.opened; throw new Error('no line') }
  const failing = [add(['a']), add(['b'])]
  await begun.opened
  const later = add(['c'])
  held.open()
  t.match(await Promise.allSettled([...failing, later]), [{ status: 'rejected' }, { status: 'rejected' }, { status: 'fulfilled' }])
})

t.test('a message has no more than about a thousand keys; what does not fit goes into the next one', async t => {
  const { add, sent } = outboxOf()
  await Promise.all([add(keys(600)), add(keys(398, 600)), add(keys(1, 998)), add(keys(5000, 999))])
  t.strictSame(sent.map(({ pushes }) => pushes.length), [2, 1, 1], 'one that is too large by itself has a message of its own')
})

t.test('an invalidation of many keys is several of a thousand at most, of which the first has the rest of it', async t => {
  const small: Push = { region: 'people', keys: keys(1000), tags: ['t'] }
  t.strictSame(split(small), [small])
  t.strictSame(split({ region: 'people', hard: true }), [{ region: 'people', hard: true }])
  t.strictSame(split({ region: 'people', keys: keys(2001), tags: ['t'] }), [
    { region: 'people', keys: keys(1000), tags: ['t'] },
    { region: 'people', keys: keys(1000, 1000) },
    { region: 'people', keys: keys(1, 2000) }
  ])
})
