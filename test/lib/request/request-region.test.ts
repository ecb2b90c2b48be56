import t, { type Test } from 'tap'
import { CachingManager } from '../../../lib/caching-manager.js'
import { RequestRegion } from '../../../lib/request/request-region.js'
import type { RegionOptions } from '../../../lib/region-options.js'
import { memory } from '../../../lib/backends/memory.js'
import { fakeClock, gate, type FakeClock } from '../../helpers/doubles.js'

function managerOf (t: Pick<Test, 'teardown'>, region: Partial<RegionOptions> = {}, clock: FakeClock = fakeClock()): CachingManager {
  const manager = new CachingManager({ regions: { objects: { tiers: [memory()], ttl: '1m', jitter: 0, ...region } }, now: clock.now })
  t.teardown(() => manager.close())
  return manager
}

t.test('a request\'s region is what its region(name) gives', async t => {
  t.type(managerOf(t).createApi().region('objects'), RequestRegion)
})

t.test('the same key of a request\'s region gives the same promise and the same object', async t => {
  const region = managerOf(t).createApi().region('objects')
  await region.set('known', { a: 1 })
  const first = region.get('known')
  t.equal(region.get('known'), first)
  const made = region.getOrCreate('new', () => ({ b: 1 }))
  t.equal(region.getOrCreate('new', () => ({ b: 2 })), made)
  const value = await made
  t.strictSame(value, { b: 1 })
  t.equal(await region.get('new'), value)
  t.equal((await region.getMany(['new', 'new']))[1], value)
  t.equal((await region.getOrCreateMany(['new'], () => [{ b: 3 }]))[0], value)
})

t.test('a request\'s region sees its own writes and deletes at once, before the tiers have them', async t => {
  const region = managerOf(t).createApi().region('objects')
  await region.getOrCreate('k', () => 'old')
  const written = region.set('k', 'new')
  t.equal(await region.get('k'), 'new')
  await written
  const deleted = region.delete('k')
  t.equal(await region.get('k'), undefined)
  await deleted
  await region.setMany([['a', 1], ['b', 2]])
  t.strictSame(await region.getMany(['a', 'b']), [1, 2])
  await region.deleteMany(['a', 'b'])
  t.strictSame(await region.getMany(['a', 'b']), [undefined, undefined])
})

t.test('a request\'s region sees what it writes though the tiers don\'t have it yet; not what could not be written', async t => {
  const held = gate()
  const inner = memory()
  const slow = { name: 'slow', getMany: inner.getMany.bind(inner), setMany: async () => { await held.opened }, deleteMany: inner.deleteMany.bind(inner) }
  const region = managerOf(t, { tiers: [slow], tierTimeout: '20s' }).createApi().region('objects')
  const written = region.set('k', { a: 1 })
  const seen = await region.get('k')
  t.strictSame(seen, { a: 1 })
  held.open()
  await written
  t.equal(await region.get('k'), seen)
  await t.rejects(region.set('other', undefined), { code: 'FST_CACHING_API_INVALID_ARGUMENT' })
  const other = await region.getOrCreate('other', () => ({ made: true }))
  t.strictSame(other, { made: true })
})

t.test('what could not be written leaves what the request has read', async t => {
  const refusing = { encode: () => { throw new Error('not this') }, decode: () => undefined }
  const inner = memory()
  const files = { name: 'files', getMany: inner.getMany.bind(inner), setMany: inner.setMany.bind(inner), deleteMany: inner.deleteMany.bind(inner) }
  const region = managerOf(t, { tiers: [files], serializer: refusing, tierTimeout: '20s' }).createApi().region('objects')
  const read = await region.getOrCreate('k', () => ({ v: 'read' }))
  await t.rejects(region.setMany([['k', { v: 'written' }], ['k', { v: 'again' }], ['unread', { v: 'written' }]]), { message: 'not this' })
  await t.rejects(region.setMany([['unread', { v: 'written' }], ['k', undefined as never]]), { code: 'FST_CACHING_API_INVALID_ARGUMENT' })
  t.equal(await region.get('k'), read)
  t.equal(await region.get('unread'), undefined)
  for (let later = 0; later < 8; later++) {
    const failing = region.getOrCreate('failing', () => { throw new Error('away') })
    const looking = region.get('missing')
    for (let i = 0; i < later; i++) await Promise.resolve()
    const refused = t.rejects(region.setMany([['failing', { v: 'written' }], ['missing', { v: 'written' }]]), { message: 'not this' })
    await Promise.all([t.rejects(failing, { message: 'away' }), looking, refused])
    await new Promise(setImmediate)
    t.strictSame(await Promise.all([region.getOrCreate('failing', () => later), region.getOrCreate('missing', () => later)]), [later, later], 'a failure is not remembered, nor is no value')
    await region.deleteMany(['failing', 'missing'])
  }
  await Promise.all([t.rejects(region.set('k', { v: 'written' }), { message: 'not this' }), region.delete('k')])
  t.equal(await region.get('k'), undefined, 'unless it was deleted meanwhile')
})

