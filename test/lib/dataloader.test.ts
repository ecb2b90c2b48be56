/*
 * What users of graphql/dataloader rely on, asked of a CachingApi: each of its test cases that has a meaning here, in our
 * own words. A region of `nothing()` is a DataLoader's own world: a request's memory, and batches.
 */
import t, { type Test } from 'tap'
import { cachedObject, loadMany, loadOne } from '../../lib/cached-object.js'
import type { CachingApi } from '../../lib/caching-api.js'
import { CachingManager } from '../../lib/caching-manager.js'
import { nothing } from '../../lib/backends/nothing.js'
import { gate } from '../helpers/doubles.js'

interface Row<Id> { id: Id }

function managerOf (t: Pick<Test, 'teardown'>): CachingManager {
  const manager = new CachingManager({ regions: { requests: { tiers: [nothing()], ttl: 1000 } } })
  t.teardown(() => manager.close())
  return manager
}

const apiOf = (t: Pick<Test, 'teardown'>): CachingApi => managerOf(t).createApi()

/** Gives each id a row of that id, after `before`, which may throw. */
function idLoader<Id extends string | number> ({ maxBatch = 1000, before = () => {} }: { maxBatch?: number, before?: (ids: readonly Id[]) => unknown } = {}) {
  const calls: Id[][] = []
  const Identity = cachedObject({
    name: 'Identity',
    region: 'requests',
    methods: {
      load: loadMany({
        load: async (_context, ids: readonly Id[]) => {
          calls.push([...ids])
          await before(ids)
          return ids.map(id => ({ id }))
        },
        idOf: (row: Row<Id>) => row.id,
        maxBatch
      })
    }
  })
  return { Identity, calls }
}

