import { mock } from 'node:test'
import t, { type Test } from 'tap'
import type { Invalidation } from '../../../lib/coherence/messages.js'
import { ReplayQueue } from '../../../lib/tiers/replay-queue.js'
import { deferred } from '../../helpers/doubles.js'

/** A tier that is there or away, what it was told, and the time that passes when the test says so. */
function queueTo (t: Test) {
  mock.timers.enable({ apis: ['setTimeout'] })
  t.teardown(() => mock.timers.reset())
  const told: Invalidation[] = []
  const tier = { away: false, asked: 0, emptied: 0, hold: undefined as Promise<void> | undefined }
  const queue = new ReplayQueue({
    send: async (work) => {
      tier.asked++
      await tier.hold
      if (tier.away) throw new Error('away')
      told.push(structuredClone(work))
    },
    onEmpty: () => { tier.emptied++ }
  })
  t.teardown(() => queue.close())
  const pass = async (ms: number) => {
    mock.timers.tick(ms)
    await new Promise(setImmediate)
  }
  return { queue, tier, told, pass }
}

const nothingLeft = { keys: [], tags: [], hard: false, soft: false }

t.test('what a tier takes is done: nothing is kept, and nothing is doubted', async t => {
  const { queue, tier, told } = queueTo(t)
  t.equal(await queue.deliver({ keys: ['a'] }), true)
  t.strictSame(told, [{ keys: ['a'] }])
  t.notOk(queue.concerns('a', []))
  t.equal(tier.emptied, 0)
})

t.test('close says whether anything is left to be told', async t => {
  const { queue, tier } = queueTo(t)
  tier.away = true
  await queue.deliver({ keys: ['a'] })
  t.equal(queue.close(), true)
  queue.discard(['a'])
  t.equal(queue.close(), false)
  for (const work of [{ tags: ['t'] }, { soft: true }, { hard: true }]) {
    await queue.deliver(work)
    t.equal(queue.close(), true)
  }
  tier.away = false
  const other = new ReplayQueue({ send: async () => { await new Promise(() => {}) }, onEmpty: () => {} })
  void other.deliver({ keys: ['a'] })
  t.equal(other.close(), true, 'nobody knows yet')
})

t.test('while an invalidation is on its way, the tier is not believed about it', async t => {
  const { queue, tier } = queueTo(t)
  const held = deferred()
  tier.hold = held.promise
  const first = queue.deliver({ keys: ['a', 'b'] })
  const second = queue.deliver({ keys: ['a'] })
  t.ok(queue.concerns('a', []))
  t.ok(queue.concerns('b', []))
  t.notOk(queue.concerns('c', ['a']))
  const tagged = queue.deliver({ tags: ['t'] })
  t.ok(queue.concerns('c', ['s', 't']))
  t.notOk(queue.concerns('c', ['s']))
  for (const work of [{ hard: true }, { soft: true }]) {
    const whole = queue.deliver(work)
    t.ok(queue.concerns('c', []), JSON.stringify(work))
    held.resolve()
    await whole
  }
  await Promise.all([first, second, tagged])
  t.notOk(queue.concerns('a', ['t']))
})

t.test('of two invalidations of one key, the first to arrive does not end the doubt', async t => {
  const { queue, tier } = queueTo(t)
  const late = deferred()
  tier.hold = late.promise
  const slow = queue.deliver({ keys: ['a'] })
  tier.hold = undefined
  await queue.deliver({ keys: ['a'] })
  t.ok(queue.concerns('a', []))
  late.resolve()
  await slow
  t.notOk(queue.concerns('a', []))
})

t.test('what a tier could not take is doubted until it was replayed', async t => {
  const { queue, tier, told, pass } = queueTo(t)
  tier.away = true
  t.equal(await queue.deliver({ keys: ['a', 'b'] }), false)
  t.equal(await queue.deliver({ keys: ['b'] }), false)
  t.equal(await queue.deliver({ tags: ['t'] }), false)
  t.ok(queue.concerns('a', []))
  t.ok(queue.concerns('c', ['t']))
  t.notOk(queue.concerns('c', ['s']))
  tier.away = false
  await pass(99)
  t.ok(queue.concerns('a', []), 'not yet')
  await pass(1)
  t.strictSame(told, [{ ...nothingLeft, keys: ['a', 'b'], tags: ['t'] }])
  t.notOk(queue.concerns('a', ['t']))
  t.equal(tier.emptied, 1)
  await pass(10_000)
  t.equal(told.length, 1, 'once')
})

