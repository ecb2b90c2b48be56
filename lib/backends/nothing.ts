import type { Backend } from './backend.js'

const made = new WeakSet<Backend>()

/** Keeps nothing: a region of only request memory and batches. */
export function nothing (): Backend {
  const backend: Backend = {
    name: 'nothing',
    async getMany (keys) { return keys.map(() => undefined) },
    async setMany () {},
    async deleteMany () {}
  }
  made.add(backend)
  return backend
}

/** Such a tier need not be asked: a region leaves it out. */
export const isNothing = (backend: Backend): boolean => made.has(backend)