t.test('primary api', async t => {
  t.test('a really really simple loader loads one value', async t => {
    const { Identity } = idLoader<number>()
    const promise = apiOf(t).get(Identity, 'load', [1])
    t.type(promise, Promise)
    t.strictSame(await promise, { id: 1 })
  })

  t.test('loads multiple keys in one call, or none', async t => {
    const { Identity } = idLoader<number>()
    const api = apiOf(t)
    t.strictSame(await api.getMany(Identity, 'load', [1, 2]), [{ id: 1 }, { id: 2 }])
    t.strictSame(await api.getMany(Identity, 'load', []), [])
  })

  t.test('batches multiple requests', async t => {
    const { Identity, calls } = idLoader<number>()
    const api = apiOf(t)
    const [one, two] = [api.get(Identity, 'load', [1]), api.get(Identity, 'load', [2])]
    t.strictSame([await one, await two], [{ id: 1 }, { id: 2 }])
    t.strictSame(calls, [[1, 2]])
  })

  t.test('batches multiple requests with a maximum batch size', async t => {
    const { Identity, calls } = idLoader<number>({ maxBatch: 2 })
    const api = apiOf(t)
    await Promise.all([1, 2, 3].map(id => api.get(Identity, 'load', [id])))
    t.strictSame(calls, [[1, 2], [3]])
  })

  t.test('a maximum batch size counts a repeated key once', async t => {
    const { Identity, calls } = idLoader<string>({ maxBatch: 3 })
    const api = apiOf(t)
    const ids = ['a', 'b', 'a', 'a', 'a', 'b', 'c']
    const rows = await Promise.all(ids.map(id => api.get(Identity, 'load', [id])))
    t.strictSame(rows.map(row => row!.id), ids)
    t.strictSame(calls, [['a', 'b', 'c']])
  })

  for (const maxBatch of [1000, 1]) {
    t.test(`what is known isn't part of a batch, and doesn't wait for one, of at most ${maxBatch}`, async t => {
      const door = gate()
      const { Identity, calls } = idLoader<number>({ maxBatch, before: () => door.opened })
      const api = apiOf(t)
      await api.set(Identity, 'load', [1], { id: 1 })
      const [known, unknown] = [api.get(Identity, 'load', [1]), api.get(Identity, 'load', [2])]
      let arrived = false
      void unknown.then(() => { arrived = true })
      // DataLoader keeps the known one until the batch is there. We do not.
      t.strictSame(await known, { id: 1 })
      await new Promise(setImmediate)
      t.notOk(arrived)
      door.open()
      t.strictSame(await unknown, { id: 2 })
      t.strictSame(calls, [[2]])
    })
  }

  t.test('coalesces identical requests', async t => {
    const { Identity, calls } = idLoader<number>()
    const api = apiOf(t)
    const [first, second] = [api.get(Identity, 'load', [1]), api.get(Identity, 'load', [1])]
    t.equal(first, second)
    await first
    t.strictSame(calls, [[1]])
  })

  t.test('coalesces identical requests across sized batches', async t => {
    const { Identity, calls } = idLoader<number>({ maxBatch: 2 })
    const api = apiOf(t)
    const rows = await Promise.all([1, 2, 1, 3].map(id => api.get(Identity, 'load', [id])))
    t.strictSame(rows.map(row => row!.id), [1, 2, 1, 3])
    t.strictSame(calls, [[1, 2], [3]])
  })

  t.test('remembers what was requested before', async t => {
    const { Identity, calls } = idLoader<string>()
    const api = apiOf(t)
    for (const ids of [['A', 'B'], ['A', 'C'], ['A', 'B', 'C']]) {
      t.strictSame((await Promise.all(ids.map(id => api.get(Identity, 'load', [id])))).map(row => row!.id), ids)
    }
    t.strictSame(calls, [['A', 'B'], ['C']])
  })

  t.test('clears a single value', async t => {
    const { Identity, calls } = idLoader<string>()
    const api = apiOf(t)
    await api.getMany(Identity, 'load', ['A', 'B'])
    await api.invalidate(Identity, 'load', ['A'])
    await api.getMany(Identity, 'load', ['A', 'B'])
    t.strictSame(calls, [['A', 'B'], ['A']])
  })

  t.test('a value can be primed, and is not loaded', async t => {
    const { Identity, calls } = idLoader<string>()
    const api = apiOf(t)
    await api.set(Identity, 'load', ['A'], { id: 'A' })
    t.strictSame(await api.getMany(Identity, 'load', ['A', 'B']), [{ id: 'A' }, { id: 'B' }])
    t.strictSame(calls, [['B']])
  })

  t.test('rows that come with others do not prime keys that are there already', async t => {
    const Pair = cachedObject({
      name: 'Pair',
      region: 'requests',
      methods: {
        load: loadOne(async (_context, id: string) => ({ id, by: 'load' })),
        search: loadOne(async (_context, id: string) => ({ id, by: 'search' }), { primes: { load: row => [row.id] } })
      }
    })
    const api = apiOf(t)
    t.equal((await api.get(Pair, 'load', ['A']))?.by, 'load')
    await api.get(Pair, 'search', ['A'])
    await api.get(Pair, 'search', ['B'])
    t.equal((await api.get(Pair, 'load', ['A']))?.by, 'load')
    t.equal((await api.get(Pair, 'load', ['B']))?.by, 'search')
  })

  t.test('a value can be set over another', async t => {
    const { Identity, calls } = idLoader<string>()
    const api = apiOf(t)
    await api.get(Identity, 'load', ['A'])
    await api.set(Identity, 'load', ['A'], { id: 'X' })
    t.strictSame(await api.get(Identity, 'load', ['A']), { id: 'X' })
    await api.set(Identity, 'load', ['A'], { id: 'Y' })
    t.strictSame(await api.get(Identity, 'load', ['A']), { id: 'Y' })
    t.strictSame(calls, [['A']])
  })
})

