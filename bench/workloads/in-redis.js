import { redis, redlock } from '../../dist/plugin/index.js'
import { byHand as limit } from '../by-hand.js'
import { connect, flush } from '../clients.js'
import { ours } from '../ours.js'
import { openPeers } from '../peers/index.js'
import { countedSource } from '../rows.js'

/** It knows no Redis: what its row says is written by hand. */
export const byHand = { byHand: ['dataloader'] }

/** Redis alone, without memory before it: ours with and without an election, by hand, and the peers, each under its own name. */
export async function inRedis ({ port, makeSource = countedSource, peers }) {
  await flush(port)
  const sources = new Map()
  const sourceOf = side => Object.assign(sources.set(side, makeSource()).get(side), { port, name: side })
  const client = connect(port)
  const own = (name, lock) => ours({ namespace: name, tiers: [redis(client)], ...lock, source: sourceOf(name) })
  const caches = new Map([
    ['ours', own('ours')],
    ['ours-elected', own('ours-elected', { lock: redlock([client]) })],
    ['limit', limit({ port, source: sourceOf('limit') })],
    ...await openPeers('redis', sourceOf, peers)
  ])
  await Promise.all([caches.get('ours').manager.ready(), caches.get('ours-elected').manager.ready()])
  return {
    caches,
    sources,
    /** Every side has them all. */
    async fill (ids) {
      for (const { getMany, idle } of caches.values()) {
        for (let from = 0; from < ids.length; from += 100) await getMany(ids.slice(from, from + 100))
        await idle?.()
      }
    },
    async close () {
      for (const { close } of caches.values()) await close()
      client.disconnect()
    }
  }
}
