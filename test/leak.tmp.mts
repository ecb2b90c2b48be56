import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import Fastify from 'fastify'
import cachingApi, { cachedObject, loadMany, memory } from '/work/main/plugin/index.ts'
setFlagsFromString('--expose-gc')
const gc = runInNewContext('gc')
const mode = process.argv[2]
const yieldEvery = Number(process.argv[3])
const User = cachedObject({ name: 'User', region: 'objects', methods: { getById: loadMany({ load: async (_c: unknown, ids: readonly number[]) => ids.map(id => ({ id, name: `user ${id}` })), idOf: (r: any) => r.id }) } })
const app = Fastify()
if (mode !== 'none') await app.register(cachingApi, { regions: { objects: { tiers: [memory({ maxEntries: 100 })], ttl: '1h' } } })
app.get('/:id', async (request: any) => {
  const id = Number(request.params.id)
  if (mode === 'touch') request.cachingApi.stash('a', 1)
  if (mode === 'get') await request.cachingApi.get(User, 'getById', [id])
  if (mode === 'region') await request.cachingApi.region('objects').getOrCreate(`k${id}`, () => ({ id }))
  return {}
})
let sent = 0
async function go (until: number) {
  for (; sent < until; sent++) { await app.inject(`/${sent % 500}`); if (yieldEvery && sent % yieldEvery === 0) await new Promise(setImmediate) }
  if (mode !== 'none') await app.cachingManager.idle()
  for (let i = 0; i < 4; i++) gc()
  return process.memoryUsage().heapUsed
}
const s = performance.now()
const a = await go(2000); const b = await go(10000)
console.log(mode, yieldEvery, ((b - a) / 8000).toFixed(1), 'bytes/request', ((performance.now() - s) / 10000).toFixed(3), 'ms/request')
await app.close()
