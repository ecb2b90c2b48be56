import { randomUUID } from 'node:crypto'
import t from 'tap'
import type { CachingManagerOptions } from '../../../lib/caching-manager.js'
import { redlock } from '../../../lib/locks/redlock.js'
import { memory } from '../../../lib/backends/memory.js'
import { redis } from '../../../lib/backends/redis.js'
import { heldLoad } from '../../helpers/doubles.js'
import { clientOf, processOf, type ProcessOptions } from '../../helpers/regions.js'
import { startRedis } from '../../helpers/servers.js'

const server = await startRedis(t, { shared: true })
const client = clientOf(t, server.port)

for (const [name, options] of Object.entries<() => [ProcessOptions, Partial<CachingManagerOptions>?]>({
  memory: () => [{ tiers: [memory()] }],
  redis: () => [{ tiers: [redis(client)] }],
  'memory + redis with a lock': () => [{ tiers: [memory(), redis(client)] }, { lock: redlock([client]) }],
  'a tier and a lock on two connections': () => [{ tiers: [redis(client)] }, { lock: redlock([clientOf(t, server.port)]) }]
})) {
  t.test(`${name}: when a loader throws, all who wait get its error, nothing is kept, and the next one loads again`, async t => {
    const { region, manager } = await processOf(t, ...options())
    const error = Object.assign(new TypeError('no database'), { code: 'E_DB' })
    const { load, begun, end } = heldLoad(undefined)
    const failing = async () => { await load(); throw error }
    const early = Array.from({ length: 10 }, async () => await region.getOrCreate('alice', failing))
    await begun
    const late = Array.from({ length: 10 }, async () => await region.getOrCreate('alice', failing))
    end()
    const settled = await Promise.allSettled([...early, ...late])
    t.ok(settled.every(one => one.status === 'rejected' && one.reason === error), 'the very same error')
    t.equal(load.calls, 1)
    await manager.idle()
    t.equal(await region.get('alice'), undefined)
    t.equal(await region.getOrCreate('alice', () => 'value'), 'value')

    await t.rejects(region.getOrCreate('bob', async () => await Promise.reject(new Error('again'))), { message: 'again' })
    t.equal(await region.getOrCreate('bob', () => 'value'), 'value')
  })
}

t.test('the stale value of another process is served when the loader fails', async t => {
  const namespace = randomUUID()
  const other = await processOf(t, { tiers: [redis(client)], grace: '1h' }, { namespace })
  await other.region.set('alice', 'old')
  for (const refresh of ['background', 'inline'] as const) {
    const { region, clock, manager } = await processOf(t, { tiers: [memory(), redis(client)], grace: '1h', refresh }, { namespace, lock: redlock([client]) })
    clock.advance(10_000)
    t.equal(await region.getOrCreate('alice', () => { throw new Error('no database') }), 'old', refresh)
    await manager.idle()
  }
})

t.test('a stale value whose grace ended while its loader was failing is not served', async t => {
  const { region, clock } = await processOf(t, { tiers: [memory()], grace: '10s', refresh: 'inline' })
  await region.set('alice', 'old')
  clock.advance(19_999)
  await t.rejects(region.getOrCreate('alice', () => { clock.advance(1); throw new Error('no database') }), { message: 'no database' })
})
