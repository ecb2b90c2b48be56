import type { TortureOptions } from './options.js'
import type { Connections } from './world.js'

/** What a process is told when it begins. */
export interface Setting extends Pick<TortureOptions, 'seed' | 'processes' | 'memory' | 'rows' | 'slow' | 'subject' | 'build'> {
  /** Its number, and how many were there before it under that number. */
  readonly worker: number
  readonly life: number
  readonly connections: Connections
  readonly database: string
  readonly log: string
}

/** What a process saw when all was over. */
export interface LastRead { readonly cell: number, readonly way: string, readonly version: number | undefined }
