import t from 'tap'
import { redlock } from '../../../lib/locks/redlock.js'
import { redis } from '../../../lib/backends/redis.js'
import { eventually, gate } from '../../helpers/doubles.js'
import { recordingProxy } from '../../helpers/recording-proxy.js'
import { clientOf, processOf } from '../../helpers/regions.js'
import { startRedis } from '../../helpers/servers.js'

t.test('round trips to Redis: for a hundred keys as for one', async t => {
  const proxy = await recordingProxy(t, (await startRedis(t)).port)
  const through = clientOf(t, proxy.port)
  for (const name of ['without a lock', 'with a lock']) {
    const lock = name === 'with a lock' ? { lock: redlock([through]) } : {}
    const { region, manager } = await processOf(t, { tiers: [redis(through)], coherence: 'eventual' }, { ...lock, lineLease: '1m' })
    for (const count of [1, 100]) {
      const keys = Array.from({ length: count }, (_, i) => `${count} ${i}`)
      await eventually(t, () => through.status === 'ready', 'connected')
      const begun = gate()
      const held = gate()
      proxy.reset()
      const values = region.getOrCreateMany(keys, async missing => { begun.open(); await held.opened; return [...missing] })
      await begun.opened
      // The first one makes the stamp, too.
      t.equal(proxy.roundTrips, count === 1 || name === 'with a lock' ? 2 : 1, `${name}: ${count} cold, before the loader starts`)

      proxy.pause()
      proxy.reset()
      held.open()
      t.strictSame(await values, keys, 'between the loader and the caller: none')
      t.equal(proxy.roundTrips, 0)
      proxy.resume()
      await manager.idle()
      // The values, the news and the lock, all together.
      t.equal(proxy.roundTrips, 1, `${name}: ${count} written back`)

      proxy.reset()
      t.strictSame(await region.getMany(keys), keys)
      t.equal(proxy.roundTrips, 1, `${count} found`)
      proxy.reset()
      t.strictSame(await region.getOrCreateMany(keys, () => []), keys)
      t.equal(proxy.roundTrips, 1, `${count} found, or else created`)
      proxy.reset()
      await region.deleteMany(keys)
      t.equal(proxy.roundTrips, 1, `${count} deleted, and the other processes told of it`)
    }
  }
})
