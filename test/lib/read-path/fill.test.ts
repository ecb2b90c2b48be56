import t from 'tap'
import { cachedObject, loadMany, loadOne } from '../../../lib/cached-object.js'
import { CachingManager } from '../../../lib/caching-manager.js'
import { msgpackSerializer } from '../../../lib/serializer.js'
import { UnstorableError, type Backend } from '../../../lib/backends/backend.js'
import { memory } from '../../../lib/backends/memory.js'
import { gate, silentLogger } from '../../helpers/doubles.js'

interface User { id: number, name: string }

const alice: User = { id: 1, name: 'alice' }

/** A shared tier of three methods, and what it holds. */
function inMap (): Backend & { readonly map: Map<string, Uint8Array> } {
  const map = new Map<string, Uint8Array>()
  return {
    name: 'map',
    map,
    getMany: async keys => keys.map(key => map.get(key)),
    setMany: async entries => { for (const { key, value } of entries) map.set(key, value) },
    deleteMany: async keys => { for (const key of keys) map.delete(key) }
  }
}

t.test('a row that came along is not put where its key was deleted meanwhile', async t => {
  const backend = inMap()
  const [held, isAsked] = [gate(), gate()]
  let isSlow = false
  const slow: Backend = {
    ...backend,
    getMany: async keys => {
      const found = await backend.getMany(keys)
      if (isSlow && keys.every(key => key.includes('stamp'))) {
        isAsked.open()
        await held.opened
      }
      return found
    }
  }
  const manager = new CachingManager({ regions: { rows: { tiers: [slow], ttl: '1m', tierTimeout: '20s' } } })
  t.teardown(() => manager.close())
  const name = { now: 'old' }
  const User = cachedObject({
    name: 'User',
    region: 'rows',
    methods: {
      getById: loadOne((_context, id: number) => ({ id, name: name.now })),
      getByName: loadOne((_context, _name: string) => ({ id: 1, name: name.now }), { primes: { getById: user => [user.id] } })
    }
  })
  await manager.createApi().get(User, 'getById', [2])
  await manager.idle()
  isSlow = true
  await manager.createApi().get(User, 'getByName', ['old'])
  await isAsked.opened
  name.now = 'new'
  await manager.createApi().invalidate(User, 'getById', [1])
  held.open()
  await manager.idle()
  t.strictSame(await manager.createApi().get(User, 'getById', [1]), { id: 1, name: 'new' })
})

t.test('a primed row that the serializer refuses is kept nowhere, and costs its load nothing', async t => {
  const backend = inMap()
  const logger = silentLogger()
  const manager = new CachingManager({
    logger,
    regions: {
      rows: {
        tiers: [memory(), backend],
        ttl: '1m',
        serializer: {
          ...msgpackSerializer,
          encode (value) {
            if (Object(value).refused === true) throw new Error('refused')
            return msgpackSerializer.encode(value)
          }
        }
      }
    }
  })
  t.teardown(() => manager.close())
  const asked: unknown[] = []
  const User = cachedObject({
    name: 'User',
    region: 'rows',
    methods: {
      getById: loadMany({
        load: (_context, ids: readonly number[]) => { asked.push(...ids); return [alice] },
        idOf: user => user.id,
        preCache: user => ({ ...user, refused: true })
      }),
      getByName: loadOne((_context, name: string) => { asked.push(name); return alice }, { primes: { getById: user => [user.id] } })
    }
  })

  t.strictSame(await manager.createApi().get(User, 'getByName', ['alice']), alice)
  await manager.idle()
  t.equal([...backend.map.keys()].some(key => key.includes('getById')), false)
  t.equal(logger.lines.warn.length, 1)
  await manager.createApi().get(User, 'getById', [1])
  t.strictSame(asked, ['alice', 1])
})

t.test('a value that the shared tier will never keep is not kept in memory either', async t => {
  const backend = inMap()
  const picky: Backend = {
    ...backend,
    setMany: async entries => {
      const tooLarge = entries.filter(({ value }) => value.length > 1000).map(({ key }) => key)
      await backend.setMany(entries.filter(({ key }) => !tooLarge.includes(key)))
      if (tooLarge.length > 0) throw new UnstorableError(tooLarge, new Error('too large'))
    }
  }
  const logger = silentLogger()
  const manager = new CachingManager({ logger, regions: { one: { tiers: [memory(), picky], ttl: '1m' }, two: { tiers: [memory(), inMap(), picky], ttl: '1m' } } })
  t.teardown(() => manager.close())
  const large = 'x'.repeat(2000)
  for (const name of ['one', 'two']) {
    const region = manager.region(name)
    t.equal(await region.getOrCreate('key', () => large), large)
    await manager.idle()
    t.equal(await region.get('key'), name === 'one' ? undefined : large, 'unless another tier has it')
  }
  t.equal(logger.lines.warn.length, 2, 'one for each tier of a region')
})
