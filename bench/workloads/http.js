import autocannon from 'autocannon'
import { WrongResultError, checkAnswers } from '../checks.js'
import { startProcesses } from '../processes/members.js'
import { rowOf } from '../rounds.js'
import { cityOf } from '../rows.js'
import { median } from '../statistics.js'

const ids = 20
const requests = Array.from({ length: ids }, (_, id) => ({ path: `/cities/${id}` }))
const connections = 20
const peers = ['async-cache-dedupe', 'bentocache', 'layered-loader']

export async function run ({ quick, only }) {
  const setting = quick ? { rounds: 1, warmUp: 1500, slices: 3, amount: 600 } : { rounds: 13, warmUp: 12_000, slices: 5, amount: 2000 }
  const rows = []
  if (only('http') || only('http-cpu')) {
    const { wall, processor } = await compare(['ours', 'limit', 'bare', ...peers], setting)
    const bare = wall.get('bare')
    wall.delete('bare')
    const without = processor.get('bare')
    processor.delete('bare')
    rows.push(
      rowOf({ name: 'http', unit: 'µs', about: `Time for each request to a Fastify route that reads one city of ${ids} from memory; ${connections} connections, each with one request at a time. The limit: a route that awaits a promise out of a Map.` }, wall, { without: median(bare) }),
      rowOf({ name: 'http-cpu', unit: 'µs', about: 'The same: the processor time of the server for each request, which other programs disturb less.' }, processor, { without: median(without) })
    )
  }
  if (only('http-idle') || only('http-idle-cpu')) {
    const { wall, processor } = await compare(['idle', 'bare'], { ...setting, slices: 2 * setting.slices })
    const named = samples => new Map([['ours', samples.get('idle')], ['limit', samples.get('bare')]])
    rows.push(
      rowOf({ name: 'http-idle', unit: 'µs', about: 'Time for each request to a route that does not use the plugin. The limit: the same without the plugin.' }, named(wall)),
      rowOf({ name: 'http-idle-cpu', unit: 'µs', about: 'The same: the processor time of the server for each request.' }, named(processor))
    )
  }
  return rows
}

/**
 * V8 gives a process as much room for young objects as it has seen it need. By what was allocated at boot two servers that
 * do the same differ by a fifth; so they all get what those under load end with, in megabytes.
 */
const youngGeneration = ['--min-semi-space-size=16', '--max-semi-space-size=16']

/**
 * Side → microseconds for each request of each round: of the wall clock, and of the server's processor. Every round has
 * processes of its own, since two that do the same are never quite as fast. Their sides take turns, slice by slice; what
 * counts is the one that was least disturbed.
 */
async function compare (sides, { rounds, warmUp, slices, amount }) {
  const [wall, processor] = [new Map(sides.map(side => [side, []])), new Map(sides.map(side => [side, []]))]
  for (let round = 0; round < rounds; round++) {
    for (const [side, times] of await race(sides, { round, warmUp, slices, amount })) {
      wall.get(side).push(Math.min(...times.map(time => time.wall)))
      processor.get(side).push(Math.min(...times.map(time => time.processor)))
    }
  }
  return { wall, processor }
}

async function race (sides, { round, warmUp, slices, amount }) {
  const servers = new Map(sides.map(side => [side, startProcesses('./http-server.js', 1, [side], youngGeneration)[0]]))
  try {
    const urls = new Map()
    for (const [side, server] of servers) urls.set(side, `http://127.0.0.1:${await server.tell('port')}`)
    for (const url of urls.values()) {
      await checkAnswers(new Map([[url, async () => await (await fetch(`${url}/cities/7`)).json()]]), cityOf(7))
      await shoot(url, warmUp)
    }
    const times = new Map(sides.map(side => [side, []]))
    for (let slice = 0; slice < slices; slice++) {
      for (let turn = 0; turn < sides.length; turn++) {
        const side = sides[(round + slice + turn) % sides.length]
        const server = servers.get(side)
        globalThis.gc({ type: 'minor' })
        const before = await server.tell('spent')
        const took = await shoot(urls.get(side), amount)
        times.get(side).push({ wall: took, processor: (await server.tell('spent') - before) / amount })
      }
    }
    return times
  } finally {
    for (const server of servers.values()) server.end()
  }
}

/** Microseconds for each of so many requests, from the first answer to the last. */
async function shoot (url, amount) {
  const instance = autocannon({ url, amount, connections, requests, sampleInt: 20 })
  let [first, last] = [0, 0]
  instance.on('response', () => {
    last = performance.now()
    if (first === 0) first = last
  })
  const { errors, non2xx } = await instance
  if (errors + non2xx > 0) throw new WrongResultError(`${url} gave ${errors} errors and ${non2xx} answers that aren't 200`)
  return 1000 * (last - first) / (amount - 1)
}
