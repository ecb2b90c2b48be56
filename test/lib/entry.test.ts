import t from 'tap'
import { freshness, isFresh, type Entry } from '../../lib/entry.js'
import { unstamped } from '../../lib/stamp.js'
import { copyIn } from '../../lib/values.js'

const entryOf = (value: unknown, more: Partial<Entry> = {}): Entry =>
  ({ ...copyIn(value), loadedAt: 1000, freshUntil: 2000, staleUntil: 2500, tags: [], stamp: unstamped, ...more })

t.test('an entry is fresh, then stale, then gone, to the millisecond', async t => {
  const entry = entryOf('a')
  const moments = [[1000, 'fresh'], [1999, 'fresh'], [2000, 'stale'], [2499, 'stale'], [2500, 'gone'], [Infinity, 'gone']] as const
  for (const [now, expected] of moments) t.equal(freshness(entry, now, undefined), expected, `at ${now}`)
})

t.test('without grace nothing is ever stale', async t => {
  const entry = entryOf('a', { staleUntil: 2000 })
  t.equal(freshness(entry, 1999, undefined), 'fresh')
  t.equal(freshness(entry, 2000, undefined), 'gone')
})

t.test('a hit is told from the rest as freshness tells it', async t => {
  for (const softened of [false, true]) {
    for (const maxAge of [undefined, 0, 100, 2000, Infinity]) {
      for (const now of [0, 1000, 1099, 1100, 1999, 2000, 2500, NaN, Infinity]) {
        const entry = entryOf('a', { softened })
        t.equal(isFresh(entry, now, maxAge), freshness(entry, now, maxAge) === 'fresh', `softened ${softened}, maxAge ${maxAge}, at ${now}`)
      }
    }
  }
})

t.test('a reader’s maxAge takes the place of the ttl, and the grace follows it', async t => {
  const entry = entryOf('a')
  const moments = [[1099, 'fresh'], [1100, 'stale'], [1599, 'stale'], [1600, 'gone']] as const
  for (const [now, expected] of moments) t.equal(freshness(entry, now, 100), expected, `at ${now}, 100 ms`)
  t.equal(freshness(entry, 1000, 0), 'stale', 'nothing is younger than 0')
  t.equal(freshness(entry, 2999, 2000), 'fresh', 'older ones than the ttl')
  t.equal(freshness(entry, 3000, 2000), 'stale')
  t.equal(freshness(entry, 1e15, Infinity), 'fresh', 'whatever is there')
})

t.test('what was invalidated softly is stale at once, and gone where there is no grace', async t => {
  const entry = entryOf('a', { softened: true })
  t.equal(freshness(entry, 1000, undefined), 'stale')
  t.equal(freshness(entry, 2499, undefined), 'stale')
  t.equal(freshness(entry, 2500, undefined), 'gone')
  t.equal(freshness(entry, 1000, 1e12), 'stale', 'whatever age a reader allows')
  t.equal(freshness(entry, 1e15, Infinity), 'fresh', 'unless it is whatever is there')
  t.equal(freshness({ ...entry, staleUntil: 2000 }, 1000, undefined), 'gone')
})

t.test('what was softened is served to nobody for whom it is too old', async t => {
  const entry = entryOf('a', { softened: true, loadedAt: 1000, freshUntil: 61_000, staleUntil: 71_000 })
  for (const [now, maxAge, expected] of [
    [2000, undefined, 'stale'],
    [70_999, undefined, 'stale'],
    [71_000, undefined, 'gone'],
    [2000, 500, 'stale'],
    [11_499, 500, 'stale'],
    [11_500, 500, 'gone'],
    [70_999, 1_000_000, 'stale'],
    [71_000, 1_000_000, 'gone']
  ] as const) t.equal(freshness(entry, now, maxAge), expected, `${now}, ${maxAge}`)
})
