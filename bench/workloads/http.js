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
  const setting = quick ? { rounds: 3, amount: 600 } : { rounds: 11, amount: 20_000 }
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
    const { wall, processor } = await compare(['idle', 'bare'], { ...setting, rounds: 2 * setting.rounds })
    const named = samples => new Map([['ours', samples.get('idle')], ['limit', samples.get('bare')]])
    rows.push(
      rowOf({ name: 'http-idle', unit: 'µs', about: 'Time for each request to a route that does not use the plugin. The limit: the same without the plugin.' }, named(wall)),
      rowOf({ name: 'http-idle-cpu', unit: 'µs', about: 'The same: the processor time of the server for each request.' }, named(processor))
    )
  }
  return rows
}

/** Side → microseconds for each request of each round: of the wall clock, and of the server's processor. */
async function compare (sides, { rounds, amount }) {
  const servers = new Map(sides.map(side => [side, startProcesses('./http-server.js', 1, [side])[0]]))
  try {
    const urls = new Map()
    for (const [side, server] of servers) urls.set(side, `http://127.0.0.1:${await server.tell('port')}`)
    for (const url of urls.values()) {
      await checkAnswers(new Map([[url, async () => await (await fetch(`${url}/cities/7`)).json()]]), cityOf(7))
      await shoot(url, amount)
    }
    const [wall, processor] = [new Map(sides.map(side => [side, []])), new Map(sides.map(side => [side, []]))]
    for (let round = 0; round < rounds; round++) {
      for (let turn = 0; turn < sides.length; turn++) {
        const side = sides[(round + turn) % sides.length]
        const server = servers.get(side)
        await server.tell('collect')
        await shoot(urls.get(side), Math.ceil(amount / 10))
        globalThis.gc()
        const before = await server.tell('spent')
        wall.get(side).push(await shoot(urls.get(side), amount))
        processor.get(side).push((await server.tell('spent') - before) / amount)
      }
    }
    return { wall, processor }
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
