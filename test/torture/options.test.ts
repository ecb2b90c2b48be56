import t from 'tap'
import { defaults, faultKinds, refusal, type TortureOptions } from './options.js'

const refused = (options: Partial<TortureOptions>): string | undefined => refusal({ ...defaults, build: '.', ...options })

t.test('rows: enough for each process to have its own, and no more than the log has numbers for', async t => {
  t.equal(refused({ processes: 4, rows: 8 }), undefined)
  t.equal(refused({ processes: 4, rows: 7 }), '4 processes need 8 rows at least, got 7')
  t.equal(refused({ rows: 10_922 }), undefined)
  t.equal(refused({ rows: 10_923 }), 'the log has room for 10922 rows at most, got 10923')
})

t.test('what only a Cluster has is not asked of another tier; all faults are all that it has', async t => {
  t.equal(refused({ tier: 'redis', faults: ['move', 'cut', 'failover'] }), 'the faults move and failover need the tier cluster, got redis')
  t.equal(refused({ tier: 'cluster', faults: ['move', 'failover'] }), undefined)
  t.equal(refused({ tier: 'memcached', faults: faultKinds }), undefined)
  t.equal(refused({ tier: 'memcached', faults: [] }), undefined)
})

t.test('peers have one Redis', async t => {
  t.equal(refused({ subject: 'bentocache', tier: 'memcached' }), 'peers are tortured over redis, got the tier memcached')
  t.equal(refused({ subject: 'bentocache' }), undefined)
  t.equal(refused({ subject: 'ours, plain', tier: 'memcached' }), undefined)
})
