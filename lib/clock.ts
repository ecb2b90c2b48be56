import { setTimeout } from 'node:timers'

/** After so many reads the clock is read again, even if the event loop has not turned since. */
const mostReads = 32

/** The clock when this module was loaded. One that a test puts in its place later is read each time. */
const systemTime = Date.now

/** False for one that a test had put in its place before. */
export const isSystemTime = (now: () => number): boolean => now === systemTime && String(now).includes('[native code]')

let time = 0
let readsLeft = 0
let isTimed = true
/** The first timer has fired: it was not that of a test which lets no time pass. */
let isTurning = false
const timer = setTimeout(forget, 1).unref()

/**
 * The system's time, read once for many hits in memory: reading it takes a fifth of a hit. It is at most a millisecond old, or,
 * while the event loop is blocked, 32 reads. lru-cache keeps the time for its `ttlResolution` in the same way.
 */
export const recentTime = (): number => readsLeft > 0 ? keptTime() : readTime()

function keptTime (): number {
  readsLeft--
  return time
}

function readTime (): number {
  if (!isTimed) {
    isTimed = true
    timer.refresh()
  }
  if (isTurning) readsLeft = mostReads - 1
  return (time = systemTime())
}

function forget (): void {
  readsLeft = 0
  isTimed = false
  isTurning = true
}
