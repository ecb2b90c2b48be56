import t, { type Test } from 'tap'
import { Trust } from '../../../lib/coherence/trust.js'

/** A lease of 100 ms, and the time that it sees. */
function trustIn (t: Test) {
  const clock = { time: 1000 }
  t.intercept(performance, 'now', { value: () => clock.time })
  return { clock, trust: new Trust(100) }
}

t.test('nothing is believed before the line was asked, and has answered', async t => {
  const { trust, clock } = trustIn(t)
  t.notOk(trust.isHeld)
  const question = trust.ask()
  t.notOk(trust.isHeld)
  t.ok(trust.renew(question))
  t.ok(trust.isHeld)
  clock.time += 99.9
  t.ok(trust.isHeld)
  clock.time += 0.1
  t.notOk(trust.isHeld, 'the lease is over')
})

t.test('a lease of trust begins when the question is sent, however late the answer comes', async t => {
  const { trust, clock } = trustIn(t)
  const question = trust.ask()
  clock.time += 80
  t.ok(trust.renew(question))
  clock.time += 19
  t.ok(trust.isHeld)
  clock.time += 1
  t.notOk(trust.isHeld)

  const late = trust.ask()
  clock.time += 100
  trust.renew(late)
  t.notOk(trust.isHeld, 'too late')
})

t.test('the answer to a question that was discarded does not renew trust, and takes nothing away', async t => {
  const { trust, clock } = trustIn(t)
  trust.renew(trust.ask())
  clock.time += 50
  const question = trust.ask()
  trust.discard()
  t.notOk(trust.renew(question))
  t.ok(trust.isHeld)
  clock.time += 50
  t.notOk(trust.isHeld)
  t.ok(trust.renew(trust.ask()), 'another question does')
  t.ok(trust.isHeld)
})

t.test('trust ends at once, and only a later question begins it again', async t => {
  const { trust } = trustIn(t)
  trust.renew(trust.ask())
  const question = trust.ask()
  trust.end()
  t.notOk(trust.isHeld)
  t.notOk(trust.renew(question))
  t.notOk(trust.isHeld)
  t.ok(trust.renew(trust.ask()))
  t.ok(trust.isHeld)
})
