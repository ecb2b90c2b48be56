import fc from 'fast-check'
import t from 'tap'
import { readMessage, type Message } from '../../../lib/coherence/messages.js'

const from = 'somebody'
const messages: Message[] = [
  { from, kind: 'hello', lease: 500 },
  { from, kind: 'hello', lease: 33.3 },
  { from, kind: 'present', lease: 500 },
  { from, kind: 'push', number: 1, previous: 0, pushes: [] },
  { from, kind: 'push', number: 2, previous: 1, pushes: [{ region: 'people', keys: ['a', 'b'], tags: ['t'] }, { region: 'cities', hard: true }, { region: 'cities', soft: true }] },
  { from, kind: 'acknowledgement', upTo: 0 },
  { from, kind: 'doubt' },
  { from, kind: 'bye' }
]

t.test('what one process says, another one understands', async t => {
  for (const message of messages) t.strictSame(readMessage(JSON.stringify(message)), message, message.kind)
  fc.assert(fc.property(fc.array(fc.string({ unit: 'binary' })), fc.array(fc.string({ unit: 'grapheme' })), (keys, tags) => {
    const message: Message = { from, kind: 'push', number: 1, previous: 0, pushes: [{ region: 'people', keys, tags }] }
    const read = readMessage(JSON.stringify(message))
    return JSON.stringify(read) === JSON.stringify(message)
  }))
})

t.test('what is no message of ours is none', async t => {
  const push = { from, kind: 'push', number: 1, previous: 0, pushes: [] as unknown }
  const others: unknown[] = [
    undefined, null, 1, 'hello', [], {}, { kind: 'bye' }, { from: 1, kind: 'bye' }, { from },
    { from, kind: 'toString' }, { from, kind: 'greeting' },
    { from, kind: 'hello' }, { from, kind: 'hello', lease: '500' }, { from, kind: 'present', lease: null },
    { from, kind: 'hello', lease: 0 }, { from, kind: 'hello', lease: -1 }, { from, kind: 'present', lease: 60_001 }, { from, kind: 'present', lease: 1e300 },
    { from, kind: 'acknowledgement' }, { from, kind: 'acknowledgement', upTo: -1 }, { from, kind: 'acknowledgement', upTo: 1.5 },
    { ...push, number: undefined }, { ...push, previous: undefined }, { ...push, pushes: undefined }, { ...push, pushes: {} },
    ...[null, 'people', {}, { region: 1 }, { region: 'people', keys: 'a' }, { region: 'people', keys: [1] }, { region: 'people', tags: [null] }].map(one => ({ ...push, pushes: [one] }))
  ]
  for (const other of others) t.equal(readMessage(JSON.stringify(other) ?? ''), undefined, JSON.stringify(other))
  t.equal(readMessage('not JSON'), undefined)
  fc.assert(fc.property(fc.json(), text => readMessage(text) === undefined))
})
