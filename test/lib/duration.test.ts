import t from 'tap'
import { resolveDuration } from '../../lib/duration.js'

t.test('a duration is milliseconds, or a string with a unit', async t => {
  const cases: [given: unknown, milliseconds: number][] = [
    [0, 0], [5000, 5000], [1.5, 1.5], ['0', 0], ['250', 250], ['250ms', 250], ['30s', 30_000], ['10m', 600_000], ['1h', 3_600_000],
    ['7d', 7 * 86_400_000], ['1.5 hours', 5_400_000], ['365d', 365 * 86_400_000], ['1y', 365.25 * 86_400_000]
  ]
  for (const [given, milliseconds] of cases) t.equal(resolveDuration(given, 'ttl'), milliseconds, String(given))
})

t.test('what is no duration is refused by the name of the option', async t => {
  const cases: [given: unknown, shown: string][] = [
    ['soon', "'soon'"], ['', "''"], [' ', "' '"], ['1 fortnight', "'1 fortnight'"], ['-5m', "'-5m'"], ['366d', "'366d'"],
    [`${'9'.repeat(101)}`, `'${'9'.repeat(60)}…'`], [-1, '-1'], [NaN, 'NaN'], [Infinity, 'Infinity'], [1n, '1n'], [null, 'null'],
    [undefined, 'undefined'], [true, 'true'], [{}, 'an object'], [[5], 'an array of 1'], [new Date(5), 'an instance of Date']
  ]
  for (const [given, shown] of cases) {
    t.throws(() => resolveDuration(given, 'regions.objects.ttl'), {
      code: 'FST_CACHING_API_INVALID_OPTIONS',
      message: `regions.objects.ttl must be a duration such as 5000 or '10m', not negative and at most a year, got ${shown}`
    })
  }
})

t.test('the bounds of an option are part of the message', async t => {
  t.equal(resolveDuration(50, 'lockTtl', 50, 100), 50)
  t.equal(resolveDuration(100, 'lockTtl', 50, 100), 100)
  t.throws(() => resolveDuration(49, 'lockTtl', 50), { message: "lockTtl must be a duration such as 5000 or '10m', at least 50 ms and at most a year, got 49" })
  t.throws(() => resolveDuration(101, 'lockTtl', 50, 100), { message: "lockTtl must be a duration such as 5000 or '10m', at least 50 ms and at most 100 ms, got 101" })
})

t.test('an option that may be endless says nothing of an end', async t => {
  t.equal(resolveDuration(Infinity, 'maxAge', 0, Infinity), Infinity)
  t.throws(() => resolveDuration(-1, 'maxAge', 0, Infinity), { message: "maxAge must be a duration such as 5000 or '10m', not negative, got -1" })
})
