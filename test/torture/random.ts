/** The same numbers for the same seed (mulberry32). Each part of a run has its own, so that none disturbs another's. */
export class Random {
  #state: number

  constructor (...seed: readonly (string | number)[]) {
    this.#state = hashOf(seed.join('/'))
  }

  /** From 0 to below 1. */
  next (): number {
    this.#state = (this.#state + 0x6d2b79f5) | 0
    let mixed = Math.imul(this.#state ^ (this.#state >>> 15), 1 | this.#state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }

  chance (probability: number): boolean {
    return this.next() < probability
  }

  between (least: number, most: number): number {
    return least + this.next() * (most - least)
  }

  /** From 0 to below `count`. */
  index (count: number): number {
    return Math.floor(this.next() * count)
  }

  pick<T> (list: readonly T[]): T {
    return list[this.index(list.length)]!
  }

  /** One of `list`, as often as its weight says. */
  weighted<T extends { readonly weight: number }> (list: readonly T[]): T {
    let left = this.next() * list.reduce((sum, { weight }) => sum + weight, 0)
    return list.find(({ weight }) => (left -= weight) < 0) ?? list.at(-1)!
  }
}

/** FNV-1a. */
function hashOf (text: string): number {
  let hash = 0x811c9dc5
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193)
  return hash
}
