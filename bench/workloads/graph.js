import { CachingManager, cachedObject, loadMany, redis } from '../../dist/plugin/index.js'
import { byHand as limit } from '../by-hand.js'
import { checkAnswers, withoutLoads } from '../checks.js'
import { connect } from '../clients.js'
import { openPeers } from '../peers/index.js'
import { microseconds, repeat, rowOf, takeTurns } from '../rounds.js'
import { cityOf, pick } from '../rows.js'
import { lifetime } from '../settings.js'
import { byHand } from './in-redis.js'

const cities = 1000
const countries = 20
const read = 50
/** Ids of countries, and of their capitals, begin here. */
const [firstCountry, firstCapital] = [10_000, 20_000]

const countryIdOf = ({ id }) => firstCountry + id % countries
const recordOf = id => id >= firstCountry && id < firstCapital ? { id, name: `Country ${id}`, capital: id - firstCountry + firstCapital } : cityOf(id)

export async function run ({ redis: { port }, random, turns }) {
  const sources = new Map()
  const sourceOf = side => {
    const source = {
      port,
      name: side,
      loads: 0,
      loadMany: async ids => {
        source.loads++
        return ids.map(recordOf)
      },
      load: async id => (await source.loadMany([id]))[0]
    }
    sources.set(side, source)
    return source
  }
  const client = connect(port)
  const caches = new Map([['limit', limit({ port, source: sourceOf('limit') })], ...await openPeers('redis', sourceOf)])
  const own = ourGraph(client, sourceOf('ours'))
  const readers = new Map([['ours', own.read], ...Array.from(caches, ([side, cache]) => [side, readerOf(side, cache)])])

  const everything = pick(cities, cities, random)
  for (const readAll of readers.values()) for (let from = 0; from < cities; from += read) await readAll(everything.slice(from, from + read))
  await own.manager.idle()
  const batches = Array.from({ length: 100 }, () => pick(read, cities, random))
  await checkAnswers(new Map(Array.from(readers, ([side, readAll]) => [side, () => readAll(batches[0])])), batches[0].map(id => {
    const country = recordOf(countryIdOf({ id }))
    return [cityOf(id).name, country.name, cityOf(country.capital).name]
  }))
  const sides = new Map(Array.from(readers, ([side, readAll]) => [side, repeat(readAll, i => batches[i % batches.length])]))
  const times = await withoutLoads(sources, () => takeTurns(sides, turns))
  await own.manager.close()
  for (const { close } of caches.values()) await close()
  client.disconnect()
  return [rowOf({ name: 'graph', ...microseconds, about: `${read} cities, each with its country and the country's capital, all in Redis. Ours by lazyloads; the limit, and peers with a read of many keys, by three such reads of different ids; the others one by one. dataloader: by hand.` }, times, byHand)]
}

function ourGraph (client, source) {
  const methods = postCache => ({ getById: loadMany({ load: (_context, ids) => source.loadMany(ids), idOf: row => row.id, ...postCache !== undefined && { postCache } }) })
  const Capital = cachedObject({ name: 'Capital', region: 'rows', methods: methods() })
  const Country = cachedObject({ name: 'Country', region: 'rows', methods: methods((row, api) => api.lazyload(row, 'city', Capital, 'getById', [row.capital])) })
  const City = cachedObject({ name: 'City', region: 'rows', methods: methods((row, api) => api.lazyload(row, 'nation', Country, 'getById', [countryIdOf(row)])) })
  const manager = new CachingManager({ regions: { rows: { tiers: [redis(client)], ttl: lifetime, tierTimeout: '5s' } } })
  return {
    manager,
    read: async ids => await Promise.all((await manager.createApi().getMany(City, 'getById', ids)).map(async city => {
      const country = await city.nation
      const capital = await country.city
      return [city.name, country.name, capital.name]
    }))
  }
}

const together = new Set(['limit', 'layered-loader', 'cacheable', 'cache-manager'])

function readerOf (side, { get, getMany, request }) {
  if (together.has(side)) {
    return async ids => {
      const found = await getMany(ids)
      const ofCities = found.map(countryIdOf)
      const nations = await byId(getMany, ofCities)
      const capitals = await byId(getMany, [...nations.values()].map(country => country.capital))
      return found.map((city, i) => {
        const country = nations.get(ofCities[i])
        return [city.name, country.name, capitals.get(country.capital).name]
      })
    }
  }
  return async ids => {
    const loader = request?.()
    const one = loader === undefined ? get : id => loader.load(id)
    return await Promise.all(ids.map(async id => {
      const city = await one(id)
      const country = await one(countryIdOf(city))
      return [city.name, country.name, (await one(country.capital)).name]
    }))
  }
}

async function byId (getMany, ids) {
  return new Map((await getMany([...new Set(ids)])).map(row => [row.id, row]))
}