t.test('while an invalidation is replayed, the tier is still not believed', async t => {
  const { queue, tier, pass } = queueTo(t)
  tier.away = true
  await queue.deliver({ keys: ['a'], tags: ['t'] })
  tier.away = false
  const held = deferred()
  tier.hold = held.promise
  await pass(100)
  t.ok(queue.concerns('a', []))
  t.ok(queue.concerns('b', ['t']))
  held.resolve()
  await pass(0)
  t.notOk(queue.concerns('a', ['t']))
})

t.test('a key that is replaced while its invalidation is replayed is not to be forgotten any more, though the replay fails', async t => {
  const { queue, tier, told, pass } = queueTo(t)
  tier.away = true
  await queue.deliver({ keys: ['a', 'b'] })
  const held = deferred()
  tier.hold = held.promise
  await pass(100)
  queue.discard(['a'])
  held.resolve()
  await pass(0)
  t.notOk(queue.concerns('a', []))
  t.ok(queue.concerns('b', []))
  tier.away = false
  await pass(200)
  t.strictSame(told, [{ ...nothingLeft, keys: ['b'] }])
  t.notOk(queue.concerns('b', []))
})

t.test('a key that is replaced while its invalidation is replayed is believed from then on', async t => {
  const { queue, tier, pass } = queueTo(t)
  tier.away = true
  await queue.deliver({ keys: ['a', 'b'] })
  tier.away = false
  const held = deferred()
  tier.hold = held.promise
  await pass(100)
  queue.discard(['a'])
  t.strictSame(['a', 'b'].map(key => queue.concerns(key, [])), [false, true])
  void queue.deliver({ keys: ['a'] })
  t.ok(queue.concerns('a', []), 'another invalidation of it is on its way')
  held.resolve()
  await pass(0)
  t.strictSame(['a', 'b'].map(key => queue.concerns(key, [])), [false, false])
})

t.test('a replacement voids reads that are under way only where something was still to be forgotten', async t => {
  const { queue, tier, pass } = queueTo(t)
  tier.away = true
  await queue.deliver({ keys: ['a'] })
  tier.away = false
  await pass(100)
  const before = queue.replays
  queue.discard(['a'])
  t.equal(queue.replays, before, 'it was replayed already')
})

t.test('what could not be delivered is kept, though nobody can be told so', async t => {
  const told: Invalidation[] = []
  const state = { away: true }
  mock.timers.enable({ apis: ['setTimeout'] })
  t.teardown(() => mock.timers.reset())
  const queue = new ReplayQueue({
    send: async what => {
      if (state.away) throw new Error('away')
      told.push(what)
    },
    onKept: () => { throw new Error('no log') },
    onEmpty: () => {}
  })
  t.teardown(() => queue.close())
  await t.rejects(queue.deliver({ keys: ['a'] }), { message: 'no log' })
  t.ok(queue.concerns('a', []))
  state.away = false
  mock.timers.tick(100)
  await new Promise(setImmediate)
  t.strictSame(told, [{ ...nothingLeft, keys: ['a'] }])
  t.notOk(queue.concerns('a', []))
})

t.test('a read that began before a kept key was replaced counts as one from before a replay', async t => {
  const { queue, tier } = queueTo(t)
  tier.away = true
  await queue.deliver({ keys: ['a'] })
  const before = queue.replays
  queue.discard(['b'])
  t.equal(queue.replays, before)
  queue.discard(['a'])
  t.not(queue.replays, before)
  queue.close()
})

