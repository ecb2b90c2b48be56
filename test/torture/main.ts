import { writeFile } from 'node:fs/promises'
import type { Owner } from '../helpers/server-process.js'
import { startPostgres } from '../helpers/servers.js'
import { readCommandLine, usage, WrongOption, type Command, type Mutated } from './command-line.js'
import { mutant } from './mutations.js'
import type { TortureOptions } from './options.js'
import { installPeers } from './peers.js'
import { isClean, isFoundOut, report, table } from './report.js'
import { run as runTorture } from './run.js'
import type { Result } from './verdict.js'

/** What is to be ended, the last one first. */
class Endings implements Owner {
  readonly #endings: (() => unknown)[] = []

  readonly teardown: Owner['teardown'] = ending => { this.#endings.push(ending as () => unknown) }

  async end (): Promise<void> {
    for (const ending of this.#endings.splice(0).reverse()) await ending()
  }
}

const command = commandOrExit()
if (command.help) {
  console.log(usage)
  process.exit()
}
const all = new Endings()
let clean = true
try {
  const { url } = await startPostgres(all, { shared: true })
  const results = command.mutations.length > 0 ? await mutate(command.mutations, url) : await torture(command.runs, url)
  if (command.json !== undefined) await writeFile(command.json, JSON.stringify(results, null, 2))
} finally {
  await all.end()
}
process.exit(clean ? 0 : 1)

function commandOrExit (): Command {
  try {
    return readCommandLine(process.argv.slice(2))
  } catch (error) {
    if (!(error instanceof WrongOption)) throw error
    console.error(`${error.message}\n--help tells what there is.`)
    process.exit(2)
  }
}

async function torture (runs: readonly TortureOptions[], database: string): Promise<Result[]> {
  if (runs.some(({ subject }) => subject !== 'ours')) await installPeers()
  const results: Result[] = []
  for (const options of runs) {
    const result = await runOnce(options, database)
    console.log(`${report(result)}\n`)
    results.push(result)
    clean &&= isClean(result)
  }
  if (results.length > 1) console.log(table(results))
  return results
}

/** Each of them must be found out. */
async function mutate (chosen: readonly Mutated[], database: string): Promise<Result[]> {
  const results: Result[] = []
  // All of them first: a guard that isn't there any more is an error at once.
  const builds = await Promise.all(chosen.map(async ({ mutation, options }) => await mutant(all, mutation, options.build)))
  for (const [i, mutated] of chosen.entries()) {
    const ran = await untilFound(mutated, builds[i]!, database)
    const found = isFoundOut(ran.at(-1)!)
    clean &&= found
    console.log(summary(mutated, ran, found))
    results.push(...ran)
  }
  return results
}

/** One run of the time that was asked for, or that the mutation needs; or as many short ones as fit into it, of what shows only when a run is over. */
async function untilFound ({ mutation: { run = {} }, options, seconds }: Mutated, build: string, database: string): Promise<Result[]> {
  const ran: Result[] = []
  do {
    ran.push(await runOnce({ ...options, seed: options.seed + ran.length, build }, database))
  } while (!isFoundOut(ran.at(-1)!) && (ran.length + 1) * (run.seconds ?? Infinity) <= seconds)
  return ran
}

function summary ({ mutation }: Mutated, ran: readonly Result[], found: boolean): string {
  const sum = (of: 'stale' | 'staleForGood' | 'reads' | 'lasted') => ran.reduce((sum, result) => sum + result[of], 0)
  const died = ran.flatMap(result => result.died).map(one => `\n  died of itself: ${one}`).join('')
  return `${found ? 'found out' : 'NOT FOUND'}  ${mutation.name} (${mutation.what}): ${sum('stale')} stale reads, ${sum('staleForGood')} for good, of ${sum('reads')} reads in ${(sum('lasted') / 1000).toFixed(0)} s${died}`
}

async function runOnce (what: TortureOptions, database: string): Promise<Result> {
  const t = new Endings()
  try {
    return await runTorture(t, { ...what, database, progress: line => process.stderr.write(`${what.subject}: ${line}\n`) })
  } finally {
    await t.end()
  }
}
