import type { Backend, LeasingBackend } from '../../lib/backends/backend.js'
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
