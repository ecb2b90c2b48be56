import { setTimeout as pause } from 'node:timers/promises'
import { WrongResultError, checkAnswers } from '../checks.js'
import { commandCounter } from '../commands.js'
import { rowOf } from '../rounds.js'
import { cityOf } from '../rows.js'
import { sharedSides } from '../shared-sides.js'
import { median } from '../statistics.js'

const callers = 1000
const takes = 50

export async function run ({ redis: { port }, quick }) {
  /** The first two with loads that take no time. */
  const [warmUps, untimed, rounds] = quick ? [3, 1, 2] : [12, 6, 25]
  const { caches, sources, close } = await sharedSides({ port })
  // By hand it is the load alone, which a thousand wait for.
  const alone = sources.get('limit')
  caches.get('limit').close()
  caches.set('limit', { get: idsOfOne(alone.load), close () {} })
  caches.delete('ours-plain')
  await pause(600) // until the line is believed

  let next = 0
  async function stampede (side) {
    const id = next++
    const { get } = caches.get(side)
    const before = sources.get(side).loads
    const started = performance.now()
    const rows = await Promise.all(Array.from({ length: callers }, () => get(id)))
    const took = performance.now() - started
    await checkAnswers(new Map([[side, () => rows]]), new Array(callers).fill(cityOf(id)))
    await caches.get(side).idle?.()
    if (sources.get(side).loads === before) throw new WrongResultError(`${side} has found what nobody had put there`)
    return took
  }

  const sides = [...caches.keys()]
  for (const side of sides) {
    for (let i = 0; i < warmUps; i++) await stampede(side)
  }
  const counter = await commandCounter(port)
  const commands = new Map()
  for (const side of sides) commands.set(side, [(await counter.during(() => stampede(side))).length])
  counter.close()

  const before = new Map(sides.map(side => [side, sources.get(side).loads]))
  const times = new Map(sides.map(side => [side, []]))
  for (let round = 0; round < rounds; round++) {
    for (let turn = 0; turn < sides.length; turn++) {
      const side = sides[(round + turn) % sides.length]
      sources.get(side).takes = 0
      for (let i = 0; i < untimed; i++) await stampede(side) // as in takeTurns
      sources.get(side).takes = takes
      globalThis.gc({ type: 'minor' })
      times.get(side).push(await stampede(side))
    }
  }
  const loads = new Map(sides.map(side => [side, [(sources.get(side).loads - before.get(side)) / ((untimed + 1) * rounds)]]))
  await close()
  return [
    rowOf({ name: 'stampede-1', unit: 'ms', about: `${callers} requests want the same cold key at once; a load takes ${takes} ms. Until all have it. The limit: that one load.` }, times, { load: median(alone.took.filter(took => took >= takes - 1)) }),
    rowOf({ name: 'stampede-1-loads', unit: 'loads', about: 'Loads for one such stampede.' }, loads),
    rowOf({ name: 'stampede-1-commands', unit: 'commands', about: 'Redis commands for one such stampede, with what is written back; a script is one.' }, commands)
  ]
}

/** One load for all who ask meanwhile. */
function idsOfOne (load) {
  const flights = new Map()
  return id => {
    if (!flights.has(id)) flights.set(id, load(id))
    return flights.get(id)
  }
}
