import type { Database, Row } from './database.js'
import type { Kind, RegionName } from './layout.js'
import type { Random } from './random.js'
import type { Origin, ReadWay, WriteWay } from './ways.js'
import type { Connections } from './world.js'

/** A cache that is tortured, as one process has it. */
export interface Subject {
  readonly regions: readonly RegionName[]
  readonly reads: readonly ReadOperation[]
  readonly writes: readonly WriteOperation[]
}

export interface ReadOperation {
  readonly way: ReadWay
  readonly weight: number
  readonly kinds: readonly Kind[]
  /** Takes several ids. */
  readonly many?: boolean
  /** Resolves to one answer for each id. */
  run (region: RegionName, kind: Kind, ids: readonly number[]): Promise<readonly Answer[]>
}

/** Without a version: nothing was cached. */
export interface Answer { readonly version: number | undefined, readonly origin: Origin }

export interface WriteOperation {
  readonly way: WriteWay
  readonly weight: number
  readonly kinds: readonly Kind[]
  readonly regions?: readonly RegionName[]
  readonly many?: boolean
  /** Forgets what is older than these rows, or replaces it by them. */
  run (region: RegionName, kind: Kind, rows: readonly Row[]): Promise<void>
}

export interface SubjectOptions {
  connections: Connections
  /** Loads rows, slowly at times, and fails at times. */
  database: Pick<Database, 'byIds' | 'byName'>
  memory: boolean
  /** The folder of the build that is tortured. */
  build: string
  random: Random
}

/** What a loader throws now and then. */
export class LoaderError extends Error {
  readonly code = 'TORTURE_LOADER'
}

/** No such row: older than any. */
const absent = 0

export const versionOf = (row: Row | null | undefined): number | undefined => row === undefined ? undefined : row?.version ?? absent
