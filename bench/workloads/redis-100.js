import { WrongResultError, checkAnswers, withoutLoads } from '../checks.js'
import { microseconds, repeat, rowOf, takeTurns, withOurs } from '../rounds.js'
import { cityOf, pick } from '../rows.js'
import { byHand, inRedis } from './in-redis.js'

const known = 1000
const wanted = 100
const missing = 20

export async function run ({ redis, random, turns, only }) {
  const opened = await inRedis({ port: redis.port })
  await opened.fill(Array.from({ length: known }, (_, id) => id))
  const setting = { ...opened, random, turns }
  const rows = []
  if (only('redis-100')) rows.push(await found(setting))
  if (only('redis-100-20') || only('redis-100-20-plain')) rows.push(...(await someMissing(setting)).filter(({ name }) => only(name)))
  await opened.close()
  return rows
}

async function found ({ caches, sources, random, turns }) {
  const batches = Array.from({ length: 200 }, () => pick(wanted, known, random))
  const sides = new Map()
  for (const [side, { getMany }] of caches) if (side !== 'ours-elected') sides.set(side, repeat(getMany, i => batches[i % batches.length]))
  await checkAnswers(new Map(Array.from(caches, ([side, { getMany }]) => [side, () => getMany(batches[0])])), batches[0].map(cityOf))
  const times = await withoutLoads(sources, () => takeTurns(sides, turns))
  return rowOf({ name: 'redis-100', ...microseconds, about: '100 ids that Redis has. The limit: one MGET and JSON.parse. Peers that read keys one by one send 100 GETs at once.' }, times, byHand)
}

/** Write-backs are paid for, whether a side waits for them or not: what one reading leaves to do, the next one waits for. */
async function someMissing ({ caches, sources, random, turns }) {
  const batches = Array.from({ length: 200 }, () => pick(wanted - missing, known, random))
  let next = known

  /** Nobody has seen the last twenty. */
  const fresh = i => {
    next += missing
    return [...batches[i % batches.length], ...Array.from({ length: missing }, (_, n) => next + n)]
  }
  for (const [side, { getMany, idle }] of caches) {
    const ids = fresh(0)
    const answer = new Map([[side, () => getMany(ids)]])
    await checkAnswers(answer, ids.map(cityOf))
    await idle?.()
    await withoutLoads(new Map([[side, sources.get(side)]]), () => checkAnswers(answer, ids.map(cityOf)))
  }
  const sides = new Map(Array.from(caches, ([side, { getMany, idle }]) => [side, async count => {
    const before = sources.get(side).loads
    for (let i = 0; i < count; i++) await getMany(fresh(i))
    await idle?.()
    if (sources.get(side).loads - before < count) throw new WrongResultError(`${side} has found what nobody had put there`)
  }]))
  const times = await takeTurns(sides, { ...turns, most: 200 })
  const about = '100 ids, of which Redis has 80; the loader answers at once, and what it gave is written back. The limit: MGET and a pipeline of SETs.'
  return [
    rowOf({ name: 'redis-100-20', ...microseconds, about: `${about} Ours elects a loader by Redlock.` }, withOurs(times, 'ours-elected'), byHand),
    rowOf({ name: 'redis-100-20-plain', ...microseconds, about: `${about} Ours without an election.` }, withOurs(times, 'ours'), byHand)
  ]
}
