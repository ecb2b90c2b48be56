import { randomUUID } from 'node:crypto'
import type { Redis } from 'ioredis'
import t from 'tap'
import type { LeasingBackend } from '../../../lib/backends/backend.js'
import type { RegionOptions } from '../../../lib/region-options.js'
import { memory } from '../../../lib/backends/memory.js'
import { redis } from '../../../lib/backends/redis.js'
import { MapBackend } from '../../helpers/backend-doubles.js'
import { eventually, gate, heldLoad } from '../../helpers/doubles.js'
import { recordingProxy } from '../../helpers/recording-proxy.js'
import { clientOf, invalidations, processOf, tags } from '../../helpers/regions.js'
import { startRedis } from '../../helpers/servers.js'

const server = await startRedis(t, { shared: true })
const client = clientOf(t, server.port)

/** The same backend, but for some of its methods. */
const overriding = (backend: LeasingBackend, override: (backend: LeasingBackend) => Partial<LeasingBackend>): LeasingBackend => {
  const overridden = override(backend)
  return new Proxy(backend, {
    get: (_, name) => {
      const member: unknown = Reflect.get(overridden, name) ?? Reflect.get(backend, name, backend)
      return typeof member === 'function' ? member.bind(backend) : member
    }
  })
}

t.test('what was read from a tier before it was invalidated does not stay in a nearer one', async t => {
  for (const [invalidation, invalidate] of Object.entries(invalidations)) {
    // A tier of three methods answers in no order: here, it answers the read after the deletion that came later.
    const slow = new MapBackend()
    const { region, manager } = await processOf(t, { tiers: [memory(), slow] })
    await region.set('alice', 'old', { tags })
    const deleting = gate()
    const read = gate()
    const answer = gate()
    slow.beforeDelete = () => deleting.opened
    slow.afterRead = async () => { read.open(); await answer.opened }
    const invalidated = invalidate(region)
    const found = region.get('alice')
    await read.opened
    deleting.open()
    await invalidated
    answer.open()
    t.ok([undefined, 'old'].includes(await found as string | undefined), `${invalidation}: who began before it ended may still see it`)
    await manager.idle()
    t.equal(await region.get('alice'), undefined, invalidation)
  }
})

for (const [invalidation, invalidate] of Object.entries(invalidations)) {
  t.test(`what is copied from a far tier to a nearer one is not what ${invalidation} has forgotten`, async t => {
    const far = clientOf(t, (await startRedis(t)).port)
    const namespace = randomUUID()
    const tiers = (farther: Redis): RegionOptions['tiers'] => [redis(client), redis(farther)]
    const other = await processOf(t, { tiers: tiers(far) }, { namespace })

    for (const invalidator of ['this process', 'another process']) {
      const proxy = await recordingProxy(t, far.options.port!)
      const { region, manager } = await processOf(t, { tiers: tiers(clientOf(t, proxy.port)) }, { namespace })
      await region.set('alice', 'old', { tags })
      await client.unlink(`${namespace}:people:k:alice`)
      proxy.pause('replies')
      proxy.reset()
      const found = region.get('alice')
      await eventually(t, () => proxy.commands.includes('mget'), 'the far tier is asked')
      if (invalidator === 'this process') {
        const invalidated = invalidate(region)
        // The answer to the read comes first: the connection keeps its order.
        proxy.resume()
        await invalidated
      } else {
        await eventually(t, async () => await far.ping() === 'PONG', 'the far tier has answered')
        await invalidate(other.region)
        proxy.resume()
      }
      await found
      await manager.idle()
      t.equal(await region.get('alice'), undefined, invalidator)
      t.equal(await other.region.get('alice'), undefined, invalidator)
      await manager.close()
    }
  })
}

t.test('what one answer of a far tier brings is copied to a nearer one together', async t => {
  const far = new MapBackend('far')
  const near = new MapBackend('near')
  const { region, manager } = await processOf(t, { tiers: [near, far] })
  const keys = Array.from({ length: 100 }, (_, i) => `k${i}`)
  await region.setMany(keys.map(key => [key, key] as const))
  near.kept.clear()
  near.reads.length = far.reads.length = 0
  t.strictSame(await region.getMany(keys), keys)
  await manager.idle()
  t.equal(near.reads.length, 2, 'asked for, and claimed')
  t.equal(far.reads.length, 2, 'asked for, and once more for the copy')
  far.kept.clear()
  t.strictSame(await region.getMany(keys), keys, 'the nearer one has them all')
})

t.test('what a far tier is about to forget, or has just forgotten, does not stay in a nearer one', async t => {
  const prepared = async () => {
    const far = new MapBackend('far')
    const namespace = randomUUID()
    const { region, manager } = await processOf(t, { tiers: [redis(client), far] }, { namespace })
    const other = await processOf(t, { tiers: [redis(client), far] }, { namespace })
    await region.set('alice', 'old')
    await client.unlink(`${namespace}:people:k:alice`)
    return { far, region, manager, other }
  }
  const between = await prepared()
  let reads = 0
  // The second look at the far tier is the one that is copied; its answer is late.
  between.far.afterRead = async () => { if (++reads === 2) await between.other.region.delete('alice') }
  await between.region.get('alice')
  await between.manager.idle()
  t.ok(reads >= 2)
  t.equal(await between.region.get('alice'), undefined, 'just forgotten')

  const before = await prepared()
  const asked = gate()
  const held = gate()
  before.far.beforeDelete = async () => { asked.open(); await held.opened }
  const deleted = before.other.region.delete('alice')
  await asked.opened
  await client.ping()
  t.equal(await before.region.get('alice'), 'old', 'it began before')
  await before.manager.idle()
  held.open()
  await deleted
  t.equal(await before.region.get('alice'), undefined, 'about to forget')
})

