import { memory } from '../../dist/plugin/index.js'
import { ours } from '../ours.js'
import { openPeers } from '../peers/index.js'
import { requestMemory } from '../peers/dataloader.js'
import { rowOf } from '../rounds.js'
import { cityOf, countedSource } from '../rows.js'
import { mostEntries } from '../settings.js'

const entries = 10_000
const requests = 5000
const read = 10

export async function run ({ quick, only }) {
  const rounds = quick ? 1 : 7
  const rows = []
  if (only('bytes')) rows.push(await entriesRow(rounds))
  if (only('bytes-request')) rows.push(await requestsRow(rounds))
  return rows
}

async function entriesRow (rounds) {
  const makers = new Map([
    ['ours', source => ours({ tiers: [memory({ maxEntries: mostEntries })], source })],
    ['limit', byMap],
    ...['async-cache-dedupe', 'bentocache', 'cache-manager', 'cacheable', 'cachified', 'catbox', 'layered-loader', 'lru-cache']
      .map(name => [name, async source => (await openPeers('memory', () => source, [name])).get(name)])
  ])
  const samples = await weigh(makers, rounds, entries, async make => {
    const cache = await make(Object.assign(countedSource(), { name: 'city' }))
    // What a first key brings with it is no entry's.
    await cache.get(-1)
    return {
      kept: cache,
      fill: async () => { for (let id = 0; id < entries; id++) await cache.get(id) },
      close: () => cache.close?.()
    }
  })
  return rowOf({ name: 'bytes', unit: 'bytes', about: `Heap for each of ${entries.toLocaleString('en')} rows in memory, with its key. The limit: a Map.` }, samples)
}

function byMap () {
  const rows = new Map()
  return {
    get: async id => {
      if (!rows.has(id)) rows.set(id, cityOf(id))
      return rows.get(id)
    }
  }
}

async function requestsRow (rounds) {
  const makers = new Map([
    ['ours', () => {
      const { manager, City, close } = ours({ tiers: [memory()], source: countedSource() })
      return { request: () => manager.createApi(), read: (api, id) => api.get(City, 'getById', [id]), close }
    }],
    ['limit', () => {
      const rows = Array.from({ length: read }, (_, id) => cityOf(id))
      return {
        request: () => new Map(),
        read: (seen, id) => {
          const promise = Promise.resolve(rows[id])
          seen.set(id, promise)
          return promise
        }
      }
    }],
    ['dataloader', () => {
      const source = countedSource()
      return { request: () => requestMemory(source), read: (loader, id) => loader.load(id) }
    }]
  ])
  const samples = await weigh(makers, rounds, requests, async make => {
    const kind = make()
    const readAll = async request => { for (let id = 0; id < read; id++) await kind.read(request, id) }
    await readAll(kind.request())
    const live = []
    return {
      kept: live,
      fill: async () => {
        for (let i = 0; i < requests; i++) {
          const request = kind.request()
          await readAll(request)
          live.push(request)
        }
      },
      close: () => kind.close?.()
    }
  })
  return rowOf({ name: 'bytes-request', unit: 'bytes', about: `Heap for each live request that has read ${read} rows from memory, its own objects included. The limit: a Map of promises, with rows that all requests share. dataloader: rows of its own.` }, samples)
}

/** Name → bytes of heap for each, of each round. */
async function weigh (makers, rounds, count, open) {
  const samples = new Map(Array.from(makers.keys(), name => [name, []]))
  for (let round = -1; round < rounds; round++) { // the first one compiles
    for (const [name, make] of makers) {
      const { kept, fill, close } = await open(make)
      const before = heap()
      await fill()
      if (round >= 0) samples.get(name).push((heap() - before) / count)
      if (kept === undefined) throw new Error(`${name} was collected`)
      await close()
    }
  }
  return samples
}

function heap () {
  for (let i = 0; i < 2; i++) globalThis.gc()
  return process.memoryUsage().heapUsed
}
