import { checkAnswers, withoutLoads } from '../checks.js'
import { microseconds, repeat, rowOf, takeTurns } from '../rounds.js'
import { cityOf, pick } from '../rows.js'
import { byHand, inRedis } from './in-redis.js'

const ids = 1000
const together = 64

export async function run ({ redis, random, turns, only }) {
  const { caches, sources, fill, close } = await inRedis({ port: redis.port })
  caches.delete('ours-elected') // where nothing is loaded, nobody is elected
  const all = pick(ids, ids, random)
  await fill(all)
  const rows = []

  if (only('redis-hit')) {
    await checkAnswers(answersOf(caches, ({ get }) => get(all[0])), cityOf(all[0]))
    const sides = new Map(Array.from(caches, ([side, { get }]) => [side, repeat(get, i => all[i % ids])]))
    const times = await withoutLoads(sources, () => takeTurns(sides, turns))
    rows.push(rowOf({ name: 'redis-hit', ...microseconds, about: 'A key that Redis has, one at a time. The limit: GET and JSON.parse.' }, times, byHand))
  }

  if (only('redis-hit-64')) {
    const batches = Array.from({ length: 200 }, () => pick(together, ids, random))
    await checkAnswers(answersOf(caches, cache => readTogether(cache)(batches[0])), batches[0].map(cityOf))
    const sides = new Map(Array.from(caches, ([side, cache]) => [side, repeat(side === 'limit' ? cache.getMany : readTogether(cache), i => batches[i % batches.length])]))
    const times = await withoutLoads(sources, () => takeTurns(sides, turns))
    rows.push(rowOf({ name: 'redis-hit-64', ...microseconds, about: '64 keys that Redis has, read at once by 64 requests; time for all of them. The limit: one MGET. dataloader: by hand, one loader for all 64.' }, times, byHand))
  }
  await close()
  return rows
}

const answersOf = (caches, answer) => new Map(Array.from(caches, ([side, cache]) => [side, () => answer(cache)]))

function readTogether ({ get, request }) {
  if (request === undefined) return batch => Promise.all(batch.map(get))
  return batch => {
    const loader = request()
    return Promise.all(batch.map(id => loader.load(id)))
  }
}
