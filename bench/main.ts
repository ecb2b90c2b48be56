// What reads cost, beside the peers and the limit: `npm run bench` from the top folder, see options.ts.
//
// Starts its own servers and runs each workload in a process of its own. Its exit code says whether all results were
// right, not whether they were fast.

import { fork, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { startPostgres, startRedis } from '../test/helpers/servers.js'
import { writeDocs } from './docs.js'
import { thisMachine, versions } from './machine.js'
import { UsageError, readOptions, usage, type Options } from './options.js'
import { machineLine, rowsTable, verdictsTable } from './report.js'
import type { Result, Row } from './result.js'
import { judge } from './targets.js'
import { chosen, type Workload } from './workloads.js'

/** Rounds, and what a side gets of each, and before them: milliseconds. */
const turns = { quick: { rounds: 5, slice: 5, warmUp: 40 }, full: { rounds: 15, slice: 60, warmUp: 1000 } }
/** Of one workload. Milliseconds. */
const longest = 20 * 60_000

const teardowns: (() => unknown)[] = []
const owner = { teardown: (undo: () => unknown) => { teardowns.push(undo) } } as Parameters<typeof startRedis>[0]

async function tearDown (): Promise<void> {
  for (const undo of teardowns.splice(0).reverse()) await undo()
}

let interrupted = false
for (const [signal, code] of [['SIGINT', 130], ['SIGTERM', 143], ['SIGHUP', 129]] as const) {
  process.once(signal, () => { interrupted = true; void tearDown().finally(() => process.exit(code)) })
}

try {
  process.exitCode = await main(readOptions(process.argv.slice(2)))
} catch (error) {
  console.error(error instanceof UsageError ? error.message : error)
  process.exitCode = error instanceof UsageError ? 2 : 1
} finally {
  await tearDown()
}

/** Resolves to the exit code. */
async function main (options: Options): Promise<number> {
  if (options.help) {
    console.log(usage)
    return 0
  }
  const command = ['npm run bench', ...process.argv.length > 2 ? ['--', ...process.argv.slice(2)] : []].join(' ')
  const wanted = chosen(options.only, options.quick)
  const needs = (['redis', 'postgres'] as const).filter(server => wanted.some(workload => workload.needs?.includes(server) === true))
  const [machine, using] = [thisMachine(), await versions(needs)]
  console.log(`${command}\n${machineLine(machine)}, seed ${options.seed}\n${Object.entries(using).map(([name, version]) => `${name} ${version}`).join(', ')}\n`)

  const servers = {
    redis: needs.includes('redis') ? await startRedis(owner) : undefined,
    postgres: needs.includes('postgres') ? await startPostgres(owner) : undefined
  }
  const rows: Row[] = []
  const failures: string[] = []
  for (const workload of wanted) {
    const started = performance.now()
    try {
      const measured = await run(workload, options, servers)
      rows.push(...measured)
      console.log(`${rowsTable(measured)}\n    ${((performance.now() - started) / 1000).toFixed(1)} s\n`)
    } catch (error) {
      if (interrupted) return await new Promise<never>(() => {}) // whoever interrupted ends the process
      failures.push(workload.file)
      console.error(`${workload.file}: ${(error as Error).message}\n`)
    }
  }

  // The compilers are not done in so short a time, and whoever has more code looks slower than he is.
  const targets = options.quick ? [] : judge(rows)
  const result: Result = { command, date: new Date().toISOString(), seed: options.seed, quick: options.quick, machine, versions: using, workloads: rows, targets }
  if (targets.length > 0) console.log(verdictsTable(targets))
  if (options.quick) console.log('So short a run shows that all of it works; a whole one, how fast it is.')
  if (options.json !== undefined) writeFileSync(options.json, `${JSON.stringify(result, null, 2)}\n`)
  if (options.docs && failures.length === 0) writeDocs(result)
  if (failures.length > 0) console.error(`\nWrong, or not measured: ${failures.join(', ')}`)
  return failures.length > 0 ? 1 : 0
}

async function run ({ file, rows }: Workload, { quick, seed }: Options, { redis, postgres }: { redis: { port: number } | undefined, postgres: { url: string } | undefined }): Promise<Row[]> {
  const child = fork(fileURLToPath(new URL('./child.js', import.meta.url)), [], {
    execArgv: ['--expose-gc'],
    env: { ...process.env, NODE_ENV: 'production', NODE_OPTIONS: '' },
    stdio: ['ignore', 'inherit', 'inherit', 'ipc']
  })
  teardowns.push(() => child.kill('SIGKILL'))
  const tooLong = setTimeout(() => child.kill('SIGKILL'), longest)
  try {
    child.send({ file, rows, quick, seed, turns: quick ? turns.quick : turns.full, redis: redis && { port: redis.port }, postgres: postgres && { url: postgres.url } })
    return await answerOf(child)
  } finally {
    clearTimeout(tooLong)
    child.kill('SIGKILL')
  }
}

interface Answer { result?: Row[], error?: { message: string } }

async function answerOf (child: ChildProcess): Promise<Row[]> {
  const [answer] = await Promise.race([
    once(child, 'message') as Promise<[Answer]>,
    once(child, 'exit').then(([code, signal]): [Answer] => [{ error: { message: `it ended with ${signal ?? `exit code ${code}`} before it was done` } }])
  ])
  if (answer.error !== undefined) throw new Error(answer.error.message)
  return answer.result!
}

if (!existsSync(fileURLToPath(new URL('../dist/plugin/index.js', import.meta.url)))) throw new Error('dist/ is missing: npm run build')
