import t from 'tap'
import type { Entry } from '../../../lib/entry.js'
import { LocalTier } from '../../../lib/tiers/local-tier.js'
import { memory, type MemoryBackend } from '../../../lib/backends/memory.js'
import { newStamp } from '../../../lib/stamp.js'
import { copyIn } from '../../../lib/values.js'

const localTier = (maxEntries = 30_000) => new LocalTier(memory({ maxEntries }) as MemoryBackend)
const entryOf = (value: unknown, tags: string[] = []): Entry =>
  ({ ...copyIn(value), loadedAt: 0, freshUntil: 1000, staleUntil: 2000, tags, stamp: newStamp() })

t.test('what was kept is found, until it is forgotten', async t => {
  const tier = localTier()
  t.equal(tier.name, 'memory')
  tier.set('a', entryOf(1))
  tier.set('b', entryOf(2))
  t.match(tier.get('a'), { value: 1 })
  tier.forget({ keys: ['a', 'x'] })
  t.equal(tier.get('a'), undefined)
  t.match(tier.get('b'), { value: 2 }, 'others stay')
  t.not(tier.get('b')!.softened, true)
})

t.test('a hit makes no new object', async t => {
  const tier = localTier()
  tier.set('a', entryOf(1))
  t.equal(tier.get('a'), tier.get('a'))
  tier.forget({ keys: ['b'] })
  t.equal(tier.get('a'), tier.get('a'), 'nor after the invalidation of another key')
})

t.test('what was found valid after one invalidation is looked at again after the next', async t => {
  const next: [string, (tier: LocalTier) => void, object | undefined][] = [
    ['of its key', tier => tier.forget({ keys: ['a'] }), undefined],
    ['of its tag', tier => tier.forget({ tags: ['t'] }), undefined],
    ['of the region', tier => tier.forget({ hard: true }), undefined],
    ['of the region, softly', tier => tier.forget({ soft: true }), { value: 1, softened: true }],
    ['of something else', tier => tier.forget({ tags: ['other'] }), { value: 1, softened: false }]
  ]
  for (const [name, invalidate, expected] of next) {
    const tier = localTier()
    const shortcuts = new Map()
    tier.set('a', entryOf(1, ['t']))
    tier.forget({ keys: ['b'] })
    t.match(tier.remember('a', shortcuts, 1), { value: 1 })
    t.match(tier.recall(shortcuts, 1), { value: 1 })
    invalidate(tier)
    t.match(tier.recall(shortcuts, 1), expected, name)
    t.match(tier.get('a'), expected, name)
  }
})

t.test('what was found valid counts as no newer: a load from before that invalidation may replace it', async t => {
  const tier = localTier()
  const generation = tier.generation
  tier.set('a', entryOf('old'))
  tier.forget({ keys: ['b'] })
  t.match(tier.get('a'), { value: 'old' })
  tier.set('a', entryOf('new'), generation)
  t.match(tier.get('a'), { value: 'new' })
})

t.test('what was found by its key is found by its alias, as long as it is there and counts', async t => {
  const tier = localTier(16)
  const shortcuts = new Map()
  t.equal(tier.remember('a', shortcuts, 1), undefined)
  t.equal(tier.recall(shortcuts, 1), undefined)
  tier.set('a', entryOf('old', ['t']))
  t.equal(tier.recall(shortcuts, 1), undefined, 'nobody has asked for its key yet')
  const found = tier.remember('a', shortcuts, 1)
  t.match(found, { value: 'old' })
  t.equal(tier.recall(shortcuts, 1), found)
  t.equal(tier.remember('a', new Map(), 'another'), found)
  t.equal(tier.recall(shortcuts, 1), found, 'one alias is enough')

  tier.forget({ soft: true })
  t.match(tier.recall(shortcuts, 1), { value: 'old', softened: true })
  t.match(tier.remember('a', shortcuts, 1), { value: 'old', softened: true })
  tier.forget({ tags: ['t'] })
  t.equal(tier.recall(shortcuts, 1), undefined)
  tier.set('a', entryOf('new'))
  t.equal(tier.recall(shortcuts, 1), undefined, 'the new one has not been asked for')
  t.match(tier.remember('a', shortcuts, 1), { value: 'new' })
  t.match(tier.recall(shortcuts, 1), { value: 'new' })
  tier.forget({ keys: ['a'] })
  t.equal(tier.recall(shortcuts, 1), undefined)
  t.equal(shortcuts.size, 0)
})

t.test('an alias that is long, and may be anybody’s, is not kept', async t => {
  const tier = localTier()
  tier.set('a', entryOf(1))
  const shortcuts = new Map()
  for (const alias of ['x'.repeat(65), 2n ** 64n]) {
    t.match(tier.remember('a', shortcuts, alias), { value: 1 })
    t.equal(shortcuts.size, 0)
  }
  for (const alias of ['x'.repeat(64), 2n ** 62n]) {
    tier.set('a', entryOf(1))
    t.match(tier.remember('a', shortcuts, alias), { value: 1 })
    t.match(tier.recall(shortcuts, alias), { value: 1 })
  }
})

t.test('what is found by its alias is evicted no sooner than what is used less', async t => {
  const tier = localTier(16)
  const shortcuts = new Map()
  tier.set('hot', entryOf('hot'))
  for (let i = 0; i < 1000; i++) {
    tier.set(`cold-${i}`, entryOf(i))
    const found = tier.recall(shortcuts, 'alias') ?? tier.remember('hot', shortcuts, 'alias')
    if (found === undefined) t.fail(`evicted by ${i}`)
  }
  t.equal(shortcuts.size, 1)
})

