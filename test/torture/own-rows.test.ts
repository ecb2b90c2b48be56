import t from 'tap'
import { OwnRows } from './own-rows.js'

const ownRows = (rows: number, processes: number): OwnRows[] =>
  Array.from({ length: processes }, (_, worker) => new OwnRows({ rows, processes, worker }))

t.test('each of the last rows is of one process, and each process has one, however few there are', async t => {
  for (const [rows, processes] of [[8, 4], [10, 5], [2, 1], [17, 4], [32, 4], [129, 7]] as const) {
    const all = ownRows(rows, processes)
    const { first } = all[0]!
    const owned = all.flatMap(({ own }) => own).sort((a, b) => a - b)
    t.strictSame(owned, Array.from({ length: rows - first }, (_, i) => first + i), `${rows} rows, ${processes} processes`)
    for (const { own } of all) t.not(own.length, 0)
    t.ok(first >= processes, 'as many are left for all')
  }
})

t.test('of many rows, a quarter are of one process each', async t => {
  t.strictSame(ownRows(32, 4).map(({ own }) => own), [[24, 28], [25, 29], [26, 30], [27, 31]])
})
