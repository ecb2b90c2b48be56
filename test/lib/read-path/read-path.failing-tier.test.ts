import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import t from 'tap'
import { redlock } from '../../../lib/locks/redlock.js'
import type { Backend, LocalBackend } from '../../../lib/backends/backend.js'
import { memory } from '../../../lib/backends/memory.js'
import { redis, redisBus } from '../../../lib/backends/redis.js'
import { MapBackend } from '../../helpers/backend-doubles.js'
import { eventually, heldLoad } from '../../helpers/doubles.js'
import { recordingProxy } from '../../helpers/recording-proxy.js'
import { clientOf, invalidations, processOf, tags } from '../../helpers/regions.js'
import { startRedis } from '../../helpers/servers.js'

const client = clientOf(t, (await startRedis(t, { shared: true })).port)

t.test('a tier that throws, answers wrongly or hangs counts as missing', async t => {
  const refuse = async (): Promise<never> => { throw new Error('out of order') }
  const hang = async () => await new Promise<never>(() => {})
  const broken: Record<string, Backend> = {
    throws: { name: 'own', getMany: refuse, setMany: refuse, deleteMany: refuse },
    hangs: { name: 'own', getMany: hang, setMany: hang, deleteMany: hang },
    'answers too little': { name: 'own', getMany: async () => [], setMany: async () => {}, deleteMany: async () => {} },
    'answers nonsense': { name: 'own', getMany: async keys => keys.map(() => Buffer.from('nonsense')), setMany: async () => {}, deleteMany: async () => {} }
  }
  for (const [name, backend] of Object.entries(broken)) {
    const far = new MapBackend('far')
    const { region, manager } = await processOf(t, { tiers: [memory(), backend, far], tierTimeout: 50 })
    t.equal(await region.getOrCreate('alice', () => 'value'), 'value', name)
    t.equal(await region.get('alice'), 'value', `${name}: memory has it`)
    await manager.idle()
    t.ok(far.kept.has(`${region.keyspace.prefix}k:alice`), `${name}: and the far tier`)
    await region.set('alice', 'set')
    t.equal(await region.get('alice'), 'set')
    t.strictSame(await region.getMany(['bob']), [undefined])
  }
})

t.test('a deletion that a tier could not take is done here, rejects, and reaches the tier when it is back', async t => {
  const redisServer = await startRedis(t)
  const proxy = await recordingProxy(t, redisServer.port)
  const direct = clientOf(t, redisServer.port)
  const through = clientOf(t, proxy.port)
  for (const [invalidation, invalidate] of Object.entries(invalidations)) {
    const { region, logger } = await processOf(t, { tiers: [memory(), redis(through)] })
    await region.set('alice', 'old', { tags })
    const other = await processOf(t, { tiers: [redis(direct)] }, { namespace: region.keyspace.prefix.split(':')[0]! })
    t.equal(await other.region.get('alice'), 'old')

    await proxy.cut()
    await t.rejects(invalidate(region), { code: 'FST_CACHING_API_INVALIDATION_PENDING', statusCode: 503, message: /^Tier redis could not be told to forget / }, invalidation)
    t.equal(await region.get('alice'), undefined, 'done here')
    await proxy.restore()
    await eventually(t, async () => {
      assert.equal(await region.get('alice'), undefined, 'never believed meanwhile')
      return await other.region.get('alice') === undefined
    }, `${invalidation} reaches the tier`)
    await eventually(t, () => logger.lines.info.some(({ message }) => message === 'invalidations were replayed'), 'and the log tells')
    t.equal(await region.getOrCreate('alice', () => 'new'), 'new')
    await region.set('alice', 'newer')
    t.equal(await other.region.get('alice'), 'newer', 'from now on it is believed again')
  }
})

