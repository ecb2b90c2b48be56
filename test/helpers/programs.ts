import { execFile } from 'node:child_process'
import { access, constants, readdir } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'
import { promisify } from 'node:util'

const run = promisify(execFile)

/** The program of each server, and the Debian package that it comes in. */
const packageOf = {
  'redis-server': 'redis-server',
  'redis-cli': 'redis-tools',
  memcached: 'memcached',
  initdb: 'postgresql',
  postgres: 'postgresql'
} as const

export type Program = keyof typeof packageOf

/**
 * Resolves to the path of a server's program, installed first where that is ours to do: as root on Debian.
 * Elsewhere a missing server is an error that says how to install it. It is never a reason to skip a test.
 */
export async function findProgram (name: Program): Promise<string> {
  const found = await search(name)
  if (found !== undefined) return found

  if (process.getuid?.() === 0 && await isExecutable('/usr/bin/apt-get')) {
    await installServers()
    const installed = await search(name)
    if (installed !== undefined) return installed
  }
  throw new Error(`${name} is missing, install it with: apt-get update && apt-get install -y ${packageOf[name]}`)
}

/** Resolves to the path of any program on PATH, or undefined. */
export async function which (name: string): Promise<string | undefined> {
  return await firstExecutable(pathFolders(), name)
}

async function search (name: Program): Promise<string | undefined> {
  const found = await which(name)
  if (found !== undefined || packageOf[name] !== 'postgresql') return found

  // Debian keeps PostgreSQL's programs off PATH, in one folder for each version: the newest wins.
  const root = '/usr/lib/postgresql'
  const versions = await readdir(root).catch(() => [])
  const folders = versions.sort((a, b) => Number(b) - Number(a)).map(version => join(root, version, 'bin'))
  const bindir = await run('pg_config', ['--bindir']).then(({ stdout }) => [stdout.trim()], () => [])
  return await firstExecutable([...folders, ...bindir], name)
}

async function firstExecutable (folders: string[], name: string): Promise<string | undefined> {
  for (const folder of folders) {
    const path = join(folder, name)
    if (await isExecutable(path)) return path
  }
}

function pathFolders (): string[] {
  return (process.env['PATH'] ?? '').split(delimiter).filter(folder => folder !== '')
}

async function isExecutable (path: string): Promise<boolean> {
  return await access(path, constants.X_OK).then(() => true, () => false)
}

/**
 * The test files run in several processes, and each of them may find a server missing. One installs all of them; the
 * others wait for its lock, which the kernel gives back even if that process is killed, and then find nothing to do.
 *
 * A `policy-rc.d` that says no is Debian's own way to install a server without starting it as a system service. One
 * that is already there is the machine's, and stays as it is.
 */
async function installServers (): Promise<void> {
  // Downloads take as long as they take, and the runner only learns from the top-level test that this file is slow.
  // Imported here, because child processes of tests, which have no use for a test runner, load this module too.
  const { default: tap } = await import('tap')
  tap.setTimeout(15 * 60_000)
  const script = `
    set -e
    if command -v redis-server && command -v redis-cli && command -v memcached && ls /usr/lib/postgresql/*/bin/initdb
    then exit 0
    fi
    if ! [ -e /usr/sbin/policy-rc.d ]; then
      trap 'rm -f /usr/sbin/policy-rc.d' EXIT
      printf '#!/bin/sh\\nexit 101\\n' > /usr/sbin/policy-rc.d
      chmod 755 /usr/sbin/policy-rc.d
    fi
    apt-get -o DPkg::Lock::Timeout=300 update
    apt-get -o DPkg::Lock::Timeout=300 install -y redis-server memcached postgresql
  `
  const lock = join(tmpdir(), 'fastify-caching-api-install.lock')
  await run('flock', [lock, 'sh', '-c', script], {
    env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' },
    maxBuffer: 64 * 1024 * 1024
  })
}
