import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import Fastify from 'fastify'
import t from 'tap'
import cachingApi, { cachedObject, loadMany, memory, type CachingApi } from '../../plugin/index.js'

setFlagsFromString('--expose-gc')
const gc = runInNewContext('gc') as () => void

t.setTimeout(300_000)

const few = 80_000
const more = 20_000
const rounds = 7
/** Bytes. Any object that a request left behind would take more. */
const mostPerRequest = 32

function heapUsed (): number {
  for (let i = 0; i < 4; i++) gc()
  return process.memoryUsage().heapUsed
}

t.test('the heap does not grow with the number of requests, each of which uses its memory', async t => {
  const User = cachedObject({
    name: 'User',
    region: 'objects',
    methods: {
      getById: loadMany({
        load: async (_context, ids: readonly number[]) => ids.map(id => ({ id, name: `user ${id}`, photoId: id })),
        idOf: row => row.id,
        primes: { getByName: row => [row.name] },
        postCache: (row, api: CachingApi) => api.lazyload(row, 'photo', Photo, 'getById', [row.photoId])
      }),
      getByName: loadMany({ load: async (_context, names: readonly string[]) => names.map(name => ({ name })), idOf: row => row.name })
    }
  })
  const Photo = cachedObject({
    name: 'Photo',
    region: 'objects',
    methods: { getById: loadMany({ load: async (_context, ids: readonly number[]) => ids.map(id => ({ id, url: `/${id}.jpg` })), idOf: row => row.id }) }
  })
  const app = Fastify()
  t.teardown(() => app.close())
  // A small memory, so that it is full from the beginning, and requests hit, load and evict all the time.
  await app.register(cachingApi, { regions: { objects: { tiers: [memory({ maxEntries: 100 })], ttl: '1h' } } })
  app.get('/:id', async request => {
    const { cachingApi } = request
    const id = Number((request.params as { id: string }).id)
    const user = await cachingApi.get(User, 'getById', [id % 10])
    cachingApi.stash('name', user!.name)
    if (id % 10 === 0) {
      await cachingApi.get(User, 'getById', [id])
      await user!.photo
      await cachingApi.region('objects').getOrCreate(`k${id}`, () => ({ id }))
      await cachingApi.invalidate(User, 'getById', [id])
    }
    return { name: cachingApi.stashed('name') }
  })

  let sent = 0
  async function request (until: number): Promise<number> {
    for (; sent < until; sent++) {
      const { body } = await app.inject(`/${sent % 1000}`)
      if (body !== `{"name":"user ${sent % 10}"}`) throw new Error(body)
      // Without this, inject's own requests and responses are never let go: what ends them waits for its turn.
      if (sent % 50 === 0) await new Promise(setImmediate)
    }
    await app.cachingManager.idle()
    return heapUsed()
  }

  let before = await request(few)
  const perRequest: number[] = []
  for (let times = 1; times <= rounds; times++) {
    const after = await request(few + times * more)
    perRequest.push((after - before) / more)
    before = after
  }
  // What a request leaves behind shows in every round; what the heap does by itself, up in one and down in another, in some.
  const inMost = perRequest.toSorted((a, b) => a - b)[2]!
  t.ok(inMost < mostPerRequest, `${perRequest.map(bytes => bytes.toFixed(2)).join(', ')} bytes for each of ${more} requests more`)
})
