import { execFile } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { cpus, release, totalmem, type } from 'node:os'
import { promisify } from 'node:util'
import { findProgram } from '../test/helpers/programs.js'
import type { Machine } from './result.js'

export function thisMachine (): Machine {
  return {
    cpu: cpus()[0]?.model.trim() ?? 'unknown processor',
    cores: cpus().length,
    memory: `${(totalmem() / 2 ** 30).toFixed(0)} GiB`,
    system: `${type()} ${release().split('-', 1)[0]}`,
    node: process.version
  }
}

/** Of what is compared, and of the servers. */
export async function versions (servers: ReadonlyArray<'redis' | 'postgres'>): Promise<Record<string, string>> {
  const { dependencies } = JSON.parse(read('package.json')) as { dependencies: Record<string, string> }
  const found: Record<string, string> = { 'fastify-caching-api': versionIn('../package.json') }
  for (const name of Object.keys(dependencies)) found[name] = versionIn(`node_modules/${name}/package.json`)
  const programs = { redis: 'redis-server', postgres: 'postgres' } as const
  for (const server of servers) {
    const { stdout } = await promisify(execFile)(await findProgram(programs[server]), ['--version'])
    found[server] = /\d+\.\d+(?:\.\d+)?/.exec(stdout)?.[0] ?? stdout.trim()
  }
  return found
}

const read = (path: string): string => readFileSync(new URL(path, import.meta.url), 'utf8')

const versionIn = (path: string): string => (JSON.parse(read(path)) as { version: string }).version
