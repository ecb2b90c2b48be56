import t from 'tap'
import { endUse, isInUse, startUse } from '../../lib/shared-use.js'

t.test('it is closed with the last use, opened again by the next one, and closed once more', async t => {
  const events: string[] = []
  const used = { reopen: () => { events.push('reopen') }, close: async () => { events.push('close') } }
  t.notOk(isInUse(used))
  startUse(used)
  startUse(used)
  await endUse(used)
  t.strictSame(events, ['reopen'])
  t.ok(isInUse(used))
  await endUse(used)
  t.notOk(isInUse(used))
  t.strictSame(events, ['reopen', 'close'])
  startUse(used)
  await endUse(used)
  t.strictSame(events, ['reopen', 'close', 'reopen', 'close'])
})

t.test('what can not be reopened, or closed, need not be', async t => {
  const plain = {}
  startUse(plain)
  await endUse(plain)
})

t.test('what throws when it is closed is a rejection, and it was closed', async t => {
  let closed = 0
  const broken = { close: () => { closed++; throw new Error('stuck') } }
  startUse(broken)
  await t.rejects(endUse(broken), { message: 'stuck' })
  startUse(broken)
  await t.rejects(endUse(broken), { message: 'stuck' })
  t.equal(closed, 2)
})
