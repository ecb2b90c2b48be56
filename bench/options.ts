import { parseArgs } from 'node:util'
import { names } from './workloads.js'

export interface Options {
  readonly quick: boolean
  /** Names of workloads or rows; none: all. */
  readonly only: readonly string[]
  readonly json: string | undefined
  readonly docs: boolean
  readonly seed: number
  readonly help: boolean
}

/** A command line that can't be meant. */
export class UsageError extends Error {}

const known = {
  quick: { type: 'boolean', default: false },
  only: { type: 'string', multiple: true, default: [] as string[] },
  json: { type: 'string' },
  docs: { type: 'boolean', default: false },
  seed: { type: 'string', default: '1' },
  help: { type: 'boolean', short: 'h', default: false }
} as const

export const usage = `npm run bench -- [options]

  --quick        everything in less than a minute, and rougher
  --only NAME    only this; again, or with commas, for several
  --json FILE    the numbers, to a file
  --docs         docs/benchmarks.md and its charts, made anew
  --seed N       another choice of keys; default 1

NAME is one of ${names.join(', ')}.`

/** @throws UsageError that says what there is */
export function readOptions (args: readonly string[]): Options {
  let values
  try {
    values = parseArgs({ args: [...args], options: known, strict: true, allowPositionals: false }).values
  } catch (error) {
    throw new UsageError(`${(error as Error).message.split('. ', 1)[0]}.\n\n${usage}`)
  }
  const { only, seed, ...rest } = values
  const wanted = only.flatMap(list => list.split(',')).map(name => name.trim()).filter(name => name !== '')
  if (only.length > 0 && wanted.length === 0) throw new UsageError(`--only wants a name.\n\n${usage}`)
  const unknown = wanted.filter(name => !names.includes(name))
  if (unknown.length > 0) throw new UsageError(`There is no workload ${unknown.join(', ')}: there are ${names.join(', ')}.`)
  if (!/^\d{1,9}$/.test(seed)) throw new UsageError(`--seed must be a number of up to nine digits, got '${seed}'.`)
  if (rest.docs && (rest.quick || wanted.length > 0)) throw new UsageError('--docs is made of a whole run: it goes with neither --quick nor --only.')
  return { json: undefined, ...rest, only: wanted, seed: Number(seed) }
}
