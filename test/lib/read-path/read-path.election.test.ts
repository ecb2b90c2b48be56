import { randomUUID } from 'node:crypto'
import t from 'tap'
import type { DogpileLock } from '../../../lib/locks/lock.js'
import { redlock } from '../../../lib/locks/redlock.js'
import { memory } from '../../../lib/backends/memory.js'
import { redis } from '../../../lib/backends/redis.js'
import { lockThat } from '../../helpers/dogpile.js'
import { eventually, gate, heldLoad } from '../../helpers/doubles.js'
import { clientOf, processOf } from '../../helpers/regions.js'
import { startRedis } from '../../helpers/servers.js'

const server = await startRedis(t, { shared: true })
const client = clientOf(t, server.port)

t.test('who finds the lock held waits for the value of the process that holds it', async t => {
  const namespace = randomUUID()
  const lock = redlock([client])
  const options = { tiers: [memory(), redis(client)] } as const
  const a = await processOf(t, { ...options, tiers: [memory(), redis(client)] }, { namespace, lock })
  const b = await processOf(t, { ...options, tiers: [memory(), redis(client)] }, { namespace, lock: redlock([client]) })
  const { load, begun, end } = heldLoad('value')
  const first = a.region.getOrCreate('alice', load)
  await begun
  const others = b.region.getOrCreateMany(['alice', 'bob'], missing => missing.map(key => `${key} of b`))
  const bob = b.region.getOrCreate('bob', () => 'not called')
  t.equal(await bob, 'bob of b', 'nobody works on this one: it does not wait')
  end()
  t.equal(await first, 'value')
  t.strictSame(await others, ['value', 'bob of b'])
  t.equal(load.calls, 1)
})

t.test('who waits for another process gets the error of its loader', async t => {
  const namespace = randomUUID()
  const a = await processOf(t, { tiers: [memory(), redis(client)] }, { namespace, lock: redlock([client]) })
  const b = await processOf(t, { tiers: [memory(), redis(client)] }, { namespace, lock: redlock([client]) })
  const { load, begun, end } = heldLoad(undefined)
  const first = a.region.getOrCreate('alice', async () => { await load(); throw Object.assign(new RangeError('no database'), { code: 'E_DB' }) })
  await begun
  const second = b.region.getOrCreate('alice', () => t.fail('repeated'))
  await eventually(t, async () => (await client.pubsub('NUMSUB', `{line@0:}${b.region.keyspace.wakeUps}`))[1] === 1, 'it waits')
  end()
  const settled = await Promise.allSettled([first, second])
  t.match(settled, Array(2).fill({ status: 'rejected', reason: { name: 'RangeError', message: 'no database', code: 'E_DB' } }))
})

t.test('who is elected looks again: what another process has filled meanwhile is not loaded', async t => {
  const namespace = randomUUID()
  const other = await processOf(t, { tiers: [redis(client)] }, { namespace })
  const inner = redlock([client])
  const lock = lockThat(async (names, ttl) => {
    await other.region.set('alice', 'of the other')
    return await inner.acquire(names, ttl)
  })
  const { region } = await processOf(t, { tiers: [memory(), redis(client)] }, { namespace, lock })
  t.equal(await region.getOrCreate('alice', () => t.fail('loaded')), 'of the other')
  t.equal(lock.calls.length, 1)
})

t.test('a lock that fails, hangs, or is held for ever fails no read', async t => {
  for (const [name, acquire] of Object.entries<DogpileLock['acquire']>({
    'it rejects': async () => { throw new Error('no quorum') },
    'it throws': () => { throw new Error('broken') },
    'it hangs': async () => await new Promise(() => {}),
    'it is held by somebody who is never heard of': async () => undefined
  })) {
    const lock = lockThat(acquire)
    const { region, manager } = await processOf(t, { tiers: [memory(), redis(client)], tierTimeout: 500, lockTtl: 50, lockWait: 20 }, { lock })
    t.equal(await region.getOrCreate('alice', () => 'value'), 'value', name)
    t.ok(lock.calls.length > 0)
    await manager.idle()
    t.equal(await region.get('alice'), 'value', name)
  }
})

t.test('a stale value waits for nobody: it is served while another process reloads it', async t => {
  for (const refresh of ['background', 'inline'] as const) {
    for (const tiers of [[redis(client)], [memory(), redis(client)]] as const) {
      const lock = lockThat(async () => undefined)
      const { region, manager, clock } = await processOf(t, { tiers, grace: '1h', refresh }, { lock })
      await region.set('alice', 'old')
      clock.advance(10_000)
      for (let i = 0; i < 3; i++) {
        t.equal(await region.getOrCreate('alice', () => t.fail('loaded')), 'old')
        await manager.idle()
      }
      t.equal(lock.calls.length, 1, `${refresh}: and the lock is not asked again at once`)
      clock.advance(100)
      t.equal(await region.getOrCreate('alice', () => t.fail('loaded')), 'old')
      await manager.idle()
      t.equal(lock.calls.length, 2)
    }
  }
})

