import t from 'tap'
import { defaults } from './options.js'
import { isClean, isFoundOut, report } from './report.js'
import type { Result } from './verdict.js'

const result = (change: Partial<Result> = {}): Result => ({
  options: { ...defaults, build: '.' },
  lasted: 60_000,
  reads: 1000,
  writes: 100,
  pending: 3,
  stale: 0,
  staleForGood: 0,
  explained: [],
  longestRead: undefined,
  longestWrite: undefined,
  byWay: {},
  byOrigin: {},
  staleByOrigin: {},
  errors: {
    TORTURE_LOADER: { count: 5, message: 'api.get: the database is out of luck' },
    FST_CACHING_API_INVALIDATION_PENDING: { count: 3, message: 'region.delete: a tier was away' }
  },
  faults: { byKind: {}, skipped: 0, failed: [] },
  hanging: [],
  died: [],
  ...change
})

const wrong: Record<string, Partial<Result>> = {
  'nothing was read': { reads: 0 },
  'stale reads 2': { stale: 2 },
  'stale for good 1': { staleForGood: 1 },
  'hanging 1': { hanging: ['process 0.0: api.get'] },
  'died 1': { died: ['process 0: out of memory'] },
  'faults failed 1': { faults: { byKind: {}, skipped: 0, failed: ['kill: no such server'] } },
  'errors unexpected 4': { errors: { ...result().errors, TypeError: { count: 4, message: 'api.get: undefined is not a function' } } }
}

t.test('a run is clean that has read something, and nothing that it must not; loaders may fail, and invalidations be late', async t => {
  t.ok(isClean(result()))
  t.match(report(result()), /^verdict +clean$/m)
})

t.test('whatever is wrong makes it unclean, and is told', async t => {
  for (const [what, change] of Object.entries(wrong)) {
    t.notOk(isClean(result(change)), what)
    t.match(report(result(change)), new RegExp(`^verdict +${what}$`, 'm'))
  }
  t.match(report(result({ stale: 2, died: ['process 0: gone'] })), /^verdict +stale reads 2, died 1$/m)
  t.match(report(result(wrong['errors unexpected 4'])), /^unexpected +TypeError 4, the first one by api.get: undefined is not a function$/m)
})

t.test('peers are compared, and not judged', async t => {
  for (const change of Object.values(wrong)) {
    const peer = result({ ...change, options: { ...defaults, build: '.', subject: 'cacheable' } })
    t.ok(isClean(peer))
    t.notMatch(report(peer), /^(verdict|unexpected)/m)
    t.notOk(isClean(result({ ...change, options: { ...defaults, build: '.', subject: 'ours, plain' } })))
  }
})

t.test('a missing guard is found out by what is stale, but not where a process died of itself', async t => {
  t.ok(isFoundOut(result({ stale: 1 })))
  t.ok(isFoundOut(result({ staleForGood: 1 })))
  t.notOk(isFoundOut(result()))
  t.notOk(isFoundOut(result({ stale: 1, died: ['process 0: gone'] })))
})
