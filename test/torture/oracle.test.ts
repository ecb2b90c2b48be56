import t from 'tap'
import { Layout, type Cell } from './layout.js'
import type { Write } from './log.js'
import { Oracle, type Author, type Authored } from './oracle.js'

const layout = new Layout(16)
const cell = (id: number, { region = 'lasting', kind = 'key' }: Partial<Cell> = {}): number => layout.number({ region, kind, id })
const first: Author = { worker: 0, life: 0 }
const second: Author = { worker: 1, life: 0 }

/** A row becomes version 2, and its key is forgotten from 10 to 20. */
const forgotten = (change: Partial<Authored<Write>> = {}): Authored<Write> =>
  ({ what: 'write', way: 'region.delete', outcome: 'resolved', cell: cell(1), version: 2, updated: 10, asked: 10, ended: 20, by: first, ...change })

const oracle = (writes: readonly Authored<Write>[], lived: (author: Author) => boolean = () => true): Oracle =>
  new Oracle({ layout, writes, lived })

/** The version that a read at a time has missed. */
const missed = (one: Oracle, version: number | undefined, began: number, at = cell(1), by = second): number | undefined =>
  one.missed({ cell: at, version, began }, by)?.version

t.test('a read that began after an invalidation had resolved must not get anything older', async t => {
  const one = oracle([forgotten()])
  t.equal(missed(one, 1, 21), 2)
  t.equal(missed(one, 2, 21), undefined)
  t.equal(missed(one, 3, 21), undefined, 'a newer one is never wrong')
  t.equal(missed(one, undefined, 21), undefined, 'nor is nothing')
  t.equal(missed(one, 0, 21), 2, 'but that there is no such row, is')
})

t.test('a read that began before that may get anything', async t => {
  const one = oracle([forgotten()])
  for (const began of [5, 15, 20]) t.equal(missed(one, 1, began), undefined)
})

t.test('the newest of several invalidations counts, in whatever order they were logged', async t => {
  const one = oracle([forgotten({ version: 4, updated: 50, asked: 50, ended: 60 }), forgotten(), forgotten({ version: 3, updated: 25, asked: 25, ended: 70 })])
  t.equal(missed(one, 1, 30), 2)
  t.equal(missed(one, 2, 61), 4)
  t.equal(missed(one, 3, 71), 4, 'an older one that took longer lowers nothing')
  t.equal(missed(one, 4, 71), undefined)
})

t.test('an invalidation covers what others are known to have written before it', async t => {
  const elsewhere = forgotten({ cell: cell(1, { region: 'brief' }), version: 3, updated: 30, asked: 30, ended: 31, by: second })
  t.equal(missed(oracle([elsewhere, forgotten({ asked: 40, ended: 50 })]), 2, 51), 3)
  t.equal(missed(oracle([elsewhere, forgotten({ asked: 29, ended: 50 })]), 2, 51), undefined, 'not what they wrote later')
})

t.test('an invalidation covers its key only; one of a tag, all that has it; one of the region, all of it', async t => {
  /** Rows 1 and 9 are of one group, row 2 is of another. */
  const written = [1, 2, 9].map(id => forgotten({ cell: cell(id, { region: 'brief' }), ended: 1000 }))
  const covered = (way: Write['way']): string[] => {
    const one = oracle([...written, forgotten({ way })])
    const all = [cell(1), cell(1, { kind: 'byId' }), cell(9), cell(2), cell(1, { region: 'brief' })]
    return all.filter(at => missed(one, 1, 21, at) !== undefined).map(at => one.describe(at))
  }
  t.strictSame(covered('region.delete'), ['lasting/key/1'])
  t.strictSame(covered('region.invalidateTags(row)'), ['lasting/key/1', 'lasting/byId/1'])
  t.strictSame(covered('region.invalidateTags(group)'), ['lasting/key/1', 'lasting/byId/1', 'lasting/key/9'])
  t.strictSame(covered('region.invalidate'), ['lasting/key/1', 'lasting/byId/1', 'lasting/key/9', 'lasting/key/2'])
})

t.test('a pending invalidation binds its own process at once, and all when everything is over', async t => {
  const pending = forgotten({ outcome: 'pending' })
  const one = oracle([pending])
  t.equal(missed(one, 1, 21, cell(1), second), undefined)
  t.equal(missed(one, 1, 21, cell(1), first), 2)
  t.equal(missed(one, 1, 21, cell(1), { worker: 0, life: 1 }), undefined, 'the next process under its number is another one')
  t.equal(one.missedForGood({ cell: cell(1), version: 1 })?.version, 2)
  t.equal(one.missedForGood({ cell: cell(1), version: 2 }), undefined)
  t.equal(one.missedForGood({ cell: cell(1), version: undefined }), undefined)
  t.equal(oracle([pending], () => false).missedForGood({ cell: cell(1), version: 1 }), undefined, 'unless that was killed before')
})

t.test('an invalidation that resolved holds for good, whatever became of its process', async t => {
  t.equal(oracle([forgotten()], () => false).missedForGood({ cell: cell(1), version: 1 })?.version, 2)
})

t.test('a value that was set promises nothing at once, but is not lost for good', async t => {
  const set = forgotten({ way: 'region.set' })
  t.equal(missed(oracle([set]), 1, 21), undefined)
  t.equal(oracle([set]).missedForGood({ cell: cell(1), version: 1 })?.version, 2)
  t.equal(oracle([set], () => false).missedForGood({ cell: cell(1), version: 1 }), undefined)
})

t.test('an invalidation that failed promises nothing', async t => {
  const one = oracle([forgotten({ outcome: 'failed' })])
  t.equal(missed(one, 1, 21, cell(1), first), undefined)
  t.equal(one.missedForGood({ cell: cell(1), version: 1 }), undefined)
})

t.test('what is set while others forget it may be read, until it is forgotten again', async t => {
  const set = forgotten({ way: 'region.set', version: 1, updated: 5, asked: 5, ended: 15 })
  const again = forgotten({ asked: 30, ended: 40 })
  const one = oracle([set, forgotten(), again])
  t.equal(missed(one, 1, 21), undefined)
  t.equal(missed(one, 1, 41), 2)
  t.equal(one.missedForGood({ cell: cell(1), version: 1 })?.version, 2)
  t.equal(missed(one, 1, 21, cell(1, { kind: 'byId' })), undefined, 'nobody has forgotten the other key')
  t.equal(missed(oracle([set, forgotten(), forgotten({ cell: cell(1, { kind: 'byId' }) })]), 1, 21, cell(1, { kind: 'byId' })), 2, 'nor set it')
  const before = { ...set, ended: 10 }
  t.equal(missed(oracle([before, forgotten()]), 1, 21), 2, 'what was set before that, may not')
  const begun = { ...set, outcome: 'begun', ended: Infinity } as const
  t.equal(missed(oracle([begun, forgotten(), again]), 1, 41), undefined, 'nobody knows when it was done')
  t.equal(missed(oracle([begun, set, forgotten(), again]), 1, 41), 2, 'but from its other record')
})

t.test('a refresh binds its own process at once, and all when everything is over', async t => {
  const one = oracle([forgotten({ way: 'refresh' })])
  t.equal(missed(one, 1, 21, cell(1), second), undefined)
  t.equal(missed(one, 1, 21, cell(1), first), 2)
  t.equal(one.missedForGood({ cell: cell(1), version: 1 })?.version, 2)
  t.equal(oracle([forgotten({ way: 'refresh' })], () => false).missedForGood({ cell: cell(1), version: 1 }), undefined)
})
