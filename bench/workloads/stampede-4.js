import { setTimeout as pause } from 'node:timers/promises'
import { WrongResultError, checkAnswers } from '../checks.js'
import { now, startProcesses } from '../processes/members.js'
import { cityOf } from '../rows.js'
import { median, quantile } from '../statistics.js'

const processes = 4
const callers = 25
const takes = 50
/** How long before the moment the processes are told of it. Milliseconds. */
const notice = 10

export async function run ({ redis: { port }, quick }) {
  /** The first with loads that take no time. */
  const [warmUps, rounds] = quick ? [2, 2] : [40, 40]
  const members = startProcesses('./member.js', processes)
  const tellAll = (order, arg) => Promise.all(members.map(member => member.tell(order, arg)))
  try {
    const [opened] = await tellAll('open', { port })
    // Without an election ours is as the others are.
    const sides = opened.map(({ name }) => name).filter(name => name !== 'ours-plain')
    await pause(600) // until the line is believed

    const waited = new Map(sides.map(side => [side, []]))
    const loads = new Map(sides.map(side => [side, []]))
    const took = []
    let next = 0
    async function stampede (side, takes) {
      const id = next++
      const results = await tellAll('stampede', { side, id, callers, takes, at: now() + notice })
      await tellAll('idle', { side })
      for (const { rows } of results) await checkAnswers(new Map([[side, () => rows.map(row => JSON.parse(row))]]), [cityOf(id)])
      if (results.every(result => result.loads === 0)) throw new WrongResultError(`${side} has found what nobody had put there`)
      return results
    }

    for (let i = 0; i < warmUps; i++) for (const side of sides) await stampede(side, 0)
    for (let round = 0; round < rounds; round++) {
      for (let turn = 0; turn < sides.length; turn++) {
        const side = sides[(round + turn) % sides.length]
        await stampede(side, 0) // the processes are awake, as in takeTurns
        const results = await stampede(side, takes)
        waited.get(side).push(...results.flatMap(result => result.waited))
        loads.get(side).push(results.reduce((sum, result) => sum + result.loads, 0))
        took.push(...results.flatMap(result => result.took))
      }
    }
    const load = median(took)
    const rowWith = (name, unit, about, valueOf, extra = {}) => ({
      name,
      unit,
      about,
      ours: valueOf('ours'),
      limit: valueOf('limit'),
      peers: Object.fromEntries(sides.filter(side => side !== 'ours' && side !== 'limit').map(side => [side, valueOf(side)])),
      rounds,
      ...extra
    })
    const crowd = `${processes} processes with ${callers} callers each want the same cold key at one moment; a load takes ${takes} ms.`
    return [
      rowWith('stampede-4', 'ms', `${crowd} Half of the callers have waited no longer than this, from that moment on. The limit, by hand: SET NX, and a message when it is there.`, side => quantile(waited.get(side), 0.5), { load }),
      rowWith('stampede-4-p99', 'ms', 'The same: 99 of 100 callers have waited no longer.', side => quantile(waited.get(side), 0.99), { load }),
      rowWith('stampede-4-loads', 'loads', 'Loads for one such stampede.', side => loads.get(side).reduce((sum, one) => sum + one, 0) / rounds)
    ]
  } finally {
    for (const member of members) member.end()
  }
}
