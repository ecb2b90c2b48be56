// What a request waits for while Redis goes away and comes back: `npm run bench:outage` from the top folder.
//
// A hundred clients, each with a short pause between its requests, read from memory + Redis through a Fastify route, with
// a loader of 20 ms. Redis is killed, stopped and cut off in turn. For each: statuses that aren't 200, the 99th percentile in the
// first second and from the opening of the breaker on, and how long after its return Redis and memory answer again.

import { setTimeout as pause } from 'node:timers/promises'
import Fastify from 'fastify'
import { Redis } from 'ioredis'
import cachingApi, { cachedObject, loadMany, memory, redis, redlock } from '../plugin/index.js'
import { recordingProxy } from '../test/helpers/recording-proxy.js'
import { startRedis } from '../test/helpers/servers.js'

const clients = 100
const ids = 2000
const loadTime = 20
const thinkTime = 60
const tierTimeout = 250

interface Served { readonly at: number, readonly took: number, readonly status: number, readonly from: string }

const teardowns: (() => unknown)[] = []
const owner = { teardown: (undo: () => unknown) => { teardowns.push(undo) } } as Parameters<typeof startRedis>[0]

const server = await startRedis(owner)
const proxy = await recordingProxy(owner, server.port)
const client = new Redis(proxy.port, { retryStrategy: times => Math.min(50 * times, 500) })
client.on('error', () => {})

const City = cachedObject({
  name: 'City',
  region: 'rows',
  methods: {
    byId: loadMany({
      load: async (_context, ids: readonly number[]) => {
        await pause(loadTime)
        return ids.map(id => ({ id, name: `City ${id}` }))
      },
      idOf: row => row.id
    })
  }
})
const app = Fastify()
await app.register(cachingApi, {
  regions: { rows: { tiers: [memory({ maxEntries: 500 }), redis(client)], ttl: '10m', tierTimeout } },
  lock: redlock([client])
})
app.get<{ Params: { id: number } }>('/cities/:id', async (request, reply) => {
  const city = await request.cachingApi.get(City, 'byId', [Number(request.params.id)])
  const { tiers, loaded } = request.cachingApi.stats
  return await reply.header('x-from', loaded > 0 ? 'loader' : Object.keys(tiers)[0] ?? 'another').send(city)
})

let served: Served[] = []
const run = { over: false }
const load = Promise.all(Array.from({ length: clients }, async () => {
  while (!run.over) {
    const at = performance.now()
    const { statusCode, headers } = await app.inject(`/cities/${Math.floor(Math.random() * ids)}`)
    served.push({ at, took: performance.now() - at, status: statusCode, from: String(headers['x-from']) })
    await pause(thinkTime * (0.5 + Math.random()))
  }
}))

const p99 = (some: readonly Served[]) => some.map(one => one.took).sort((a, b) => a - b)[Math.floor(0.99 * some.length)] ?? NaN
const between = (from: number, to: number) => served.filter(({ at }) => at >= from && at < to)

const outages: Record<string, { begin: () => unknown, end: () => unknown }> = {
  none: { begin: () => {}, end: () => {} },
  killed: { begin: () => server.kill(), end: () => server.start() },
  stopped: { begin: () => server.pause(), end: () => server.resume() },
  'cut off': { begin: () => proxy.cut(), end: () => proxy.restore() },
  'cut off silently': { begin: () => proxy.pause(), end: () => proxy.resume() }
}

console.log(`${clients} clients, loads of ${loadTime} ms, tierTimeout ${tierTimeout} ms, Node ${process.version}\n`)
console.log('Redis              requests   not 200   p99, first second   p99, after that   both tiers again after')
await pause(4000)
for (const [name, { begin, end }] of Object.entries(outages)) {
  served = []
  await begin()
  const gone = performance.now()
  await pause(5000)
  await end()
  const back = performance.now()
  const answers = (tier: string) => served.some(({ at, from }) => at >= back && from === tier)
  while (!(answers('redis') && answers('memory')) && performance.now() - back < 20_000) await pause(10)
  const again = performance.now() - back
  await pause(2000)
  const milliseconds = (value: number) => `${value.toFixed(1)} ms`
  console.log([
    name.padEnd(18), String(served.length).padStart(8), String(served.filter(({ status }) => status !== 200).length).padStart(9),
    milliseconds(p99(between(gone, gone + 1000))).padStart(19), milliseconds(p99(between(gone + 1500, back))).padStart(17), milliseconds(again).padStart(24)
  ].join(' '))
}

run.over = true
await load
await app.close()
client.disconnect()
for (const undo of teardowns.reverse()) await undo()
