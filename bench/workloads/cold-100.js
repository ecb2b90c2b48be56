import { memory } from '../../dist/plugin/index.js'
import { WrongResultError, checkAnswers } from '../checks.js'
import { connect } from '../clients.js'
import { cities, databaseSource, openDatabase } from '../database.js'
import { ours } from '../ours.js'
import { batchingPeers } from '../peers/index.js'
import { microseconds, rowOf, takeTurns, withOurs } from '../rounds.js'
import { cityOf, pick } from '../rows.js'
import { mostEntries } from '../settings.js'
import { byHand, inRedis } from './in-redis.js'

const wanted = 100

export async function run ({ redis, postgres, random, turns, only }) {
  const database = openDatabase(postgres.url)
  await database.fill()
  const flush = connect(redis.port)
  const shuffled = pick(cities, cities, random)
  const rows = []
  if (only('cold-100') || only('cold-100-elected')) rows.push(...(await overRedis({ port: redis.port, database, flush, shuffled, turns })).filter(({ name }) => only(name)))
  if (only('cold-100-memory')) rows.push(await overMemory({ database, shuffled, turns }))
  flush.disconnect()
  await database.close()
  return rows
}

async function overRedis ({ port, database, flush, shuffled, turns }) {
  const { caches, sources, close } = await inRedis({ port, makeSource: () => inOrder(databaseSource(database)), peers: batchingPeers })
  const times = await measure({ caches, sources, shuffled, turns, between: () => flush.flushdb() })
  await close()
  const about = '100 ids that only PostgreSQL has, by one select, written back to Redis. The limit: MGET, select, a pipeline of SETs.'
  return [
    rowOf({ name: 'cold-100', ...microseconds, about: `${about} Ours without an election.` }, withOurs(times, 'ours'), byHand),
    rowOf({ name: 'cold-100-elected', ...microseconds, about: `${about} Ours elects a loader by Redlock.` }, withOurs(times, 'ours-elected'), byHand)
  ]
}

async function overMemory ({ database, shuffled, turns }) {
  const [own, plain] = [databaseSource(database), inOrder(databaseSource(database))]
  const cache = ours({ tiers: [memory({ maxEntries: mostEntries })], source: own })
  const caches = new Map([['ours', cache], ['limit', { getMany: plain.loadMany }]])
  const times = await measure({ caches, sources: new Map([['ours', own], ['limit', plain]]), shuffled, turns, between: () => cache.manager.region('rows').invalidate() })
  await cache.close()
  return rowOf({ name: 'cold-100-memory', ...microseconds, about: '100 ids that only PostgreSQL has, by one select, kept in memory. The limit: the select, put in order, and kept nowhere.' }, times)
}

async function measure ({ caches, sources, shuffled, turns, between }) {
  let next = 0
  const fresh = () => {
    if (next + wanted > cities) next = 0
    next += wanted
    return shuffled.slice(next - wanted, next)
  }
  for (const [side, { getMany, idle }] of caches) {
    await between()
    const ids = fresh()
    const before = sources.get(side).loads
    await checkAnswers(new Map([[side, () => getMany(ids)]]), ids.map(cityOf))
    await idle?.()
    const loads = sources.get(side).loads - before
    if (loads !== 1) throw new WrongResultError(`${side} took ${loads} selects for a batch`)
  }
  const sides = new Map(Array.from(caches, ([side, { getMany, idle }]) => [side, async count => {
    const before = sources.get(side).loads
    for (let i = 0; i < count; i++) await getMany(fresh())
    await idle?.()
    if (sources.get(side).loads - before !== count) throw new WrongResultError(`${side} took ${sources.get(side).loads - before} selects for ${count} batches`)
  }]))
  // Few enough that no id comes back before what is known of it is forgotten.
  return await takeTurns(sides, { ...turns, most: 100, between })
}

/** Rows in the order of their ids, as batch functions of the peers have to give them. */
function inOrder (source) {
  const { loadMany } = source
  return Object.assign(source, {
    loadMany: async ids => {
      const byId = new Map((await loadMany(ids)).map(row => [row.id, row]))
      return ids.map(id => byId.get(id))
    }
  })
}
