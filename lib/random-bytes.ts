import { randomFillSync } from 'node:crypto'

/** Filled as a whole: each time is a system call. */
export const randomPool = Buffer.alloc(4096)
let drawn = randomPool.length

/** Where in the pool so many bytes are that nobody else gets; until the next call, which may refill it. */
export function drawRandom (count: number): number {
  if (drawn + count > randomPool.length) {
    randomFillSync(randomPool)
    drawn = 0
  }
  return (drawn += count) - count
}
