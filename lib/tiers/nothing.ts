import type { Backend } from './backend.js'

/** Keeps nothing: a region of only request memory and batches. */
export function nothing (): Backend {
  return new NothingBackend()
}

/** A region doesn't ask it. */
export class NothingBackend implements Backend {
  readonly name = 'nothing'

  async getMany (keys: readonly string[]): Promise<undefined[]> {
    return keys.map(() => undefined)
  }

  async setMany (): Promise<void> {}
  async deleteMany (): Promise<void> {}
}
