// What a hit costs, in ratios of one run: `npm run bench` from the top folder.
//
// memory-hit   a key that the memory tier has, from a new request, against async-cache-dedupe's memory storage
// request-hit  the same key again in one request, against awaiting a promise out of a Map
//
// The sides take turns, several rounds; a row gives each one's median. Lower is better.

import { createCache } from 'async-cache-dedupe'
import { CachingManager, cachedObject, loadMany, memory } from '../dist/plugin/index.js'

const rounds = 15
const reads = 100_000
const ids = 1000

const rows = new Map(Array.from({ length: ids }, (_, id) => [id, { id, name: `City ${id}`, country: 'FR', population: 1000 * id, lat: 48.85, lon: 2.35 }]))

const City = cachedObject({
  name: 'City',
  region: 'rows',
  methods: { getById: loadMany({ load: (_context, wanted) => wanted.map(id => rows.get(id)), idOf: row => row.id }) }
})
const manager = new CachingManager({ regions: { rows: { tiers: [memory({ maxEntries: 10_000 })], ttl: '1h' } } })
await manager.createApi().getMany(City, 'getById', [...rows.keys()])

const dedupe = createCache({ ttl: 3600, storage: { type: 'memory', options: { size: 10_000 } } })
dedupe.define('city', async id => rows.get(id))
for (const id of rows.keys()) await dedupe.city(id)

const api = manager.createApi()
const promises = new Map([[7, Promise.resolve(rows.get(7))]])
await api.get(City, 'getById', [7])
const args = [7]

/** Each reads `reads` times, and adds up what it got. */
const workloads = {
  'memory-hit': {
    ours: async () => {
      let sum = 0
      for (let i = 0; i < reads; i++) sum += (await manager.createApi().get(City, 'getById', [i % ids])).id
      return sum
    },
    'async-cache-dedupe': async () => {
      let sum = 0
      for (let i = 0; i < reads; i++) sum += (await dedupe.city(i % ids)).id
      return sum
    }
  },
  'request-hit': {
    ours: async () => {
      let sum = 0
      for (let i = 0; i < reads; i++) sum += (await api.get(City, 'getById', args)).id
      return sum
    },
    'a Map of promises': async () => {
      let sum = 0
      for (let i = 0; i < reads; i++) sum += (await promises.get(args[0])).id
      return sum
    }
  }
}

const median = values => values.toSorted((a, b) => a - b)[values.length >> 1]

console.log(`Node ${process.version}, ${rounds} rounds of ${reads.toLocaleString('en')} reads, medians\n`)
for (const [name, sides] of Object.entries(workloads)) {
  const sums = new Set()
  const times = new Map(Object.keys(sides).map(side => [side, []]))
  for (let round = -3; round < rounds; round++) { // the first three warm up
    for (const [side, run] of Object.entries(sides)) {
      globalThis.gc?.()
      const started = process.hrtime.bigint()
      sums.add(await run())
      if (round >= 0) times.get(side).push(Number(process.hrtime.bigint() - started) / reads)
    }
  }
  if (sums.size !== 1) throw new Error(`${name}: the sides did not read the same`)
  const [[, ours], [against, theirs]] = [...times].map(([side, ns]) => [side, median(ns)])
  console.log(`${name.padEnd(12)} ours ${ours.toFixed(0)} ns, ${against} ${theirs.toFixed(0)} ns: ${(ours / theirs).toFixed(2)} ×`)
}
await manager.close()
