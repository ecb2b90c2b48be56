import { setTimeout } from 'node:timers'

/** After so many reads the clock is read again, even if the event loop has not turned since. */
const mostReads = 32

/** As it was when this module was loaded: a clock that a test puts in its place later is read each time. */
export const systemTime = Date.now

let time = 0
let readsLeft = 0
let timer: NodeJS.Timeout | undefined
let isTimed = false

/**
 * The system's time, read once for many hits in memory: reading it takes a fifth of a hit. It is at most a millisecond old, or,
 * while the event loop is blocked, 32 reads. lru-cache keeps the time for its `ttlResolution` in the same way.
 */
export const recentTime = (): number => readsLeft-- > 0 ? time : readTime()

function readTime (): number {
  readsLeft = mostReads - 1
  if (!isTimed) {
    isTimed = true
    timer = timer?.refresh() ?? setTimeout(forget, 1).unref()
  }
  return (time = systemTime())
}

function forget (): void {
  readsLeft = 0
  isTimed = false
}
