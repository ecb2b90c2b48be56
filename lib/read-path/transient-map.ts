/** Removed nodes that are kept at least, when the rest moves to another Map. */
const mostGone = 256

/** A value in the map, by which it is removed without its key. */
export class MapNode<V> {
  /** Undefined: it was removed. */
  value: V | undefined

  constructor (value: V) {
    this.value = value
  }
}

/**
 * A Map for hundreds of values that come and go together. V8's own Map moves to a smaller table again and again while it is
 * emptied, and each table that it has left keeps the next one alive, with all that is in it, until a full collection: a service
 * that read many keys at once spent a third of its time on that. So here removed nodes stay, until none else is left, or
 * until one is added where most are removed ones: what comes together mostly goes together.
 */
export class TransientMap<V> {
  #map = new Map<string, MapNode<V>>()
  /** How many nodes of the Map have no value any more. */
  #gone = 0

  get size (): number {
    return this.#map.size - this.#gone
  }

  get (key: string): V | undefined {
    return this.#map.get(key)?.value
  }

  /** For a key that has no value. */
  add (key: string, value: V): MapNode<V> {
    if (this.#gone > mostGone && this.#gone > this.#map.size / 2) this.#move()
    const node = new MapNode(value)
    const { size } = this.#map
    this.#map.set(key, node)
    if (this.#map.size === size) this.#gone-- // it has replaced a removed node of the same key
    return node
  }

  /** At most once for each node. */
  remove (node: MapNode<V>): void {
    node.value = undefined
    this.#gone++
    if (this.#gone === this.#map.size) this.#startAnew()
  }

  * values (): Generator<V> {
    for (const { value } of this.#map.values()) if (value !== undefined) yield value
  }

  #startAnew (): void {
    this.#map = new Map()
    this.#gone = 0
  }

  #move (): void {
    const left = new Map<string, MapNode<V>>()
    for (const [key, node] of this.#map) if (node.value !== undefined) left.set(key, node)
    this.#map = left
    this.#gone = 0
  }
}
