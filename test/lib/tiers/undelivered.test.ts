import { mock } from 'node:test'
import t, { type Test } from 'tap'
import type { Invalidations } from '../../../lib/coherence/messages.js'
import { Undelivered } from '../../../lib/tiers/undelivered.js'
import { deferred } from '../../helpers/doubles.js'

/** A tier that is there or away, what it was told, and the time that passes when the test says so. */
function undeliveredTo (t: Test) {
  mock.timers.enable({ apis: ['setTimeout'] })
  t.teardown(() => mock.timers.reset())
  const told: Invalidations[] = []
  const tier = { away: false, asked: 0, delivered: 0, hold: undefined as Promise<void> | undefined }
  const undelivered = new Undelivered({
    deliver: async (work) => {
      tier.asked++
      await tier.hold
      if (tier.away) throw new Error('away')
      told.push(structuredClone(work))
    },
    delivered: () => { tier.delivered++ }
  })
  t.teardown(() => undelivered.close())
  const pass = async (ms: number) => {
    mock.timers.tick(ms)
    await new Promise(setImmediate)
  }
  return { undelivered, tier, told, pass }
}

const nothingLeft = { keys: [], tags: [], hard: false, soft: false }

t.test('what a tier takes is done: nothing is kept, and nothing is doubted', async t => {
  const { undelivered, tier, told } = undeliveredTo(t)
  t.equal(await undelivered.deliver({ keys: ['a'] }), true)
  t.strictSame(told, [{ keys: ['a'] }])
  t.notOk(undelivered.concerns('a', []))
  t.equal(tier.delivered, 0)
})

t.test('close says whether anything is left to be told', async t => {
  const { undelivered, tier } = undeliveredTo(t)
  tier.away = true
  await undelivered.deliver({ keys: ['a'] })
  t.equal(undelivered.close(), true)
  undelivered.replaced(['a'])
  t.equal(undelivered.close(), false)
  for (const work of [{ tags: ['t'] }, { soft: true }, { hard: true }]) {
    await undelivered.deliver(work)
    t.equal(undelivered.close(), true)
  }
  tier.away = false
  const other = new Undelivered({ deliver: async () => { await new Promise(() => {}) }, delivered: () => {} })
  void other.deliver({ keys: ['a'] })
  t.equal(other.close(), true, 'nobody knows yet')
})

t.test('while an invalidation is on its way, the tier is not believed about it', async t => {
  const { undelivered, tier } = undeliveredTo(t)
  const held = deferred()
  tier.hold = held.promise
  const first = undelivered.deliver({ keys: ['a', 'b'] })
  const second = undelivered.deliver({ keys: ['a'] })
  t.ok(undelivered.concerns('a', []))
  t.ok(undelivered.concerns('b', []))
  t.notOk(undelivered.concerns('c', ['a']))
  const tagged = undelivered.deliver({ tags: ['t'] })
  t.ok(undelivered.concerns('c', ['s', 't']))
  t.notOk(undelivered.concerns('c', ['s']))
  for (const work of [{ hard: true }, { soft: true }]) {
    const whole = undelivered.deliver(work)
    t.ok(undelivered.concerns('c', []), JSON.stringify(work))
    held.resolve()
    await whole
  }
  await Promise.all([first, second, tagged])
  t.notOk(undelivered.concerns('a', ['t']))
})

t.test('of two invalidations of one key, the first to arrive does not end the doubt', async t => {
  const { undelivered, tier } = undeliveredTo(t)
  const late = deferred()
  tier.hold = late.promise
  const slow = undelivered.deliver({ keys: ['a'] })
  tier.hold = undefined
  await undelivered.deliver({ keys: ['a'] })
  t.ok(undelivered.concerns('a', []))
  late.resolve()
  await slow
  t.notOk(undelivered.concerns('a', []))
})

t.test('what a tier could not take is doubted until it was replayed', async t => {
  const { undelivered, tier, told, pass } = undeliveredTo(t)
  tier.away = true
  t.equal(await undelivered.deliver({ keys: ['a', 'b'] }), false)
  t.equal(await undelivered.deliver({ keys: ['b'] }), false)
  t.equal(await undelivered.deliver({ tags: ['t'] }), false)
  t.ok(undelivered.concerns('a', []))
  t.ok(undelivered.concerns('c', ['t']))
  t.notOk(undelivered.concerns('c', ['s']))
  tier.away = false
  await pass(99)
  t.ok(undelivered.concerns('a', []), 'not yet')
  await pass(1)
  t.strictSame(told, [{ ...nothingLeft, keys: ['a', 'b'], tags: ['t'] }])
  t.notOk(undelivered.concerns('a', ['t']))
  t.equal(tier.delivered, 1)
  await pass(10_000)
  t.equal(told.length, 1, 'once')
})

t.test('while an invalidation is replayed, the tier is still not believed', async t => {
  const { undelivered, tier, pass } = undeliveredTo(t)
  tier.away = true
  await undelivered.deliver({ keys: ['a'], tags: ['t'] })
  tier.away = false
  const held = deferred()
  tier.hold = held.promise
  await pass(100)
  t.ok(undelivered.concerns('a', []))
  t.ok(undelivered.concerns('b', ['t']))
  held.resolve()
  await pass(0)
  t.notOk(undelivered.concerns('a', ['t']))
})