t.test('what becomes of one key of many is nothing to the others', async t => {
  const manager = managerOf(t)
  await manager.region('objects').set('a', 'there')
  const [region, held] = [manager.createApi().region('objects'), gate()]
  const all = region.getOrCreateMany(['a', 'b', 'c'], async keys => {
    await held.opened
    return keys
  }, { tags: value => { if (value === 'b') throw new Error('no tags'); return [] } })
  all.catch(() => {})
  t.equal(await region.get('a'), 'there', 'before the others are')
  held.open()
  await t.rejects(all, { message: 'no tags' })
  t.strictSame(await region.getMany(['a', 'c']), ['there', 'c'])
  t.equal(await region.getOrCreate('b', () => 'again'), 'again')
})

t.test('a creator that waits for its own key by the request gets an error', async t => {
  const manager = managerOf(t)
  const region = manager.createApi().region('objects')
  const reentrant = { code: 'FST_CACHING_API_REENTRANT_LOAD' }
  await t.rejects(region.getOrCreate('a', async () => await region.getOrCreate('a', () => 1)), reentrant)
  await t.rejects(region.getOrCreate('a', async () => await region.get('a')), reentrant)
  await t.rejects(region.getOrCreate('b', async () => await region.getOrCreate('c', async () => await region.getOrCreate('b', () => 1))), reentrant)
  // Each waits for what the other one was already waiting for.
  const [one, two] = [gate(), gate()]
  const x = region.getOrCreate('x', async () => { one.open(); await two.opened; return await region.getOrCreate('y', () => 'never') })
  const y = region.getOrCreate('y', async () => { two.open(); await one.opened; return await region.getOrCreate('x', () => 'never') })
  const ended = await Promise.allSettled([x, y])
  t.match(ended.map(one => one.status === 'rejected' ? one.reason.code : one.value), [reentrant.code, reentrant.code])
  t.equal(await region.getOrCreate('own', async () => {
    const written = region.set('own', 'written')
    const read = await region.get('own')
    await written
    return read
  }), 'written', 'nor is what it has written itself under way')
  t.equal(await region.getOrCreate('d', async () => await region.getOrCreate('e', () => 5)), 5, 'another key is none of that')
  t.equal(await region.getOrCreate('f', async () => { await region.getOrCreate('e', () => 6); return 6 }), 6)
})

t.test('a request\'s region sees nobody else\'s writes and deletes', async t => {
  const manager = managerOf(t)
  const mine = manager.createApi().region('objects')
  const seen = await mine.getOrCreate('k', () => ({ from: 'me' }))
  await manager.createApi().region('objects').set('k', { from: 'another request' })
  t.equal(await mine.get('k'), seen)
  await manager.region('objects').delete('k')
  t.equal(await mine.get('k'), seen)
})

t.test('what a request\'s region writes, others read', async t => {
  const manager = managerOf(t)
  const region = manager.createApi().region('objects')
  await region.set('k', 1)
  await region.setMany(new Map([['m', 2]]))
  t.strictSame(await manager.region('objects').getMany(['k', 'm']), [1, 2])
})

t.test('what a request\'s region has written is read back as anybody reads it', async t => {
  class Point { x = 1 }
  const manager = managerOf(t)
  const region = manager.createApi().region('objects')
  const list = [1]
  const given = { list, point: new Point() }
  await region.set('k', given)
  list.push(2)
  const mine = await region.get<typeof given>('k')
  t.strictSame(mine, await manager.region('objects').get('k'))
  t.strictSame(mine, { list: [1], point: { x: 1 } })
  t.equal(await region.get('k'), mine)
})

t.test('"no value" is not remembered: the next read asks again', async t => {
  const manager = managerOf(t)
  const region = manager.createApi().region('objects')
  t.equal(await region.get('k'), undefined)
  await manager.region('objects').set('k', 1)
  t.equal(await region.get('k'), 1)
  let made = 0
  t.equal(await region.getOrCreate('u', () => { made++ }), undefined)
  t.equal(await region.getOrCreate('u', () => { made++ }), undefined)
  t.equal(made, 2)
})

t.test('null is a value, and remembered as one', async t => {
  const region = managerOf(t).createApi().region('objects')
  t.equal(await region.getOrCreate('k', () => null), null)
  t.equal(await region.getOrCreate<unknown>('k', () => 1), null)
})

