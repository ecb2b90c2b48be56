import { isDivisible, type DivisibleLock, type HeldLock } from './lock.js'

interface Part { readonly names: readonly string[], readonly held: HeldLock }

/** Several locks that are held for one piece of work. */
export class HeldTogether implements DivisibleLock {
  readonly token: string
  #parts: readonly Part[]

  constructor (parts: readonly Part[]) {
    this.token = parts.map(({ held }) => held.token).join(' ')
    this.#parts = parts
  }

  /** False: all were lost. */
  async extend (ttl: number): Promise<boolean> {
    const extended = await Promise.allSettled(this.#parts.map(async ({ held }) => await held.extend(ttl)))
    if (extended.some(one => one.status === 'fulfilled' && one.value)) return true
    const failed = extended.find(one => one.status === 'rejected')
    if (failed !== undefined) throw failed.reason
    return false
  }

  async release (): Promise<void> {
    await Promise.allSettled(this.#parts.map(async ({ held }) => { await held.release() }))
  }

  async releaseSome (names: readonly string[]): Promise<void> {
    const released = new Set(names)
    const left: Part[] = []
    await Promise.allSettled(this.#parts.map(async part => {
      const own = part.names.filter(name => released.has(name))
      if (own.length === part.names.length) return await part.held.release()
      // One that is held for all of its names is held until the last is done.
      left.push(own.length > 0 && isDivisible(part.held) ? { ...part, names: part.names.filter(name => !released.has(name)) } : part)
      if (own.length > 0 && isDivisible(part.held)) await part.held.releaseSome(own)
    }))
    this.#parts = left
  }
}