t.test('a lock is released when its load has ended, however it ended', async t => {
  const held = new Set<string>()
  const lock = lockThat(async names => {
    for (const name of names) held.add(name)
    return { token: 'token', extend: async () => true, release: async () => { for (const name of names) held.delete(name) } }
  })
  const { region, manager } = await processOf(t, { tiers: [redis(client)] }, { lock })
  const endings: Record<string, () => Promise<unknown>> = {
    'with a value': async () => await region.getOrCreate('a', () => 1),
    'with an error': async () => await region.getOrCreate('b', () => { throw new Error('expected') }),
    'with nothing to be kept': async () => await region.getOrCreate('c', () => undefined),
    'with a shouldCache that throws': async () => await region.getOrCreate('d', () => 1, { shouldCache: () => { throw new Error('expected') } }),
    'with tags that throw': async () => await region.getOrCreate('e', () => 1, { tags: () => { throw new Error('expected') } })
  }
  for (const [name, ending] of Object.entries(endings)) {
    await ending().catch(error => t.equal(error.message, 'expected'))
    await manager.idle()
    t.equal(held.size, 0, name)
  }
  t.equal(lock.calls.length, 5)
})

t.test('where the value of another process was invalidated before anybody saw it, it is loaded anew', async t => {
  const namespace = randomUUID()
  const a = await processOf(t, { tiers: [redis(client)] }, { namespace, lock: redlock([client]) })
  const b = await processOf(t, { tiers: [redis(client)] }, { namespace, lock: redlock([client]) })
  const { load, begun, end } = heldLoad('old')
  const first = a.region.getOrCreate('alice', load)
  await begun
  await b.region.delete('alice')
  const second = b.region.getOrCreate('alice', () => 'new')
  end()
  t.equal(await first, 'old')
  t.equal(await second, 'new')
})

t.test('of a batch that somebody else loads a part of, the rest is one load', async t => {
  const namespace = randomUUID()
  for (const locks of [() => redlock([client]), (): DogpileLock => { const { acquire } = redlock([client]); return { acquire: acquire.bind(redlock([client])) } }]) {
    const [mine, theirs] = [await processOf(t, { tiers: [redis(client)] }, { namespace, lock: locks() }), await processOf(t, { tiers: [redis(client)] }, { namespace, lock: locks() })]
    await mine.region.invalidate()
    const keys = (from: number, to: number) => Array.from({ length: to - from }, (_, i) => `k${from + i}`)
    const held = heldLoad(keys(0, 20))
    const first = mine.region.getOrCreateMany(keys(0, 20), held.load)
    await held.begun
    const calls: (readonly string[])[] = []
    const begun = gate()
    const second = theirs.region.getOrCreateMany(keys(15, 60), missing => { calls.push(missing); begun.open(); return missing })
    await begun.opened
    held.end()
    t.strictSame(await second, keys(15, 60))
    t.strictSame(await first, keys(0, 20))
    t.strictSame(calls, [keys(20, 60)])
    for (const { manager } of [mine, theirs]) await manager.close()
  }
})

t.test('what no tier keeps is loaded by each process for itself, and not by one after another', async t => {
  const namespace = randomUUID()
  const full = () => Object.assign(redis(client), { fillMany: async () => { throw new Error('OOM') }, fillUnchanged: async () => { throw new Error('OOM') } })
  const [mine, ...others] = await Promise.all([0, 1, 2].map(async () => await processOf(t, { tiers: [full()] }, { namespace, lock: redlock([clientOf(t, server.port)]) })))
  const held = heldLoad('mine')
  const first = mine!.region.getOrCreate('k', held.load)
  await held.begun
  const loads = others.map(() => heldLoad('theirs'))
  const reads = others.map(({ region }, i) => region.getOrCreate('k', loads[i]!.load))
  await eventually(t, async () => (await client.pubsub('NUMSUB', `{line@0:}{${namespace}:people}:wake-ups`) as unknown[])[1] === 2, 'they wait')
  held.end()
  t.equal(await first, 'mine')
  await Promise.all(loads.map(load => load.begun)) // all of them, before any has ended
  for (const load of loads) load.end()
  t.strictSame(await Promise.all(reads), ['theirs', 'theirs'])
})
