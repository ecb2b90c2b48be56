import { drawRandom, randomPool } from './random-bytes.js'

/**
 * What has happened to a region as a whole: counters, and no clocks, so that nothing is compared between the clocks of
 * two machines. A shared tier keeps it under one key and every read brings it along. An entry carries the stamp that its
 * load began under; a stamp that was lost is replaced by one with another epoch, and every entry is gone with it.
 */
export interface Stamp {
  /** Replaced by a hard invalidation. Entries of another epoch are gone. */
  readonly epoch: number
  /** Raised by a soft invalidation. Entries of an older one are stale. */
  readonly softened: number
  /** Raised by an invalidation of tags. Entries of an older one are looked at tag by tag. */
  readonly tagged: number
  /**
   * Raised by an invalidation of keys, and on a Redis server by a set or a refresh. A fill without a mark, and rows
   * that a load found besides what it was asked for, are kept only if nothing has raised it.
   */
  readonly deleted: number
}

/** What an entry carries that no shared tier has stamped yet. */
export const unstamped: Stamp = { epoch: -1, softened: 0, tagged: 0, deleted: 0 }

/** A stamp with a random epoch. */
export const newStamp = (): Stamp => ({ epoch: newStampPart(), softened: 0, tagged: 0, deleted: 0 })

/** Unlike any before it. */
export const newStampPart = (): number => randomPool.readUIntBE(drawRandom(6), 6)

export const formatStamp = (stamp: Stamp): string => `${stamp.epoch}|${stamp.softened}|${stamp.tagged}|${stamp.deleted}`

/** Undefined for what is no stamp of ours. */
export function parseStamp (text: string): Stamp | undefined {
  const [, epoch, softened, tagged, deleted] = /^(\d{1,15})\|(\d{1,15})\|(\d{1,15})\|(\d{1,15})$/.exec(text) ?? []
  return epoch === undefined ? undefined : { epoch: Number(epoch), softened: Number(softened), tagged: Number(tagged), deleted: Number(deleted) }
}
