import { cp, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Owner } from '../helpers/server-process.js'
import type { TortureOptions } from './options.js'

/** A guard of ours that is taken away. */
export interface Mutation {
  readonly name: string
  /** What can happen without it. */
  readonly what: string
  readonly file: string
  /** Occurs exactly once. */
  readonly find: string
  readonly replace: string
  /** How it shows, where that is not by memory and Redis, or not in a minute. */
  readonly run?: Partial<Pick<TortureOptions, 'tier' | 'memory' | 'faults' | 'rows' | 'slow' | 'seconds'>>
}

const noMemory = { memory: false, rows: 16 } as const
/** What makes processes and lines silent without anybody noticing. */
const silence = { faults: ['freeze', 'hold', 'stall'], rows: 16 } as const
const lostLines = { faults: ['cut', 'lose', 'hold'] } as const

export const mutations: readonly Mutation[] = [
  {
    name: 'redis-fill',
    what: 'a fill whose lease was revoked is written all the same',
    file: 'lib/backends/redis-scripts.ts',
    find: "if redis.pcall('GETRANGE', key, 0, #lease - 1) == lease then",
    replace: 'if true then',
    run: noMemory
  },
  {
    name: 'unchanged',
    what: 'a fill without a mark is written though a key was invalidated since',
    file: 'lib/backends/redis-scripts.ts',
    find: 'if epoch ~= ARGV[1] or deleted ~= ARGV[2] then return false end',
    replace: '',
    run: noMemory
  },
  {
    name: 'memcached-fill',
    what: 'a fill is written whatever has happened to its key',
    file: 'lib/backends/memcached.ts',
    find: 'return await this.#shards.cas(this.#key(key), value, exptimeOf(ttl), unique)',
    replace: 'return await this.#shards.set(this.#key(key), value, exptimeOf(ttl))',
    run: { tier: 'memcached', memory: false, faults: ['stall', 'hold', 'lose'], rows: 16, slow: 2 }
  },
  {
    name: 'revoke',
    what: 'a load that began before an invalidation goes into the memory of its process',
    file: 'lib/read-path/flight.ts',
    find: '    if (this.#revokedBy === undefined || weights[by] >= weights[this.#revokedBy]) this.#revokedBy = by\n',
    replace: ''
  },
  {
    name: 'join',
    what: 'a reader joins a load that began before an invalidation',
    file: 'lib/read-path/flights-under-way.ts',
    find: '    flight.detached = true\n    this.#removeJoinable(flight)\n',
    replace: '    flight.detached = true\n',
    run: { rows: 8, slow: 4 }
  },
  {
    name: 'join-tagged',
    what: 'a reader joins a load that began before an invalidation of a tag',
    file: 'lib/read-path/flights-under-way.ts',
    find: '    for (const flight of [...this.#joinable.values()]) if (flight.departed || flight.stale !== undefined) this.detach(flight)\n',
    replace: ''
  },
  {
    name: 'join-later',
    what: 'a load that an invalidation has overtaken on its way may be joined again',
    file: 'lib/read-path/joining.ts',
    find: 'if (other !== flight && !flight.detached && this.isCurrent(flight)) this.#flights.makeJoinable(flight)',
    replace: 'if (other !== flight && this.isCurrent(flight)) this.#flights.makeJoinable(flight)',
    run: { seconds: 300 } // several chances have to meet: once in a minute or two
  },
  {
    name: 'drop-again',
    what: 'what was found in a tier before that was told stays in memory',
    file: 'lib/read-path/changes.ts',
    find: 'if (this.#shared.length > 0) this.#dropTold(what)',
    replace: '',
    run: { tier: 'memcached', rows: 8 }
  },
  {
    name: 'start-empty',
    what: 'memory is kept when messages were lost',
    file: 'lib/read-path/changes.ts',
    find: '    for (const tier of this.#locals) tier.forget({ hard: true })\n',
    replace: '',
    run: lostLines
  },
  {
    name: 'current',
    what: 'a process that may have missed something joins its own older loads',
    file: 'lib/read-path/joining.ts',
    find: 'return (!flight.departed && flight.stale === undefined) || this.#isTrusted()',
    replace: 'return true',
    run: { ...silence, rows: 8, slow: 4 }
  },
  {
    name: 'trust',
    what: 'a process that hangs or is cut off believes its memory',
    file: 'lib/coherence/trust.ts',
    find: 'return performance.now() < this.#until',
    replace: 'return this.#until > 0',
    run: silence
  },
  {
    name: 'acknowledgements',
    what: 'an invalidation resolves when its message was sent',
    file: 'lib/coherence/coherence.ts',
    find: 'if (!eventual) await forgotten',
    replace: '',
    run: { faults: [] }
  },
  {
    name: 'lease',
    what: 'an invalidation does not wait for the lease of a process that does not answer',
    file: 'lib/coherence/acknowledgements.ts',
    find: 'setTimeout(() => { this.#giveUp(pending) }, this.#endOfLease)',
    replace: 'setTimeout(() => { this.#giveUp(pending) }, 20)',
    run: silence
  },
  {
    name: 'doubt',
    what: 'a process that nobody waits for any more is not told so',
    file: 'lib/coherence/acknowledgements.ts',
    find: 'await this.#doubt(id)\n',
    replace: '',
    run: silence
  },
  {
    name: 'replay',
    what: 'an invalidation that a tier could not take is forgotten',
    file: 'lib/tiers/replay-queue.ts',
    find: 'if (this.#timer === undefined) this.#replayLater()',
    replace: ''
  },
  {
    name: 'replayed',
    what: 'others are not told again when a tier has been told late',
    file: 'lib/tiers/replay-queue.ts',
    find: '      this.#onReplayed(what)\n',
    replace: '',
    run: { tier: 'memcached', faults: ['cut', 'lose', 'hold', 'stop'], rows: 128, seconds: 6 }
  },
  {
    name: 'undelivered',
    what: 'a tier is believed about what it could not be told to forget',
    file: 'lib/tiers/replay-queue.ts',
    find: 'if (this.#underWay === 0 && this.#timer === undefined) return false',
    replace: 'return false'
  },
  {
    name: 'prime',
    what: 'a row that came with another one is kept though keys were invalidated meanwhile',
    file: 'lib/read-path/fill.ts',
    find: ' || before.stamp.deleted !== stamp.deleted\n',
    replace: '\n'
  },
  {
    name: 'tags',
    what: 'a tag that was invalidated is not looked at',
    file: 'lib/tiers/entry-reader.ts',
    find: 'return areTagsDoubtful ? this.#dropTagged(entries, stamp) : entries',
    replace: 'return entries'
  },
  {
    name: 'tags-of-now',
    what: 'the tags of a server that was flushed meanwhile are believed about entries from before',
    file: 'lib/tiers/entry-reader.ts',
    find: 'if (this.stampOf(versions.at(-1))?.epoch !== stamp.epoch) return entries.map(() => undefined)',
    replace: '',
    run: { faults: ['flush'] }
  },
  {
    name: 'generation',
    what: 'a memory whose region was invalidated is believed about entries from before',
    file: 'lib/tiers/local-tier.ts',
    find: 'if (generation.epoch !== this.generation.epoch) return undefined',
    replace: ''
  }
]

/** Resolves to the folder of a build without that guard, and with copies of `more` from the same place. */
export async function mutant (t: Owner, { name, file, find, replace }: Mutation, from: string, more: readonly string[] = []): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'torture-mutant-'))
  t.teardown(async () => await rm(folder, { recursive: true, force: true }))
  for (const part of ['lib', 'plugin', 'package.json', ...more]) await cp(join(from, part), join(folder, part), { recursive: true })
  await symlink(join(from, 'node_modules'), join(folder, 'node_modules'))
  const path = join(folder, file)
  await writeFile(path, mutated(await readFile(path, 'utf8'), { name, find, replace }))
  return folder
}

/** @throws an Error where the guard is not there, or not only there */
export function mutated (source: string, { name, find, replace }: Pick<Mutation, 'name' | 'find' | 'replace'>): string {
  const parts = source.split(find)
  if (parts.length !== 2) throw new Error(`mutation ${name}: its guard is there ${parts.length - 1} times`)
  return parts.join(replace)
}
