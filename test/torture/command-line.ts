import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { mutations, type Mutation } from './mutations.js'
import { defaults, faultKinds, refusal, tiers, type TortureOptions } from './options.js'
import { peerNames } from './peers.js'
import { expectedErrors } from './report.js'

export const usage = `npm run torture -- [options]

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

It ends with exit code 1 if anything stale was read, or nothing at all; if something hangs, a process died of itself, a
fault could not be carried out, or something rejected with another code than ${expectedErrors.join(' and ')};
and if a mutation wasn't found out, or only in runs in which a process died of itself. Of peers nothing is asked.
An option that it can't follow is exit code 2.`

/** What somebody has asked for. */
export interface Command {
  readonly help: boolean
  /** One after the other; none if there are mutations. */
  readonly runs: readonly TortureOptions[]
  readonly mutations: readonly Mutated[]
  readonly json: string | undefined
}

/** A run without a guard. */
export interface Mutated { readonly mutation: Mutation, readonly options: TortureOptions, /** For all of its runs together. */ readonly seconds: number }

/** What nobody can do. */
export class WrongOption extends Error {}

/** @throws a WrongOption */
export function readCommandLine (args: readonly string[]): Command {
  const values = parse(args)
  const options: TortureOptions = {
    ...defaults,
    seconds: number(values, 'seconds'),
    seed: number(values, 'seed'),
    processes: number(values, 'processes'),
    rows: number(values, 'rows'),
    slow: number(values, 'slow'),
    tier: oneOf('tier', values.tier ?? defaults.tier, tiers),
    memory: oneOf('memory', values.memory ?? 'yes', ['yes', 'no']) === 'yes',
    faults: values.faults === undefined ? faultKinds : values.faults === 'none' ? [] : listOf('faults', values.faults, faultKinds, 'none'),
    build: values.lib ?? fileURLToPath(new URL('../..', import.meta.url))
  }
  const command = {
    help: values.help,
    runs: values.mutate !== undefined ? [] : runsOf(values, options),
    mutations: values.mutate === undefined ? [] : mutationsOf(values.mutate, options),
    json: values.json
  }
  for (const run of command.runs) refuse(run)
  for (const { mutation, options } of command.mutations) refuse(options, `mutation ${mutation.name}: `)
  return command
}

type Values = ReturnType<typeof parse>

function parse (args: readonly string[]) {
  const string = { type: 'string' } as const
  const boolean = { type: 'boolean', default: false } as const
  try {
    return parseArgs({
      args: [...args],
      options: {
        seconds: string,
        seed: string,
        processes: string,
        tier: string,
        memory: string,
        faults: string,
        rows: string,
        slow: string,
        peers: boolean,
        'only-peer': string,
        mutate: string,
        lib: string,
        json: string,
        help: boolean
      }
    }).values
  } catch (error) {
    throw new WrongOption((error as Error).message)
  }
}

/** Ours, or the peers', or one beside the other. */
function runsOf ({ 'only-peer': only, peers, rows }: Values, options: TortureOptions): TortureOptions[] {
  if (only !== undefined) oneOf('only-peer', only, peerNames)
  const subjects = only !== undefined ? [only] : peers ? ['ours, plain', ...peerNames] : ['ours']
  // Plain ones have a sixth of the keys of a full one: as many are hot with more rows.
  return subjects.map(subject => ({ ...options, subject, rows: subject === 'ours' || rows !== undefined ? options.rows : 4 * options.rows }))
}

function mutationsOf (given: string, options: TortureOptions): Mutated[] {
  const names = mutations.map(({ name }) => name)
  const wanted = given === 'all' ? names : listOf('mutate', given, names, 'all')
  return mutations
    .filter(({ name }) => wanted.includes(name))
    .map(mutation => ({ mutation, options: { ...options, ...mutation.run, untilStale: true }, seconds: options.seconds }))
}

function number (values: Values, name: 'seconds' | 'seed' | 'processes' | 'rows' | 'slow'): number {
  const given = values[name] === undefined ? defaults[name] : Number(values[name])
  if (!Number.isInteger(given) || given < 1) throw new WrongOption(`--${name} must be a whole number from 1 on, got ${values[name]}`)
  return given
}

function oneOf<T extends string> (name: string, given: string, choices: readonly T[]): T {
  if (!choices.includes(given as T)) throw new WrongOption(`--${name} must be one of ${choices.join(', ')}, got ${given}`)
  return given as T
}

function listOf<T extends string> (name: string, given: string, choices: readonly T[], besides: string): readonly T[] {
  const list = given.split(',') as T[]
  const unknown = list.filter(one => !choices.includes(one))
  if (unknown.length > 0) throw new WrongOption(`--${name} knows ${choices.join(', ')}, or ${besides}, not ${unknown.join(', ')}`)
  return list
}

function refuse (options: TortureOptions, who = ''): void {
  const refused = refusal(options)
  if (refused !== undefined) throw new WrongOption(who + refused)
}
