import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import type { Owner } from '../helpers/server-process.js'
import { milliseconds, now } from './clock.js'
import { Database } from './database.js'
import { Faults } from './faults.js'
import { Layout } from './layout.js'
import { refusal, type TortureOptions } from './options.js'
import { schedule } from './schedule.js'
import { Victims } from './victims.js'
import { judge, type Evidence, type Judged, type Result } from './verdict.js'
import { World } from './world.js'

/** Milliseconds: how long what was pending may take to be delivered when all is well again: breakers, replays and clients have pauses. */
const patience = { least: 3000, most: 15_000 }
/** What is still under way this long after the end hangs. */
const longestEnd = 15_000
/** How often it tells how it goes, and looks for something stale where that is the end. */
const lookEvery = 2000

export interface RunOptions extends TortureOptions {
  /** Of a PostgreSQL, whose table is made anew. */
  readonly database: string
  /** Hears how it goes. */
  readonly progress?: (line: string) => void
}

/** One run, from the start of its servers to the verdict. */
export async function run (t: Owner, options: RunOptions): Promise<Result> {
  const { seconds, rows, progress = () => {} } = options
  const refused = refusal(options)
  if (refused !== undefined) throw new Error(refused)
  const folder = mkdtempSync(join(tmpdir(), 'torture-'))
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  const database = new Database(options.database)
  await database.create(rows).finally(async () => await database.end())
  const world = await World.start(t, options)
  const victims = await Victims.start(t, { ...options, world, folder })
  const faults = new Faults({ world, victims: victims.all, slots: await slotsWorthMoving(world) })
  const evidence = (): Evidence => ({ layout: new Layout(rows), logs: victims.logs, happened: faults.happened, lived: author => victims.lived(author) })

  // 1. Everything at once.
  const began = now()
  const elapsed = () => (now() - began) / milliseconds
  const over = new AbortController()
  const hurting = faults.run(schedule({ ...options, servers: world.servers }), over.signal)
  let found = false
  while (!found && elapsed() < seconds * 1000) {
    await pause(Math.min(lookEvery, seconds * 1000 - elapsed()))
    progress(`${Math.round(elapsed() / 1000)} s, ${faults.happened.length} faults`)
    found = options.untilStale && judge(evidence()).stale > 0
  }
  const lasted = elapsed()
  over.abort()

  // 2. Nothing is wrong any more, and nobody writes; what was pending is delivered.
  await hurting
  const hanging = await victims.stop(longestEnd)
  const end = async (judged: Judged): Promise<Result> => {
    await victims.end()
    return { ...judged, options, lasted, hanging, died: victims.died, faults: faults.summary }
  }
  if (found) return await end(judge(evidence()))

  // 3. Everybody reads everything, and so does a process that has nothing in memory.
  const quietSince = now()
  await pause(patience.least)
  for (;;) {
    const judged = judge(evidence(), await victims.readAll())
    if (judged.staleForGood === 0 || now() - quietSince > patience.most * milliseconds) return await end(judged)
    await pause(1000)
  }
}

/** Of the stamps of regions, and of keys that are read a lot. */
async function slotsWorthMoving ({ cluster }: World): Promise<number[]> {
  if (cluster === undefined) return []
  const keys = ['lasting', 'brief'].flatMap(region => [`{caching-api:${region}}`, ...Array.from({ length: 8 }, (_, id) => `caching-api:${region}:k:item-${id}`)])
  return await Promise.all(keys.map(async key => await cluster.slotOf(key)))
}
