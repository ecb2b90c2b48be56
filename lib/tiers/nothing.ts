import type { Backend } from './backend.js'

/** Keeps nothing: a region of only request memory and batches. */
export function nothing (): Backend {
  return {
    name: 'nothing',
    async getMany (keys) { return keys.map(() => undefined) },
    async setMany () {},
    async deleteMany () {}
  }
}
