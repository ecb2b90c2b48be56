import type { Backend, BackendEntry, LeasingBackend } from '../../lib/backends/backend.js'
import { memory } from '../../lib/backends/memory.js'
import { gate, type Gate } from './doubles.js'

/** The same backend, until the test takes it away: then it refuses everything, or says nothing. */
export function switchable<B extends Backend> (backend: B) {
  const state = { away: false as boolean | 'silent' }
  const switched = new Proxy(backend, {
    get (target, name) {
      const member: unknown = Reflect.get(target, name, target)
      if (typeof member !== 'function') return member
      return async (...args: unknown[]) => {
        if (state.away === 'silent') return await new Promise(() => {})
        if (state.away) throw new Error('away')
        return await member.apply(target, args)
      }
    }
  })
  return { backend: switched, state }
}

/** The same backend; before the nth call of a method something else happens. */
export function interruptible<B extends Backend> (backend: B) {
  const interruptions = new Map<string, { calls: number, happen: () => Promise<void> }>()
  const interrupted = new Proxy(backend, {
    get (target, name) {
      const member: unknown = Reflect.get(target, name, target)
      if (typeof member !== 'function') return member
      return async (...args: unknown[]) => {
        const interruption = interruptions.get(String(name))
        if (interruption !== undefined && --interruption.calls === 0) await interruption.happen()
        return await member.apply(target, args)
      }
    }
  })
  return {
    backend: interrupted,
    before: (method: keyof LeasingBackend, calls: number, happen: () => Promise<void>) => { interruptions.set(method, { calls, happen }) }
  }
}

/** The same backend; an answer that the test holds back has been given already, as that of a node which was faster than others. */
export function withLateAnswers<B extends Backend> (backend: B) {
  let late: { ready: Gate, given: Gate } | undefined
  const answering = new Proxy(backend, {
    get (target, name) {
      const member = bound(target, name)
      if ((name !== 'getMany' && name !== 'leaseMany') || typeof member !== 'function') return member
      return async (...args: unknown[]) => {
        const mine = late
        late = undefined
        const answer: unknown = await member(...args)
        mine?.given.open()
        await mine?.ready.opened
        return answer
      }
    }
  })
  return { backend: answering, holdNext: () => (late = { ready: gate(), given: gate() }) }
}

/** A member as its owner has it, for a double that is a proxy of it: a method's `this` is not the proxy. */
export function bound (target: object, name: string | symbol): unknown {
  const member: unknown = Reflect.get(target, name, target)
  return typeof member === 'function' ? member.bind(target) : member
}

/** A backend of bytes that counts what it is asked. */
export function countingBackend (): Backend & { reads: number, writes: number } {
  const inner = memory({ maxEntries: 20_000 })
  return {
    name: 'counted',
    reads: 0,
    writes: 0,
    getMany (keys) { this.reads++; return inner.getMany(keys) },
    setMany (entries) { this.writes++; return inner.setMany(entries) },
    deleteMany: keys => inner.deleteMany(keys)
  }
}

/** Three methods, a Map behind them, and a record of what was asked. */
export class MapBackend implements Backend {
  readonly name: string
  readonly kept = new Map<string, Uint8Array>()
  /** The keys of each getMany that had any but the region's stamp. */
  readonly reads: string[][] = []
  /** Run with the answer of a getMany, before it is given. */
  afterRead: (keys: readonly string[]) => unknown = () => {}
  beforeDelete: () => unknown = () => {}
  closed = 0

  constructor (name = 'map') {
    this.name = name
  }

  async getMany (keys: readonly string[]): Promise<(Uint8Array | undefined)[]> {
    const asked = keys.filter(key => !key.startsWith('{'))
    if (asked.length > 0) this.reads.push(asked)
    const found = keys.map(key => this.kept.get(key))
    if (asked.length > 0) await this.afterRead(asked)
    return found
  }

  async setMany (entries: readonly BackendEntry[]): Promise<void> {
    for (const { key, value } of entries) this.kept.set(key, value)
  }

  async deleteMany (keys: readonly string[]): Promise<void> {
    await this.beforeDelete()
    for (const key of keys) this.kept.delete(key)
  }

  async close (): Promise<void> {
    this.closed++
  }
}
