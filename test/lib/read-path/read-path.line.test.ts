import { randomUUID } from 'node:crypto'
import t from 'tap'
import { CachingManager } from '../../../lib/caching-manager.js'
import type { Line } from '../../../lib/line.js'
import { memory } from '../../../lib/backends/memory.js'
import { redis } from '../../../lib/backends/redis.js'
import { MapBackend } from '../../helpers/backend-doubles.js'
import { echoingLine, heldLoad } from '../../helpers/doubles.js'
import { clientOf, processOf } from '../../helpers/regions.js'
import { startRedis } from '../../helpers/servers.js'

const client = clientOf(t, (await startRedis(t, { shared: true })).port)

t.test('a line that can not be heard costs a warning, one that takes no news nothing', async t => {
  const line: Line = {
    publish: async () => { throw new Error('no line') },
    listen: async () => { throw new Error('no line') },
    reconnect: () => {},
    catchUp: async () => { throw new Error('no line') },
    close: async () => {}
  }
  const { region, logger } = await processOf(t, { tiers: [memory(), redis(client)] }, { bus: line })
  t.match(logger.lines.warn, [{ message: /invalidations of other processes can not be heard/ }])
  await region.set('alice', 1)
  await t.rejects(region.delete('alice'), { code: 'FST_CACHING_API_INVALIDATION_PENDING', message: /^The line to other processes could not be told to forget a key/ })
  t.equal(await region.get('alice'), undefined)
})

t.test('when the line was interrupted, memory starts empty', async t => {
  const { line, interrupt } = echoingLine()
  const backend = new MapBackend()
  const { region } = await processOf(t, { tiers: [memory(), backend] }, { bus: line })
  await region.set('alice', 'old')
  const { load, begun, end } = heldLoad('old')
  const first = region.getOrCreate('bob', load)
  await begun
  backend.kept.clear()
  interrupt()
  t.equal(await region.get('alice'), undefined)
  t.equal(await region.getOrCreate('bob', () => 'new'), 'new', 'and nobody joins what began before')
  end()
  t.equal(await first, 'old')
})

t.test('a memory behind another tier is not believed either while the line is lost', async t => {
  const { line, interrupt } = echoingLine()
  let lost = false
  const bus: Line = { ...line, catchUp: async () => { if (lost) throw new Error('no line') } }
  const backend = new MapBackend()
  const { region, manager } = await processOf(t, { tiers: [backend, memory()] }, { bus })
  await region.getOrCreate('alice', () => 1)
  await manager.idle()
  backend.kept.clear()
  t.equal(await region.get('alice'), 1, 'memory has it')
  lost = true
  interrupt()
  await region.getOrCreate('bob', () => 2)
  await manager.idle()
  backend.kept.clear()
  t.equal(await region.get('bob'), undefined)
})

t.test('what is wanted before a process hears of the others is one load, however it began', async t => {
  for (const coherence of ['acknowledged', 'eventual'] as const) {
    for (const tiers of [[redis(client)], [memory(), redis(client)]] as const) {
      for (let isSoon = false; !isSoon;) {
        const manager = new CachingManager({ namespace: randomUUID(), regions: { people: { tiers, ttl: '10s', tierTimeout: '20s', coherence } } })
        t.teardown(() => manager.close())
        const began = performance.now()
        const ready = manager.ready().then(() => performance.now() - began)
        const { load, begun, end } = heldLoad('value')
        const first = manager.region('people').getOrCreate('alice', load)
        await begun
        const second = manager.region('people').getOrCreate('alice', load)
        end()
        t.strictSame(await Promise.all([first, second]), ['value', 'value'])
        isSoon = await ready < 100 // later, flights depart without it, and are joined by nobody
        if (isSoon) t.equal(load.calls, 1)
      }
    }
  }
})

t.test('a line that can not be heard holds up the first reads for tierTimeout, and no others', async t => {
  const deaf = { publish: async () => {}, listen: async () => await new Promise<never>(() => {}), reconnect: () => {}, catchUp: async () => {}, close: async () => {} }
  const manager = new CachingManager({ bus: deaf, regions: { people: { tiers: [new MapBackend()], ttl: '10s', tierTimeout: 50 } } })
  t.teardown(() => manager.close())
  t.equal(await manager.region('people').getOrCreate('alice', () => 1), 1)
  t.equal(await manager.region('people').getOrCreate('bob', () => 2), 2)
})
