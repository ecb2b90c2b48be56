import { setTimeout as pause } from 'node:timers/promises'
import { startProcesses } from '../processes/members.js'
import { rowOf, withOurs } from '../rounds.js'
import { quantile } from '../statistics.js'

/** What else is in memory: not the keys that are deleted. */
const others = Array.from({ length: 1000 }, (_, i) => 1000 + i)

export async function run ({ redis: { port }, quick }) {
  const [warmUps, rounds] = quick ? [3, 9] : [50, 200]
  const members = startProcesses('./member.js', 2)
  const [deleting, reading] = members
  try {
    const [opened] = await Promise.all(members.map(member => member.tell('open', { port })))
    const sides = opened.filter(({ deletes, name }) => deletes).map(({ name }) => name)
    await pause(1200) // until each knows of the other
    for (const side of sides) {
      for (const member of members) {
        await member.tell('fill', { side, ids: others })
        await member.tell('idle', { side }) // written back: the next one finds them
      }
    }

    const reloaded = new Map(sides.map(side => [side, []]))
    const deleted = new Map(sides.map(side => [side, []]))
    for (let round = -warmUps; round < rounds; round++) {
      for (let turn = 0; turn < sides.length; turn++) {
        const side = sides[(round + warmUps + turn) % sides.length]
        const id = turn
        for (const member of members) await member.tell('read', { side, id })
        await Promise.all(members.map(member => member.tell('idle', { side })))
        const watched = reading.tell('watch', { side, id })
        await pause(5)
        const { started, ended } = await deleting.tell('delete', { side, id })
        const loadedAt = await watched
        await Promise.all(members.map(member => member.tell('idle', { side })))
        if (round < 0) continue
        reloaded.get(side).push(1000 * (loadedAt - started))
        deleted.get(side).push(1000 * (ended - started))
      }
    }
    const p95 = new Map(Array.from(reloaded, ([side, values]) => [side, [quantile(values, 0.95)]]))
    return [
      rowOf({ name: 'invalidate', unit: 'µs', about: 'From a delete in one process until another, which reads that key all the time and had it in memory, loads it anew. Ours elects that one by Redlock. The limit, by hand: DEL and PUBLISH.' }, withOurs(reloaded, 'ours')),
      rowOf({ name: 'invalidate-p95', unit: 'µs', about: 'The same: 95 of 100 take no longer.' }, withOurs(p95, 'ours')),
      rowOf({ name: 'invalidate-plain', unit: 'µs', about: 'The same, ours without an election.' }, withOurs(reloaded, 'ours-plain')),
      rowOf({ name: 'invalidate-call', unit: 'µs', about: 'What the delete itself takes. Ours resolves when the other process has dropped the value and said so; the others when the message is sent.' }, withOurs(deleted, 'ours'))
    ]
  } finally {
    for (const member of members) member.end()
  }
}
