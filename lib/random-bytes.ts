import { randomFillSync } from 'node:crypto'

/** Filled as a whole: each time is a system call. */
export const randomPool = Buffer.alloc(4096)
let drawn = randomPool.length

/** Returns the offset in the pool of `count` bytes that are given to no other caller. The next call may refill the pool. */
export function drawRandom (count: number): number {
  if (drawn + count > randomPool.length) {
    randomFillSync(randomPool)
    drawn = 0
  }
  return (drawn += count) - count
}
