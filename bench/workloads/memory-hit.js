import { LRUCache } from 'lru-cache'
import { memory } from '../../dist/plugin/index.js'
import { checkAnswers, withoutLoads } from '../checks.js'
import { ours } from '../ours.js'
import { openPeers } from '../peers/index.js'
import { nanoseconds, repeat, rowOf, takeTurns } from '../rounds.js'
import { cityOf, countedSource, pick } from '../rows.js'
import { mostEntries } from '../settings.js'

export async function run ({ random, turns, only }) {
  const rows = []
  for (const [name, count] of Object.entries({ 'memory-hit': 1000, 'memory-hit-10k': 10_000 })) {
    if (only(name)) rows.push(await measure(name, pick(count, count, random), turns))
  }
  return rows
}

async function measure (name, ids, turns) {
  const sources = new Map()
  const sourceOf = side => Object.assign(sources.set(side, countedSource()).get(side), { name: 'city' })
  const own = ours({ tiers: [memory({ maxEntries: mostEntries })], source: sourceOf('ours') })
  const cache = new LRUCache({ max: mostEntries })
  for (const id of ids) cache.set(id, cityOf(id))
  const caches = new Map([['ours', own], ['limit', { get: id => cache.get(id) }], ...await openPeers('memory', sourceOf)])

  for (const { get } of caches.values()) for (const id of ids) await get(id)
  await checkAnswers(new Map(Array.from(caches, ([side, { get }]) => [side, () => Promise.all(ids.map(get))])), ids.map(cityOf))

  const sides = new Map(Array.from(caches, ([side, { get }]) => [side, side === 'limit' ? atOnce(cache, ids) : repeat(get, i => ids[i % ids.length])]))
  const times = await withoutLoads(sources, () => takeTurns(sides, turns))
  for (const { close } of caches.values()) await close?.()
  return rowOf({ name, ...nanoseconds, about: `A key that memory has, one of ${ids.length.toLocaleString('en')} in turn, from a new request. The limit: get of an lru-cache, which isn't awaited.` }, times)
}

/** Adds up what it got, so that nothing is left out. */
const atOnce = (cache, ids) => async count => {
  let sum = 0
  for (let i = 0; i < count; i++) sum += cache.get(ids[i % ids.length]).id
  return sum
}