t.test('errors', async t => {
  /** A load for each id, of which the odd ones fail. */
  function evenLoader () {
    const calls: number[] = []
    const Even = cachedObject({
      name: 'Even',
      region: 'requests',
      methods: {
        load: loadOne(async (_context, id: number) => {
          calls.push(id)
          if (id % 2 === 1) throw new Error(`Odd: ${id}`)
          return { id }
        })
      }
    })
    return { Even, calls }
  }

  t.test('a failure is the rejection of its own key', async t => {
    const { Even, calls } = evenLoader()
    const api = apiOf(t)
    await t.rejects(api.get(Even, 'load', [1]), { message: 'Odd: 1' })
    t.strictSame(await api.get(Even, 'load', [2]), { id: 2 })
    t.strictSame(calls, [1, 2])
  })

  t.test('failures and successes are there at the same time', async t => {
    const { Even } = evenLoader()
    const api = apiOf(t)
    const results = await Promise.allSettled([1, 2].map(id => api.get(Even, 'load', [id])))
    t.match(results, [{ status: 'rejected', reason: { message: 'Odd: 1' } }, { status: 'fulfilled', value: { id: 2 } }])
  })

  t.test('getMany rejects with the error of a key that fails; the others can be read all the same', async t => {
    const { Even, calls } = evenLoader()
    const api = apiOf(t)
    await t.rejects(api.getMany(Even, 'load', [2, 3, 4]), { message: 'Odd: 3' })
    t.strictSame(await api.getMany(Even, 'load', [2, 4]), [{ id: 2 }, { id: 4 }])
    t.strictSame(calls, [2, 3, 4])
  })

  t.test('a failed load is not remembered: no clear is needed to try again', async t => {
    const { Even, calls } = evenLoader()
    const api = apiOf(t)
    await t.rejects(api.get(Even, 'load', [1]), { message: 'Odd: 1' })
    await t.rejects(api.get(Even, 'load', [1]), { message: 'Odd: 1' })
    t.strictSame(calls, [1, 1])
  })

  t.test('an error of the whole batch is that of all its keys', async t => {
    const error = new Error('I am a terrible loader')
    for (const before of [() => { throw error }, async () => await Promise.reject(error)]) {
      const { Identity, calls } = idLoader<number>({ before })
      const api = apiOf(t)
      const reasons = await Promise.all([1, 2].map(id => api.get(Identity, 'load', [id]).catch(reason => reason)))
      t.ok(reasons.every(reason => reason === error))
      t.strictSame(calls, [[1, 2]])
    }
  })

  t.test('one of several batches that fails takes the others not with it', async t => {
    const { Identity } = idLoader<number>({ maxBatch: 2, before: ids => { if (ids.includes(3)) throw new Error('not 3') } })
    const api = apiOf(t)
    const results = await Promise.allSettled([1, 2, 3, 4, 5].map(id => api.get(Identity, 'load', [id])))
    t.strictSame(results.map(({ status }) => status), ['fulfilled', 'fulfilled', 'rejected', 'rejected', 'fulfilled'])
  })

  t.test('a failure that nobody waits for ends no process', async t => {
    const { Even } = evenLoader()
    const api = apiOf(t)
    void api.get(Even, 'load', [1])
    await t.rejects(api.get(Even, 'load', [1]), { message: 'Odd: 1' })
    await new Promise(setImmediate)
  })
})

t.test('any kind of key', async t => {
  /** A search by an object. */
  function search () {
    const calls: object[] = []
    const Search = cachedObject({ name: 'Search', region: 'requests', methods: { find: loadOne(async (_context, by: object) => { calls.push(by); return { by } }) } })
    return { Search, calls }
  }

  t.test('objects are keys, by what they hold', async t => {
    const { Search, calls } = search()
    const api = apiOf(t)
    const [one, same, other] = await Promise.all([{ id: 123 }, { id: 123 }, { id: '123' }].map(by => api.get(Search, 'find', [by])))
    t.equal(one, same)
    t.not(one, other)
    t.strictSame(calls, [{ id: 123 }, { id: '123' }])
  })

  t.test('the order of the properties of a key does not matter', async t => {
    const { Search, calls } = search()
    const api = apiOf(t)
    t.equal(await api.get(Search, 'find', [{ a: 123, b: 321 }]), await api.get(Search, 'find', [{ b: 321, a: 123 }]))
    t.equal(calls.length, 1)
  })

  t.test('a key that is an object is cleared and primed by an equal one', async t => {
    const { Search, calls } = search()
    const api = apiOf(t)
    await api.get(Search, 'find', [{ id: 123 }])
    await api.invalidate(Search, 'find', [{ id: 123 }])
    await api.get(Search, 'find', [{ id: 123 }])
    t.equal(calls.length, 2)
    await api.set(Search, 'find', [{ id: 7 }], { by: { primed: true } })
    t.strictSame(await api.get(Search, 'find', [{ id: 7 }]), { by: { primed: true } })
    t.equal(calls.length, 2)
  })

  t.test('zero, the empty string, null and NaN are keys like others', async t => {
    const One = cachedObject({ name: 'One', region: 'requests', methods: { load: loadOne((_context, key: unknown) => ({ key })) } })
    const api = apiOf(t)
    for (const key of [0, '', null, NaN, false, undefined]) t.strictSame(await api.get(One, 'load', [key]), { key })
  })
})