t.test('what is refreshed or set is not lost to a copy of what a far tier held until then', async t => {
  const namespace = randomUUID()
  const other = clientOf(t, server.port)
  const process = () => processOf(t, { tiers: [redis(client, { keyPrefix: 'near:' }), redis(other, { keyPrefix: 'far:' })] }, { namespace })
  const [a, b, c] = [await process(), await process(), await process()]
  const { load, begun, end } = heldLoad('new')
  const [mine, theirs, others] = [a, b, c].map(({ region }) => region.wrap('value', load))
  await mine!.set('old')
  const near = await client.keys(`near:${namespace}:people:f:*`)
  t.equal(near.length, 1)
  await client.unlink(...near)
  const refreshed = mine!.refresh()
  await begun
  t.equal(await theirs!.get(), 'old')
  await b.manager.idle()
  end()
  t.equal(await refreshed, 'new')
  t.equal(await others!.get(), 'new')
})

t.test('a set is not lost to a copy of an older value, where another process forgets what it could not set in the nearer tier', async t => {
  const namespace = randomUUID()
  const other = clientOf(t, server.port)
  const near = () => redis(client, { keyPrefix: 'near:' }) as LeasingBackend
  const far = () => redis(other, { keyPrefix: 'far:' }) as LeasingBackend
  const process = (tiers: RegionOptions['tiers']) => processOf(t, { tiers }, { namespace })
  const deletion = { begun: gate(), end: gate() }
  const write = { begun: gate(), end: gate() }
  /** Can't fill the nearer tier, and forgets there what it could not replace, but late. */
  const first = await process([overriding(near(), backend => ({
    fillMany: async () => { throw new Error('the connection is lost') },
    forgetMany: async (...args) => {
      deletion.begun.open()
      await deletion.end.opened
      await backend.forgetMany(...args)
    }
  })), far()])
  /** Takes its time to fill the farther one. */
  const second = await process([near(), overriding(far(), backend => ({
    fillMany: async entries => {
      write.begun.open()
      await write.end.opened
      return await backend.fillMany(entries)
    }
  }))])
  const third = await process([near(), far()])
  await third.region.set('alice', 'oldest')
  const firstSet = first.region.set('alice', 'older')
  await deletion.begun.opened
  const secondSet = second.region.set('alice', 'newer')
  await write.begun.opened
  deletion.end.open()
  await firstSet
  await third.region.get('alice')
  await third.manager.idle()
  write.end.open()
  await secondSet
  t.equal(await third.region.get('alice'), 'newer')
})

t.test('a value that a far tier has is copied into the nearer ones', async t => {
  const far = new MapBackend('far')
  const namespace = randomUUID()
  const { region, manager } = await processOf(t, { tiers: [memory(), redis(client), far] }, { namespace })
  await region.setMany([['alice', 1], ['bob', 2]])
  await client.unlink(`${namespace}:people:k:alice`, `${namespace}:people:k:bob`)
  const second = await processOf(t, { tiers: [memory(), redis(client), far] }, { namespace })
  t.strictSame(await second.region.getMany(['alice', 'bob']), [1, 2])
  await second.manager.idle()
  far.reads.length = 0
  t.strictSame(await second.region.getMany(['alice', 'bob']), [1, 2], 'from memory')
  const third = await processOf(t, { tiers: [redis(client)] }, { namespace })
  t.strictSame(await third.region.getMany(['alice', 'bob']), [1, 2], 'from Redis')
  t.strictSame(far.reads, [])
  await manager.idle()

  // A memory may be the far one, for what a nearer tier can't keep.
  let refused: unknown = 'never'
  const odd = await processOf(t, { tiers: [redis(client), memory()], serializer: { encode: value => { if (value === refused) throw new TypeError('never'); return Buffer.from(JSON.stringify(value)) }, decode: bytes => JSON.parse(Buffer.from(bytes).toString()) } })
  await odd.region.set('alice', 'a')
  await client.unlink(`${odd.region.keyspace.prefix}k:alice`)
  t.equal(await odd.region.get('alice'), 'a')
  await odd.manager.idle()
  t.equal(await client.exists(`${odd.region.keyspace.prefix}k:alice`), 1)
  await t.rejects(odd.region.set('bob', 'never'), { message: 'never' })
  t.equal(await odd.region.get('bob'), undefined, 'what a tier refuses is in none')
  refused = 'a'
  await client.unlink(`${odd.region.keyspace.prefix}k:alice`)
  t.equal(await odd.region.get('alice'), 'a')
  await odd.manager.idle()
  t.equal(await client.exists(`${odd.region.keyspace.prefix}k:alice`), 0, 'nothing')
  t.equal(await odd.region.get('alice'), 'a')
})