t.test('what a refresh could not replace in a tier is not found there when the tier is back', async t => {
  const proxy = await recordingProxy(t, (await startRedis(t)).port)
  const { region } = await processOf(t, { tiers: [redis(clientOf(t, proxy.port))], tierTimeout: '1s' })
  const { load, begun, end } = heldLoad('new')
  let fn: () => string | Promise<string> = () => 'old'
  const wrapped = region.wrap('fn', () => fn())
  t.equal(await wrapped(), 'old')
  fn = load
  const refreshed = wrapped.refresh()
  await begun
  await proxy.cut()
  end()
  t.equal(await refreshed, 'new')
  await proxy.restore()
  fn = () => 'newer'
  await eventually(t, async () => {
    const value = await wrapped()
    assert.notEqual(value, 'old')
    return proxy.connections > 0
  }, 'the old one is gone')
  t.not(await wrapped(), 'old')
})

t.test('what another process has found in a tier that could not be told yet, it forgets when the tier has been told', async t => {
  const redisServer = await startRedis(t)
  const proxy = await recordingProxy(t, redisServer.port)
  const direct = clientOf(t, redisServer.port)
  const namespace = randomUUID()
  const a = await processOf(t, { tiers: [memory(), redis(clientOf(t, proxy.port))] }, { namespace, bus: redisBus(direct) })
  const b = await processOf(t, { tiers: [memory(), redis(direct)] }, { namespace, bus: redisBus(direct) })
  await b.region.set('alice', 'old')
  await proxy.cut()
  await t.rejects(a.region.delete('alice'), { code: 'FST_CACHING_API_INVALIDATION_PENDING' })
  t.equal(await b.region.get('alice'), 'old', 'it is there still, and in memory again')
  await proxy.restore()
  await eventually(t, async () => await b.region.get('alice') === undefined, 'the other process forgets it')
})

t.test('a Redis that is killed costs no read; what was invalidated is replayed when it is there again', async t => {
  const redisServer = await startRedis(t)
  const own = clientOf(t, redisServer.port)
  const { region, logger, manager } = await processOf(t, { tiers: [memory(), redis(own)] }, { lock: redlock([own]) })
  await region.set('alice', 1)
  await redisServer.kill()
  await eventually(t, () => own.status === 'reconnecting', 'the connection is lost')
  t.equal(await region.getOrCreate('bob', () => 2), 2)
  t.equal(await region.getOrCreate('carol', () => 3), 3)
  await t.rejects(region.deleteMany(['alice', 'bob']), { code: 'FST_CACHING_API_INVALIDATION_PENDING' })
  await t.rejects(region.invalidate(), { code: 'FST_CACHING_API_INVALIDATION_PENDING', message: /the region/ })
  t.strictSame(await region.getMany(['alice', 'bob']), [undefined, undefined])
  await redisServer.start()
  await eventually(t, () => logger.lines.info.some(({ message }) => message === 'invalidations were replayed'), 'replayed')
  await eventually(t, async () => {
    await region.set('dan', 4)
    await manager.idle()
    return await own.exists(`${region.keyspace.prefix}k:dan`) === 1
  }, 'it is used again')
})

t.test('a memory that throws where a found value lands ends neither the process nor what is loading besides', async t => {
  const broken = Object.assign(memory() as LocalBackend, { setEntry: () => { throw new Error('no room') } })
  const far = new MapBackend()
  const namespace = randomUUID()
  const other = await processOf(t, { tiers: [far] }, { namespace })
  await other.region.set('found', 1)
  const { region, manager } = await processOf(t, { tiers: [broken, far] }, { namespace })
  const { load, begun, end } = heldLoad(2)
  const reads = Promise.allSettled([region.get('found'), region.getOrCreate('missing', load)])
  await begun
  let idle = false
  const settled = manager.idle().then(() => { idle = true })
  for (let i = 0; i < 5; i++) await new Promise(setImmediate)
  t.notOk(idle, 'it is waited for')
  end()
  await settled
  t.strictSame((await reads).map(({ status }) => status), ['rejected', 'rejected'])
})

t.test('nobody waits for ever for something that is broken', async t => {
  let broken = false
  const now = () => { if (broken) throw new Error('no clock'); return 0 }
  const { region, manager } = await processOf(t, { tiers: [redis(client)] }, { now })
  await region.set('alice', 1)
  broken = true
  await t.rejects(region.get('alice'), { message: 'no clock' })
  await t.rejects(region.getOrCreate('bob', () => 1), { message: 'no clock' })
  broken = false
  await manager.idle()
  t.equal(await region.getOrCreate('bob', () => 2), 2)
})