t.test('options', async t => {
  t.test('without batches: loadOne is called for each key', async t => {
    const calls: number[] = []
    const One = cachedObject({ name: 'One', region: 'requests', methods: { load: loadOne(async (_context, id: number) => { calls.push(id); return { id } }) } })
    t.strictSame(await apiOf(t).getMany(One, 'load', [1, 2]), [{ id: 1 }, { id: 2 }])
    t.strictSame(calls, [1, 2])
  })

  t.test('without the request\'s memory: force asks again each time, each key once in a batch', async t => {
    const { Identity, calls } = idLoader<string>()
    const manager = managerOf(t)
    const api = manager.createApi()
    const read = (id: string) => api.get(Identity, 'load', [id], { force: true })
    await Promise.all(['A', 'B'].map(read))
    await manager.idle()
    await Promise.all(['A', 'C'].map(read))
    await manager.idle()
    const rows = await Promise.all([read('A'), read('C'), read('D'), api.getMany(Identity, 'load', ['C', 'D', 'A', 'A', 'B'], { force: true })])
    t.strictSame(rows.flat().map(row => row!.id), ['A', 'C', 'D', 'C', 'D', 'A', 'A', 'B'])
    t.strictSame(calls, [['A', 'B'], ['A', 'C'], ['A', 'C', 'D', 'B']])
  })

  t.test('a key that is invalidated while its batch loads is loaded again by the next read', async t => {
    const calls: string[][] = []
    const api = apiOf(t)
    const Own = cachedObject({
      name: 'Own',
      region: 'requests',
      methods: {
        load: loadMany({
          load: async (_context, ids: readonly string[]) => {
            calls.push([...ids])
            await Promise.all(ids.map(id => api.invalidate(Own as never, 'load' as never, [id] as never)))
            return ids.map(id => ({ id }))
          },
          idOf: (row: Row<string>) => row.id
        })
      }
    })
    for (let i = 0; i < 2; i++) {
      const rows = await Promise.all(['A', 'B', 'A'].map(id => api.get(Own, 'load', [id])))
      t.strictSame(rows.map(row => row!.id), ['A', 'B', 'A'])
    }
    t.strictSame(calls, [['A', 'B'], ['A', 'B']])
  })
})

t.test('it is resilient to the order of jobs', async t => {
  t.test('loads that occur within promises are one batch', async t => {
    const { Identity, calls } = idLoader<string>()
    const api = apiOf(t)
    const load = (id: string) => api.get(Identity, 'load', [id])
    const later = async (id: string, next?: () => Promise<unknown>): Promise<unknown> => {
      await Promise.resolve().then(() => Promise.resolve())
      return await Promise.all([load(id), next?.()])
    }
    await Promise.all([load('A'), later('B', () => later('C', () => later('D')))])
    t.strictSame(calls, [['A', 'B', 'C', 'D']])
  })

  t.test('loads of several requests in the same tick are one batch', async t => {
    const manager = managerOf(t)
    const { Identity, calls } = idLoader<string>()
    await Promise.all(['A', 'B', 'A'].map(async id => { await Promise.resolve(); return await manager.createApi().get(Identity, 'load', [id]) }))
    t.strictSame(calls, [['A', 'B']])
  })

  t.test('a loader can be called from a loader', async t => {
    const deepCalls: string[][] = []
    const Deep = cachedObject({
      name: 'Deep',
      region: 'requests',
      methods: { load: loadMany({ load: async (_context, ids: readonly string[]) => { deepCalls.push([...ids]); return ids.map(id => ({ id })) }, idOf: (row: Row<string>) => row.id }) }
    })
    const api = apiOf(t)
    const shallow = (name: string) => {
      const calls: string[][] = []
      const object = cachedObject({
        name,
        region: 'requests',
        methods: {
          load: loadMany({
            load: async (_context, ids: readonly string[]) => {
              calls.push([...ids])
              return (await api.getMany(Deep, 'load', ids)).map(row => row!)
            },
            idOf: (row: Row<string>) => row.id
          })
        }
      })
      return { object, calls }
    }
    const [a, b] = [shallow('A'), shallow('B')]
    const rows = await Promise.all([a.object, b.object, a.object, b.object].map((object, i) => api.get(object, 'load', [`${i % 2 === 0 ? 'A' : 'B'}${1 + (i >> 1)}`])))
    t.strictSame(rows.map(row => row!.id), ['A1', 'B1', 'A2', 'B2'])
    t.strictSame(a.calls, [['A1', 'A2']])
    t.strictSame(b.calls, [['B1', 'B2']])
    t.strictSame(deepCalls, [['A1', 'A2', 'B1', 'B2']])
  })
})
