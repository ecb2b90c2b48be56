import { setTimeout as pause } from 'node:timers/promises'
import { memory, redis, redlock } from '../dist/plugin/index.js'
import { connect } from './clients.js'
import { ours } from './ours.js'
import { openPeers } from './peers/index.js'
import { cityOf } from './rows.js'
import { lifetime, mostEntries } from './settings.js'

/** What a process has among others: memory in front of Redis, where a side has both, and a source that takes its time. */
export async function sharedSides ({ port, takes = 0 }) {
  const sources = new Map()
  const sourceOf = side => Object.assign(sources.set(side, slowSource(takes)).get(side), { port, name: side })
  const client = connect(port)
  const inFront = (name, lock) => ours({
    namespace: name,
    tiers: [memory({ maxEntries: mostEntries }), redis(client)],
    source: sourceOf(name),
    ...lock !== undefined && { lock }
  })
  const elected = inFront('ours', redlock([client]))
  const plain = inFront('ours-plain')
  await Promise.all([elected.manager.ready(), plain.manager.ready()])
  const caches = new Map([
    ['ours', elected],
    ['ours-plain', plain],
    ['limit', await byHandShared(sourceOf('limit'))],
    ...await openPeers('shared', sourceOf)
  ])
  return {
    caches,
    sources,
    async close () {
      for (const { close } of caches.values()) await close()
      client.disconnect()
    }
  }
}

/** It counts its loads, and tells how long they took. */
function slowSource (takes) {
  const source = {
    loads: 0,
    /** Milliseconds that a load takes, and what it took. */
    takes,
    took: [],
    onLoad: () => {},
    async load (id) {
      return (await source.loadMany([id]))[0]
    },
    async loadMany (ids) {
      source.loads++
      source.onLoad()
      const started = performance.now()
      if (source.takes > 0) await pause(source.takes)
      source.took.push(performance.now() - started)
      return ids.map(cityOf)
    }
  }
  return source
}

/**
 * The limit, for a value that several processes want: one sets a mark and loads, and tells the others when it is there.
 * It has no answer to a process that dies, a message that is lost or a value that is deleted meanwhile.
 */
async function byHandShared ({ port, name, load }) {
  const [client, subscriber] = [connect(port), connect(port)]
  const keyOf = id => `${name}:${id}`
  const rows = new Map()
  const flights = new Map()
  const waiting = new Map()
  await subscriber.subscribe(`${name}:there`, `${name}:gone`)
  subscriber.on('message', (channel, id) => {
    if (channel === `${name}:gone`) rows.delete(Number(id))
    else waiting.get(Number(id))?.()
  })

  async function fetch (id) {
    const found = await client.get(keyOf(id))
    if (found !== null) return JSON.parse(found)
    const awaited = new Promise(resolve => waiting.set(id, resolve))
    const isMine = await client.set(`${keyOf(id)}:lock`, '1', 'PX', 5000, 'NX')
    if (isMine !== 'OK') {
      await awaited
      return JSON.parse(await client.get(keyOf(id)))
    }
    const row = await load(id)
    await client.pipeline().set(keyOf(id), JSON.stringify(row), 'PX', lifetime).publish(`${name}:there`, String(id)).del(`${keyOf(id)}:lock`).exec()
    return row
  }

  return {
    async get (id) {
      const known = rows.get(id)
      if (known !== undefined) return known
      let flight = flights.get(id)
      if (flight === undefined) {
        flight = fetch(id)
        flights.set(id, flight)
        rows.set(id, await flight)
        flights.delete(id)
        waiting.delete(id)
      }
      return await flight
    },
    delete: id => client.pipeline().del(keyOf(id)).publish(`${name}:gone`, String(id)).exec(),
    close () {
      client.disconnect()
      subscriber.disconnect()
    }
  }
}
