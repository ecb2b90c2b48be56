import { Redis } from 'ioredis'
import t from 'tap'
import { isLine } from '../../lib/line.js'
import { redisBus } from '../../lib/backends/redis.js'

t.test('a bus is what publishes, listens and closes', async t => {
  const client = new Redis({ lazyConnect: true })
  t.teardown(() => client.disconnect())
  t.ok(isLine(redisBus(client)))
  t.ok(isLine({ publish () {}, listen () {}, reconnect () {}, catchUp () {}, close () {} }))
})

t.test('what lacks any of that is no bus', async t => {
  for (const other of [undefined, null, 'line', () => {}, {}, { publish () {}, listen () {} }, { publish () {}, close () {} }, { listen () {}, close () {} }, { publish () {}, listen () {}, close () {} }]) {
    t.notOk(isLine(other))
  }
})
