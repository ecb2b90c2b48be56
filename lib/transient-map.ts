/** So many have to be gone before those that are left move to another Map. */
const mostGone = 64

/**
 * A Map of what comes and goes by the hundred. V8's own Map moves to a smaller table again and again while it is emptied, and
 * each table that it has left keeps the next one alive, with all that is in it, until a full collection: of a service that
 * reads many keys at once, a third of the time was spent on that.
 */
export class TransientMap<V> {
  #map = new Map<string, V | undefined>()
  /** Keys that are still in there, without a value. */
  #gone = 0

  get size (): number {
    return this.#map.size - this.#gone
  }

  get (key: string): V | undefined {
    return this.#map.get(key)
  }

  set (key: string, value: V): void {
    if (this.#gone > 0 && this.#map.has(key) && this.#map.get(key) === undefined) this.#gone--
    this.#map.set(key, value)
  }

  delete (key: string): void {
    if (this.#map.get(key) === undefined) return
    this.#map.set(key, undefined)
    this.#gone++
    if (this.#gone === this.#map.size) this.clear()
    else if (this.#gone > mostGone && this.#gone > this.#map.size / 2) this.#move()
  }

  clear (): void {
    this.#map = new Map()
    this.#gone = 0
  }

  * values (): Generator<V> {
    for (const value of this.#map.values()) if (value !== undefined) yield value
  }

  #move (): void {
    const left = new Map<string, V | undefined>()
    for (const [key, value] of this.#map) if (value !== undefined) left.set(key, value)
    this.#map = left
    this.#gone = 0
  }
}
