import t from 'tap'
import { faultKinds } from './options.js'
import { schedule } from './schedule.js'

const options = { seconds: 60, seed: 1, processes: 4, servers: 3, faults: faultKinds, tier: 'cluster' } as const

t.test('a seed gives the same faults again, another one gives others', async t => {
  t.strictSame(schedule(options), schedule(options))
  t.notSame(schedule(options), schedule({ ...options, seed: 2 }))
})

t.test('faults come in their order, of all kinds, and concern what there is', async t => {
  const planned = schedule({ ...options, seconds: 600 })
  t.strictSame(planned.map(({ at }) => at), planned.map(({ at }) => at).sort((a, b) => a - b))
  t.strictSame(new Set(planned.map(({ kind }) => kind)), new Set(faultKinds))
  for (const fault of planned) {
    if ('server' in fault) t.ok(fault.server < 3)
    if ('worker' in fault) t.ok(fault.worker < 4)
    t.ok(fault.at < 600_000)
  }
})

t.test('only faults that were asked for come; and what only a Cluster has, only there', async t => {
  t.strictSame(new Set(schedule({ ...options, faults: ['cut', 'move'] }).map(({ kind }) => kind)), new Set(['cut', 'move']))
  t.notOk(schedule({ ...options, tier: 'redis' }).some(({ kind }) => kind === 'move' || kind === 'failover'))
  t.strictSame(schedule({ ...options, tier: 'redis', faults: ['move'] }), [])
  t.strictSame(schedule({ ...options, faults: [] }), [])
})
