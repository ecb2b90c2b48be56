// One of several processes that share a Redis. It has all sides open and does what it is told, for one of them.

import { setTimeout as pause } from 'node:timers/promises'
import { sharedSides } from '../shared-sides.js'

let sides

const orders = {
  async open (setting) {
    sides = await sharedSides(setting)
    return [...sides.caches].map(([name, cache]) => ({ name, deletes: cache.delete !== undefined }))
  },

  /** All callers want the key at one moment, the same in all processes, and have waited from then on. A load takes so long. */
  async stampede ({ side, id, callers, takes, at }) {
    const { get } = sides.caches.get(side)
    const source = sides.sources.get(side)
    const before = source.loads
    source.takes = takes
    await pause(Math.max(0, at - clock()))
    const waited = []
    const rows = await Promise.all(Array.from({ length: callers }, async () => {
      const row = await get(id)
      waited.push(clock() - at)
      return row
    }))
    return { waited, loads: source.loads - before, took: source.took.splice(0), rows: [...new Set(rows.map(row => JSON.stringify(row)))] }
  },

  /** A memory with a single key would be nobody's: lru-cache, for one, is slow to delete the last one. */
  async fill ({ side, ids }) {
    await Promise.all(Array.from(ids, id => sides.caches.get(side).get(id)))
  },

  async read ({ side, id }) {
    return await sides.caches.get(side).get(id)
  },

  /** Reads again and again; resolves to the moment when it had to load. */
  async watch ({ side, id }) {
    const { get } = sides.caches.get(side)
    const source = sides.sources.get(side)
    const loaded = new Promise(resolve => { source.onLoad = () => resolve(clock()) })
    const deadline = clock() + 10_000
    for (const before = source.loads; source.loads === before;) {
      await get(id)
      await new Promise(setImmediate)
      if (clock() > deadline) throw new Error(`${side}: this process has not heard of the invalidation for ten seconds`)
    }
    return await loaded
  },

  async delete ({ side, id }) {
    const started = clock()
    await sides.caches.get(side).delete(id)
    return { started, ended: clock() }
  },

  async idle ({ side }) {
    await sides.caches.get(side).idle?.()
  }
}

/** Milliseconds of a clock that all processes of a machine share and nobody sets. */
const clock = () => Number(process.hrtime.bigint()) / 1e6

process.on('disconnect', () => process.exit())
process.on('message', ({ call, order, arg }) => {
  orders[order](arg).then(
    result => process.send({ call, result }),
    error => process.send({ call, error: error.stack ?? String(error) })
  )
})