t.test('a tier that stays away is tried again, ever more seldom', async t => {
  const { queue, tier, told, pass } = queueTo(t)
  tier.away = true
  await queue.deliver({ soft: true })
  const first = tier.asked
  for (const [i, pause] of [100, 200, 400, 800, 1600, 2000, 2000].entries()) {
    await pass(pause - 1)
    t.equal(tier.asked, first + i)
    await pass(1)
    t.equal(tier.asked, first + i + 1)
    t.ok(queue.concerns('a', []))
  }
  tier.away = false
  await pass(2000)
  t.strictSame(told, [{ ...nothingLeft, soft: true }])
  tier.away = true
  await queue.deliver({ keys: ['a'] })
  tier.away = false
  await pass(100)
  t.equal(told.length, 2, 'the next time it starts with short pauses')
})

t.test('what fails while something is replayed is replayed after it', async t => {
  const { queue, tier, told, pass } = queueTo(t)
  tier.away = true
  await queue.deliver({ keys: ['a'] })
  const held = deferred()
  tier.hold = held.promise
  await pass(100)
  const meanwhile = queue.deliver({ keys: ['b'], soft: true })
  held.resolve()
  t.equal(await meanwhile, false)
  tier.away = false
  tier.hold = undefined
  await pass(200)
  t.strictSame(told.map(work => [...work.keys!].sort()), [['a', 'b']])
  t.equal(tier.emptied, 1)
})

t.test('each kind of invalidation that fails during a replay that succeeds is kept for the next', async t => {
  for (const work of [{ keys: ['b'] }, { tags: ['t'] }, { hard: true }, { soft: true }]) {
    const { queue, tier, told, pass } = queueTo(t)
    tier.away = true
    await queue.deliver({ keys: ['a'] })
    tier.away = false
    const held = deferred()
    tier.hold = held.promise
    await pass(100)
    tier.hold = undefined
    tier.away = true
    t.equal(await queue.deliver(work), false)
    tier.away = false
    held.resolve()
    await pass(0)
    t.strictSame(told, [{ ...nothingLeft, keys: ['a'] }])
    t.equal(tier.emptied, 0)
    t.ok(queue.concerns('b', ['t']), JSON.stringify(work))
    await pass(100)
    t.strictSame(told.at(-1), { ...nothingLeft, ...work })
    t.equal(tier.emptied, 1)
    mock.timers.reset()
  }
})

t.test('an invalidation of the region stands for all of its keys and tags', async t => {
  const { queue, tier, told, pass } = queueTo(t)
  tier.away = true
  await queue.deliver({ keys: ['a'], tags: ['t'], soft: true })
  await queue.deliver({ hard: true })
  await queue.deliver({ keys: ['b'] })
  t.ok(queue.concerns('anything', []))
  tier.away = false
  await pass(100)
  t.strictSame(told, [{ ...nothingLeft, hard: true }])
})

t.test('ten thousand keys are kept one by one; one more becomes one invalidation of the region', async t => {
  const { queue, tier, told, pass } = queueTo(t)
  tier.away = true
  await queue.deliver({ keys: Array.from({ length: 9_999 }, (_, i) => `key-${i}`) })
  await queue.deliver({ tags: ['t'] })
  await queue.deliver({ keys: ['key-1'], tags: ['t'] })
  t.notOk(queue.concerns('other', []), 'at the limit')
  await queue.deliver({ keys: ['one more'] })
  t.ok(queue.concerns('other', []))
  tier.away = false
  await pass(100)
  t.strictSame(told, [{ ...nothingLeft, hard: true }])
  t.notOk(queue.concerns('other', []))
})

t.test('after close nothing is tried any more', async t => {
  const { queue, tier, pass } = queueTo(t)
  tier.away = true
  await queue.deliver({ keys: ['a'] })
  queue.close()
  t.equal(await queue.deliver({ keys: ['b'] }), false)
  await pass(10_000)
  t.equal(tier.asked, 2)
})

t.test('what fails for the first time after close is not tried again either', async t => {
  const { queue, tier, pass } = queueTo(t)
  tier.away = true
  queue.close()
  t.equal(await queue.deliver({ keys: ['a'] }), false)
  await pass(10_000)
  t.equal(tier.asked, 1)
})
