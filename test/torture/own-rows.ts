import type { Setting } from './setting.js'

/** Of all rows. */
const ownedShare = 0.25

/**
 * Of all rows, those at the end are each set by one process only; forgotten, by all. However few there are, each process has
 * one.
 */
export class OwnRows {
  /** From this one on, all are somebody's. */
  readonly first: number
  /** Those of this process. */
  readonly own: readonly number[]

  constructor ({ rows, processes, worker }: Pick<Setting, 'rows' | 'processes' | 'worker'>) {
    const count = Math.max(processes, Math.ceil(ownedShare * rows))
    this.first = rows - count
    this.own = Array.from({ length: count }, (_, i) => this.first + i).filter(id => (id - this.first) % processes === worker)
  }
}