t.test('a creator that fails is not remembered: the next read tries again', async t => {
  const region = managerOf(t).createApi().region('objects')
  const error = new Error('no')
  t.equal(await region.getOrCreate('k', () => { throw error }).catch(reason => reason), error)
  t.equal(await region.getOrCreate('k', () => 'yes'), 'yes')
  await t.rejects(region.getOrCreateMany(['a', 'b'], () => { throw error }), error)
  t.strictSame(await region.getOrCreateMany(['a', 'b'], () => [1, 2]), [1, 2])
})

t.test('a look that is under way does not keep the creator from being called', async t => {
  const region = managerOf(t).createApi().region('objects')
  const [looked, made] = await Promise.all([region.get('k'), region.getOrCreate('k', () => 1)])
  t.strictSame([looked, made], [undefined, 1])
  t.equal(await region.get('k'), 1)
  const [lookedAt, madeOf] = await Promise.all([region.getMany(['a', 'b']), region.getOrCreateMany(['a', 'b'], missing => missing)])
  t.strictSame([lookedAt, madeOf], [[undefined, undefined], ['a', 'b']])
  t.strictSame(await region.getMany(['a', 'b']), ['a', 'b'])
})

t.test('a value that is being created is what a look gives', async t => {
  const door = gate()
  const region = managerOf(t).createApi().region('objects')
  const made = region.getOrCreate('k', async () => { await door.opened; return 1 })
  const looked = region.get('k')
  door.open()
  t.equal(await made, 1)
  t.equal(await looked, 1)
})

t.test('getOrCreateMany asks the creator only for what this request and the tiers don\'t have, each key once', async t => {
  const manager = managerOf(t)
  await manager.region('objects').set('there', 'there')
  const region = manager.createApi().region('objects')
  await region.getOrCreate('here', () => 'here')
  const asked: string[][] = []
  const create = (missing: readonly string[]) => { asked.push([...missing]); return missing.map(key => `made ${key}`) }
  t.strictSame(await region.getOrCreateMany(['a', 'here', 'b', 'there', 'a'], create), ['made a', 'here', 'made b', 'there', 'made a'])
  t.strictSame(await region.getOrCreateMany(['a', 'b'], create), ['made a', 'made b'])
  t.strictSame(asked, [['a', 'b']])
})

t.test('a write that fails is not remembered', async t => {
  const region = managerOf(t).createApi().region('objects')
  await region.set('k', 'old')
  await t.rejects(region.set('k', () => {}), { code: 'FST_CACHING_API_INVALID_ARGUMENT' })
  await t.rejects(region.set('k', undefined), { code: 'FST_CACHING_API_INVALID_ARGUMENT' })
  t.equal(await region.get('k'), 'old')
})

t.test('options reach the region: maxAge, ttl, shouldCache', async t => {
  const clock = fakeClock()
  const manager = managerOf(t, {}, clock)
  await manager.createApi().region('objects').set('k', 'old', { ttl: '1h' })
  clock.advance(10 * 60_000)
  t.equal(await manager.createApi().region('objects').get('k'), 'old')
  t.equal(await manager.createApi().region('objects').get('k', { maxAge: 1000 }), undefined)
  t.strictSame(await manager.createApi().region('objects').getMany(['k'], { maxAge: 1000 }), [undefined])
  t.equal(await manager.createApi().region('objects').getOrCreate('k', () => 'new', { maxAge: 1000, shouldCache: () => false }), 'new')
  await manager.idle()
  t.equal(await manager.createApi().region('objects').get('k'), 'old')
})

t.test('reads of a request\'s region are part of the request\'s stats', async t => {
  const manager = managerOf(t)
  await manager.region('objects').set('k', 1)
  const api = manager.createApi()
  const region = api.region('objects')
  await region.get('k')
  await region.get('k')
  await region.getOrCreate('new', () => 1)
  await region.getOrCreateMany(['new', 'k', 'a', 'a'], missing => missing)
  t.match(api.stats, { local: 4, tiers: { memory: 1 }, loaded: 2, loads: 2, waited: 0 })
})

t.test('keys that are no array are refused', async t => {
  const region = managerOf(t).createApi().region('objects')
  for (const keys of ['abc', undefined, null, { length: 1, 0: 'a' }, new Set(['a'])]) {
    const refused = { code: 'FST_CACHING_API_INVALID_ARGUMENT', message: /keys must be an array of strings/ }
    await t.rejects(region.getMany(keys as never), refused)
    await t.rejects(region.getOrCreateMany(keys as never, () => []), refused)
    await t.rejects(region.deleteMany(keys as never), refused)
  }
  await t.rejects(region.get(1 as never), { code: 'FST_CACHING_API_INVALID_ARGUMENT' })
  await t.rejects(region.getMany([1] as never), { code: 'FST_CACHING_API_INVALID_ARGUMENT' })
})
