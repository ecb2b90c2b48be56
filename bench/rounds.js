import { median, quantile } from './statistics.js'

/**
 * Lets sides take turns, every round from another one on. Before the first they run until they are warm, and until it is
 * known how often they do it in a slice of time.
 *
 * Each turn begins with one that isn't timed, and before the clock starts what garbage is young is collected: what a side
 * leaves in its turn, it collects in its turn. All garbage is collected only before they are warmed up. To do so while nothing
 * is under way throws away most of the compiled code, since no object has the shapes that it was compiled for. To a server
 * that is at work this doesn't happen, and whoever has more code would pay more for it.
 *
 * A side is a function that does the work `count` times. Resolves to name → samples, nanoseconds for one time.
 */
export async function takeTurns (sides, { rounds, slice, warmUp, most = Infinity, between = async () => {} }) {
  const names = [...sides.keys()]
  const counts = new Map()
  globalThis.gc()
  for (const [name, run] of sides) counts.set(name, await warm(run, { slice, warmUp, most, between }))

  const samples = new Map(names.map(name => [name, []]))
  for (let round = 0; round < rounds; round++) {
    for (let turn = 0; turn < names.length; turn++) {
      const name = names[(round + turn) % names.length]
      const [run, count] = [sides.get(name), counts.get(name)]
      await between()
      await run(count)
      await between()
      samples.get(name).push(await timed(run, count))
    }
  }
  return samples
}

/** Nanoseconds for one time. */
async function timed (run, count) {
  globalThis.gc({ type: 'minor' })
  const started = process.hrtime.bigint()
  await run(count)
  return Number(process.hrtime.bigint() - started) / count
}

/** Resolves to how many times fill a slice, when it has run for `warmUp` milliseconds: the compiler is done by then. */
async function warm (run, { slice, warmUp, most, between }) {
  let count = 1
  for (let spent = 0; ;) {
    await between()
    const each = await timed(run, count)
    spent += each * count / 1e6
    const wanted = Math.max(1, Math.min(most, Math.round(slice * 1e6 / each)))
    if (spent >= warmUp && wanted <= 4 * count) return Math.min(wanted, 2 * count)
    count = Math.min(wanted, 4 * count)
  }
}

/** A side that awaits `read` again and again, with what `next` gives. */
export const repeat = (read, next) => async count => {
  for (let i = 0; i < count; i++) await read(next(i))
}

/** The samples with that one of our sides as ours, and without the others. */
export const withOurs = (samples, side) => new Map([['ours', samples.get(side)], ...[...samples].filter(([name]) => !name.startsWith('ours'))])

/** A row of the report: each one's median, in `scale` nanoseconds, and the middle half of its samples. */
export function rowOf ({ name, unit, scale = 1, about }, samples, extra = {}) {
  const medianOf = side => samples.has(side) ? median(samples.get(side)) / scale : null
  const peers = [...samples.keys()].filter(side => side !== 'ours' && side !== 'limit')
  return {
    name,
    unit,
    about,
    ours: medianOf('ours'),
    limit: medianOf('limit'),
    peers: Object.fromEntries(peers.map(peer => [peer, medianOf(peer)])),
    spread: Object.fromEntries(Array.from(samples, ([side, values]) => [side, [0.25, 0.75].map(fraction => quantile(values, fraction) / scale)])),
    rounds: samples.get('ours')?.length,
    ...extra
  }
}

export const microseconds = { unit: 'µs', scale: 1e3 }
export const nanoseconds = { unit: 'ns', scale: 1 }
