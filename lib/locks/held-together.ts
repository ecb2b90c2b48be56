import { promiseTry } from '../promise-try.js'
import { isDivisible, type DivisibleLock, type HeldLock } from './lock.js'

interface Part { readonly names: readonly string[], readonly held: HeldLock }

/** Several locks, held for one piece of work, as one. */
export class HeldTogether implements DivisibleLock {
  readonly token: string
  #parts: readonly Part[]

  constructor (parts: readonly Part[]) {
    this.token = parts.map(({ held }) => held.token).join(' ')
    this.#parts = parts
  }

  /** False: all of them were lost. */
  async extend (ttl: number): Promise<boolean> {
    const extended = await Promise.allSettled(this.#parts.map(({ held }) => promiseTry(() => held.extend(ttl))))
    if (extended.some(one => one.status === 'fulfilled' && one.value)) return true
    const failed = extended.find(one => one.status === 'rejected')
    if (failed !== undefined) throw failed.reason
    return false
  }

  async release (): Promise<void> {
    const parts = this.#parts
    this.#parts = []
    await Promise.allSettled(parts.map(({ held }) => promiseTry(() => held.release())))
  }

  async releaseSome (names: readonly string[]): Promise<void> {
    const released = new Set(names)
    const kept: Part[] = []
    const releases: (() => Promise<void>)[] = []
    for (const { names, held } of this.#parts) {
      const own = names.filter(name => released.has(name))
      if (own.length === names.length) releases.push(() => held.release())
      else if (own.length > 0 && isDivisible(held)) {
        kept.push({ names: names.filter(name => !released.has(name)), held })
        releases.push(() => held.releaseSome(own))
      } else kept.push({ names, held }) // all of its names, until `release`
    }
    this.#parts = kept // before waiting: others may be released meanwhile
    await Promise.allSettled(releases.map(release => promiseTry(release)))
  }
}