t.test('a hard invalidation forgets all that was there, and nothing that comes later', async t => {
  const tier = localTier()
  tier.set('a', entryOf(1))
  tier.forget({ hard: true })
  t.equal(tier.get('a'), undefined)
  tier.set('a', entryOf(2))
  t.match(tier.get('a'), { value: 2 })
})

t.test('a soft invalidation softens all that was there, and nothing that comes later', async t => {
  const tier = localTier()
  tier.set('a', entryOf(1))
  tier.forget({ soft: true })
  t.match(tier.get('a'), { value: 1, softened: true })
  tier.set('b', entryOf(2))
  t.not(tier.get('b')!.softened, true)
  tier.forget({ hard: true })
  t.equal(tier.get('a'), undefined, 'softened or not')
})

t.test('a value whose load began before an invalidation is dropped or softened, though it comes after it', async t => {
  const tier = localTier()
  const { generation } = tier
  tier.forget({ soft: true })
  tier.set('a', entryOf(1), generation)
  t.match(tier.get('a'), { softened: true })
  tier.forget({ hard: true })
  tier.set('a', entryOf(1), generation)
  t.equal(tier.get('a'), undefined)

  const before = tier.generation
  tier.forget({ tags: ['t'] })
  tier.set('b', entryOf(2, ['s', 't']), before)
  tier.set('c', entryOf(3, ['s']), before)
  t.equal(tier.get('b'), undefined)
  t.match(tier.get('c'), { value: 3 })
})

t.test('a value whose load began before an invalidation takes the place of none that began later', async t => {
  const invalidations: [kind: string, invalidate: (tier: LocalTier) => void][] = [
    ['keys', tier => tier.forget({ keys: ['other'] })],
    ['tags', tier => tier.forget({ tags: ['other'] })],
    ['soft', tier => tier.forget({ soft: true })],
    ['hard', tier => tier.forget({ hard: true })]
  ]
  for (const [kind, invalidate] of invalidations) {
    const tier = localTier()
    const before = tier.generation
    invalidate(tier)
    tier.set('a', entryOf('newer'))
    tier.set('a', entryOf('older'), before)
    t.match(tier.get('a'), { value: 'newer' }, kind)
    tier.set('a', entryOf('newest'))
    t.match(tier.get('a'), { value: 'newest' }, kind)
  }
})

t.test('of two values of the same time the later one is kept', async t => {
  const tier = localTier()
  const { generation } = tier
  tier.set('a', entryOf(1), generation)
  tier.forget({ keys: ['other'] })
  tier.set('a', entryOf(2), generation)
  t.match(tier.get('a'), { value: 2 })
})

t.test('a tag forgets what was written with it, and nothing else', async t => {
  const tier = localTier()
  tier.set('both', entryOf(1, ['s', 't']))
  tier.set('one', entryOf(2, ['s']))
  tier.set('none', entryOf(3))
  tier.forget({ tags: ['t', 'u'] })
  t.equal(tier.get('both'), undefined)
  t.match(tier.get('one'), { value: 2 })
  t.match(tier.get('none'), { value: 3 })
  tier.set('both', entryOf(4, ['t']))
  t.match(tier.get('both'), { value: 4 })
})

t.test('each kind of invalidation leaves the others’ marks alone', async t => {
  const tier = localTier()
  tier.set('a', entryOf(1, ['t']))
  tier.forget({ tags: ['other'] })
  tier.forget({ keys: ['other'] })
  tier.forget({ soft: true })
  t.match(tier.get('a'), { value: 1, softened: true })
  tier.forget({ tags: ['t'] })
  t.equal(tier.get('a'), undefined)
})

t.test('tags are remembered up to a bound; past it, more is forgotten than was asked for, never less', async t => {
  const tier = localTier()
  tier.set('first', entryOf(1, ['tag-0']))
  tier.set('bystander', entryOf(2, ['bystander']))
  for (let i = 0; i < 10_001; i++) tier.forget({ tags: [`tag-${i}`] })
  t.equal(tier.get('first'), undefined, 'its tag is not remembered any more')
  t.equal(tier.get('bystander'), undefined, 'and could be any older one')
  tier.set('bystander', entryOf(2, ['bystander']))
  tier.forget({ keys: ['other'] })
  t.match(tier.get('bystander'), { value: 2 }, 'what is newer than all that were dropped is believed')
})

t.test('a tag that is forgotten again counts as new', async t => {
  const tier = localTier()
  tier.forget({ tags: ['t'] })
  tier.set('a', entryOf(1, ['t']))
  tier.set('b', entryOf(2, ['unknown']))
  tier.forget({ tags: ['t'] })
  t.equal(tier.get('a'), undefined)
  t.match(tier.get('b'), { value: 2 }, 'and nothing was dropped for it')
})

t.test('two regions of one memory do not forget each other’s values', async t => {
  const backend = memory() as MemoryBackend
  const [one, other] = [new LocalTier(backend), new LocalTier(backend)]
  one.set('one:a', entryOf(1))
  other.set('other:a', entryOf(2))
  one.forget({ hard: true })
  t.equal(one.get('one:a'), undefined)
  t.match(other.get('other:a'), { value: 2 })
})