t.test('a key that is replaced while its invalidation is replayed is not to be forgotten any more, though the replay fails', async t => {
  const { undelivered, tier, told, pass } = undeliveredTo(t)
  tier.away = true
  await undelivered.deliver({ keys: ['a', 'b'] })
  const held = deferred()
  tier.hold = held.promise
  await pass(100)
  undelivered.replaced(['a'])
  held.resolve()
  await pass(0)
  t.notOk(undelivered.concerns('a', []))
  tier.away = false
  await pass(200)
  t.strictSame(told, [{ ...nothingLeft, keys: ['b'] }])
})

t.test('a tier that stays away is tried again, ever more seldom', async t => {
  const { undelivered, tier, told, pass } = undeliveredTo(t)
  tier.away = true
  await undelivered.deliver({ soft: true })
  const first = tier.asked
  for (const [i, pause] of [100, 200, 400, 800, 1600, 2000, 2000].entries()) {
    await pass(pause - 1)
    t.equal(tier.asked, first + i)
    await pass(1)
    t.equal(tier.asked, first + i + 1)
    t.ok(undelivered.concerns('a', []))
  }
  tier.away = false
  await pass(2000)
  t.strictSame(told, [{ ...nothingLeft, soft: true }])
  tier.away = true
  await undelivered.deliver({ keys: ['a'] })
  tier.away = false
  await pass(100)
  t.equal(told.length, 2, 'the next time it starts with short pauses')
})

t.test('what fails while something is replayed is replayed after it', async t => {
  const { undelivered, tier, told, pass } = undeliveredTo(t)
  tier.away = true
  await undelivered.deliver({ keys: ['a'] })
  const held = deferred()
  tier.hold = held.promise
  await pass(100)
  const meanwhile = undelivered.deliver({ keys: ['b'], soft: true })
  held.resolve()
  t.equal(await meanwhile, false)
  tier.away = false
  tier.hold = undefined
  await pass(200)
  t.strictSame(told.map(work => [...work.keys!].sort()), [['a', 'b']])
  t.equal(tier.delivered, 1)
})

t.test('each kind of invalidation that fails during a replay that succeeds is kept for the next', async t => {
  for (const work of [{ keys: ['b'] }, { tags: ['t'] }, { hard: true }, { soft: true }]) {
    const { undelivered, tier, told, pass } = undeliveredTo(t)
    tier.away = true
    await undelivered.deliver({ keys: ['a'] })
    tier.away = false
    const held = deferred()
    tier.hold = held.promise
    await pass(100)
    tier.hold = undefined
    tier.away = true
    t.equal(await undelivered.deliver(work), false)
    tier.away = false
    held.resolve()
    await pass(0)
    t.strictSame(told, [{ ...nothingLeft, keys: ['a'] }])
    t.equal(tier.delivered, 0)
    t.ok(undelivered.concerns('b', ['t']), JSON.stringify(work))
    await pass(100)
    t.strictSame(told.at(-1), { ...nothingLeft, ...work })
    t.equal(tier.delivered, 1)
    mock.timers.reset()
  }
})

t.test('an invalidation of the region stands for all of its keys and tags', async t => {
  const { undelivered, tier, told, pass } = undeliveredTo(t)
  tier.away = true
  await undelivered.deliver({ keys: ['a'], tags: ['t'], soft: true })
  await undelivered.deliver({ hard: true })
  await undelivered.deliver({ keys: ['b'] })
  t.ok(undelivered.concerns('anything', []))
  tier.away = false
  await pass(100)
  t.strictSame(told, [{ ...nothingLeft, hard: true }])
})

t.test('ten thousand keys are kept one by one; one more becomes one invalidation of the region', async t => {
  const { undelivered, tier, told, pass } = undeliveredTo(t)
  tier.away = true
  await undelivered.deliver({ keys: Array.from({ length: 9_999 }, (_, i) => `key-${i}`) })
  await undelivered.deliver({ tags: ['t'] })
  await undelivered.deliver({ keys: ['key-1'], tags: ['t'] })
  t.notOk(undelivered.concerns('other', []), 'at the limit')
  await undelivered.deliver({ keys: ['one more'] })
  t.ok(undelivered.concerns('other', []))
  tier.away = false
  await pass(100)
  t.strictSame(told, [{ ...nothingLeft, hard: true }])
  t.notOk(undelivered.concerns('other', []))
})

t.test('after close nothing is tried any more', async t => {
  const { undelivered, tier, pass } = undeliveredTo(t)
  tier.away = true
  await undelivered.deliver({ keys: ['a'] })
  undelivered.close()
  t.equal(await undelivered.deliver({ keys: ['b'] }), false)
  await pass(10_000)
  t.equal(tier.asked, 2)
})

t.test('what fails for the first time after close is not tried again either', async t => {
  const { undelivered, tier, pass } = undeliveredTo(t)
  tier.away = true
  undelivered.close()
  t.equal(await undelivered.deliver({ keys: ['a'] }), false)
  await pass(10_000)
  t.equal(tier.asked, 1)
})
