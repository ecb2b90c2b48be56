import { writeFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import type { Owner } from '../helpers/server-process.js'
import { startPostgres } from '../helpers/servers.js'
import { mutant, mutations, type Mutation } from './mutations.js'
import { defaults, faultKinds, tiers, type FaultKind, type TortureOptions } from './options.js'
import { installPeers, peerNames } from './peers.js'
import { isClean, report, table } from './report.js'
import { run as runTorture } from './run.js'
import type { Result } from './verdict.js'

const usage = `npm run torture -- [options]

  --seconds N         how long, ${defaults.seconds}
  --seed N            of the schedule of faults and of all choices, ${defaults.seed}
  --processes N       ${defaults.processes}
  --tier NAME         ${tiers.join(', ')}; ${defaults.tier}
  --memory yes|no     a memory tier in front; yes
  --faults LIST       ${faultKinds.join(',')}, or none; all
  --rows N            ${defaults.rows}
  --slow N            loaders that are N times as slow as usual
  --peers             other caches beside ours
  --only-peer NAME    ${peerNames.join(', ')}
  --mutate LIST|all   without one of our guards: it must be found out
  --lib FOLDER        whose lib/ and plugin/ are tortured; this one
  --json FILE         the results

It ends with exit code 1 if anything stale was read, or a mutation wasn't found out.`

const { values } = parseArgs({
  options: {
    seconds: { type: 'string' },
    seed: { type: 'string' },
    processes: { type: 'string' },
    tier: { type: 'string' },
    memory: { type: 'string' },
    faults: { type: 'string' },
    rows: { type: 'string' },
    slow: { type: 'string' },
    peers: { type: 'boolean', default: false },
    'only-peer': { type: 'string' },
    mutate: { type: 'string' },
    lib: { type: 'string' },
    json: { type: 'string' },
    help: { type: 'boolean', default: false }
  }
})
if (values.help) {
  console.log(usage)
  process.exit()
}

/** What is to be ended, the last one first. */
class Endings implements Owner {
  readonly #endings: (() => unknown)[] = []

  readonly teardown: Owner['teardown'] = ending => { this.#endings.push(ending as () => unknown) }

  async end (): Promise<void> {
    for (const ending of this.#endings.splice(0).reverse()) await ending()
  }
}

const options: TortureOptions = {
  ...defaults,
  seconds: number('seconds'),
  seed: number('seed'),
  processes: number('processes'),
  rows: number('rows'),
  slow: number('slow'),
  tier: oneOf('tier', tiers),
  memory: oneOf('memory', ['yes', 'no'] as const, 'yes') === 'yes',
  faults: faultsWanted(values.faults),
  build: values.lib ?? fileURLToPath(new URL('../..', import.meta.url))
}
const all = new Endings()
let clean = true
try {
  const database = await startPostgres(all, { shared: true })
  const results = values.mutate !== undefined
    ? await mutate(mutations.filter(({ name }) => values.mutate === 'all' || values.mutate!.split(',').includes(name)), database.url)
    : await torture(database.url)
  if (values.json !== undefined) await writeFile(values.json, JSON.stringify(results, null, 2))
} finally {
  await all.end()
}
process.exit(clean ? 0 : 1)

/** Ours, or the peers', or one beside the other. */
async function torture (database: string): Promise<Result[]> {
  const only = values['only-peer']
  const subjects = only !== undefined ? [only] : values.peers ? ['ours, plain', ...peerNames] : ['ours']
  if (only !== undefined || values.peers) await installPeers()
  const results: Result[] = []
  for (const subject of subjects) {
    // Plain ones have a sixth of the keys of a full one: as many are hot with more rows.
    const rows = subject === 'ours' || values.rows !== undefined ? options.rows : 4 * options.rows
    const result = await runOnce({ ...options, subject, rows }, database)
    console.log(`${report(result)}\n`)
    results.push(result)
    if (subject.startsWith('ours')) clean &&= isClean(result)
  }
  if (results.length > 1) console.log(table(results))
  return results
}

/** Each of them must be found out. */
async function mutate (chosen: readonly Mutation[], database: string): Promise<Result[]> {
  if (chosen.length === 0) throw new Error(`there is no mutation ${values.mutate}: there are ${mutations.map(({ name }) => name).join(', ')}`)
  const results: Result[] = []
  // All of them first: a guard that isn't there any more is an error at once.
  const builds = await Promise.all(chosen.map(async mutation => await mutant(all, mutation, options.build)))
  for (const [i, mutation] of chosen.entries()) {
    const ran = await untilFound(mutation, builds[i]!, database)
    const sum = (of: 'stale' | 'staleForGood' | 'reads' | 'lasted') => ran.reduce((sum, result) => sum + result[of], 0)
    const found = isFound(ran.at(-1)!)
    clean &&= found
    console.log(`${found ? 'found out' : 'NOT FOUND'}  ${mutation.name} (${mutation.what}): ${sum('stale')} stale reads, ${sum('staleForGood')} for good, of ${sum('reads')} reads in ${(sum('lasted') / 1000).toFixed(0)} s`)
    results.push(...ran)
  }
  return results
}

/** One run of the time that was asked for; or as many short ones as fit into it, of what shows only when a run is over. */
async function untilFound ({ run = {} }: Mutation, build: string, database: string): Promise<Result[]> {
  const ran: Result[] = []
  do {
    ran.push(await runOnce({ ...options, ...run, seed: options.seed + ran.length, build, untilStale: true }, database))
  } while (!isFound(ran.at(-1)!) && (ran.length + 1) * (run.seconds ?? Infinity) <= options.seconds)
  return ran
}

function isFound ({ stale, staleForGood }: Result): boolean {
  return stale + staleForGood > 0
}

async function runOnce (what: TortureOptions, database: string): Promise<Result> {
  const t = new Endings()
  try {
    return await runTorture(t, { ...what, database, progress: line => process.stderr.write(`${what.subject}: ${line}\n`) })
  } finally {
    await t.end()
  }
}

function number (name: 'seconds' | 'seed' | 'processes' | 'rows' | 'slow'): number {
  const given = values[name] === undefined ? defaults[name] : Number(values[name])
  if (!Number.isInteger(given) || given < 1) throw new Error(`--${name} must be a positive number, got ${values[name]}`)
  return given
}

function oneOf<T extends string> (name: 'tier' | 'memory', choices: readonly T[], fallback = choices[0]!): T {
  const given = (values[name] ?? fallback) as T
  if (!choices.includes(given)) throw new Error(`--${name} must be one of ${choices.join(', ')}, got ${given}`)
  return given
}

function faultsWanted (given: string | undefined): readonly FaultKind[] {
  if (given === undefined) return faultKinds
  if (given === 'none') return []
  const wanted = given.split(',') as FaultKind[]
  for (const kind of wanted) if (!faultKinds.includes(kind)) throw new Error(`--faults knows ${faultKinds.join(', ')} and none, not ${kind}`)
  return wanted
}
