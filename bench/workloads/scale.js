import { redis } from '../../dist/plugin/index.js'
import { byHand as limit } from '../by-hand.js'
import { checkAnswers, withoutLoads } from '../checks.js'
import { connect } from '../clients.js'
import { ours } from '../ours.js'
import { nanoseconds, repeat, rowOf, takeTurns } from '../rounds.js'
import { cityOf, countedSource, pick } from '../rows.js'
import { openPeers } from '../peers/index.js'
import { median } from '../statistics.js'
import { byHand } from './in-redis.js'

const sizes = [1, 10, 100, 1000, 10_000]
const most = sizes.at(-1)
/** What the row `scale` is made of. */
const compared = [100, 10_000]
/** Those that read many keys by one command. */
const peerNames = ['cache-manager', 'cacheable', 'dataloader', 'layered-loader']

export async function run ({ redis: { port }, random, turns, only }) {
  const sources = new Map()
  const sourceOf = side => Object.assign(sources.set(side, countedSource()).get(side), { port, name: side })
  const client = connect(port)
  const caches = new Map([
    ['ours', ours({ tiers: [redis(client)], source: sourceOf('ours') })],
    ['limit', limit({ port, source: sourceOf('limit') })],
    ...await openPeers('redis', sourceOf, peerNames)
  ])
  const all = Array.from({ length: most }, (_, id) => id)
  for (const { getMany, idle } of caches.values()) {
    for (let from = 0; from < most; from += 1000) await getMany(all.slice(from, from + 1000))
    await idle?.()
  }

  const bySize = new Map()
  for (const size of sizes) {
    if (!only(`scale-${size}`) && !(only('scale') && compared.includes(size))) continue
    const batches = Array.from({ length: size === most ? 1 : 20 }, () => pick(size, most, random))
    await checkAnswers(new Map(Array.from(caches, ([side, { getMany }]) => [side, () => getMany(batches[0])])), batches[0].map(cityOf))
    const sides = new Map(Array.from(caches, ([side, { getMany }]) => [side, repeat(getMany, i => batches[i % batches.length])]))
    bySize.set(size, await withoutLoads(sources, () => takeTurns(sides, turns)))
  }
  for (const { close } of caches.values()) await close()
  client.disconnect()

  const rows = Array.from(bySize).filter(([size]) => only(`scale-${size}`)).map(([size, times]) =>
    rowOf({ name: `scale-${size}`, ...nanoseconds, about: `${size.toLocaleString('en')} ids of one getMany, which Redis has: time for each id. The limit: MGET and JSON.parse.` }, each(size, times), byHand))
  if (!only('scale')) return rows
  const growth = side => median(bySize.get(10_000).get(side)) / 10_000 / (median(bySize.get(100).get(side)) / 100)
  rows.unshift({
    name: 'scale',
    unit: '×',
    about: 'Time for each id of 10,000, as a multiple of that of 100.',
    ours: growth('ours'),
    limit: growth('limit'),
    peers: Object.fromEntries(peerNames.map(name => [name, growth(name)])),
    ...byHand
  })
  return rows
}

const each = (size, times) => new Map(Array.from(times, ([side, samples]) => [side, samples.map(sample => sample / size)]))
