/** A place of the cache: a row as one of the methods reads it. */
export interface Cell { readonly method: string, readonly row: number }

/** A row of the database, at a time. `by`: the load that has read it there, or the set that has written it to the cache. */
export interface Version { readonly row: number, readonly version: number, readonly method: string, readonly by: string }

export interface Change {
  readonly name: string
  readonly kind: 'set' | 'refresh' | 'invalidation' | 'soft invalidation'
  readonly process: number
  readonly cells: readonly Cell[]
  /** By row: what the database had when it began. */
  readonly versions: readonly number[]
}

interface KnownChange extends Change {
  /** Sets of other processes that it has met under way: "one of them wins", and none of them waits for the other. Of a soft invalidation, its own process's too. */
  readonly met: Set<string>
}

interface Floor { readonly version: number, readonly change: KnownChange }

/** What a read may get: noted when it begins, asked for when it ends. */
export interface Limit { readonly cell: Cell, readonly floor: Floor | undefined }

/**
 * What is too old to be read: by docs/consistency.md, what a change that is over has replaced. Each change is a new version of
 * its rows, so the older of two values is the one with the smaller number.
 */
export class Floors {
  /** Something was evicted, so that nothing may be left to keep an older row from coming along with another one. */
  hasForgotten = false
  readonly #known = new Map<string, KnownChange>()
  readonly #underWay = new Set<KnownChange>()
  readonly #everywhere = new Map<Cell, Floor>()
  /** For those who want fresh values only. */
  readonly #fresh = new Map<Cell, Floor>()
  readonly #own = new Map<number, Map<Cell, Floor>>()
  /** Which not everybody has been told of yet. */
  #pending: KnownChange[] = []

  begin (change: Change): void {
    const known: KnownChange = { ...change, met: new Set() }
    for (const other of this.#underWay) {
      const isInOrder = other.process === change.process && other.kind !== 'soft invalidation' && change.kind !== 'soft invalidation'
      if (isInOrder || !other.cells.some(cell => change.cells.includes(cell))) continue
      if (other.kind === 'set') known.met.add(other.name)
      if (change.kind === 'set') other.met.add(change.name)
    }
    this.#known.set(change.name, known)
    this.#underWay.add(known)
  }

  /** `isToldToAll`: no tier and no process could have been away. */
  end ({ name }: Change, isToldToAll: boolean): void {
    const change = this.#over(name)
    if (change.kind === 'soft invalidation') {
      if (isToldToAll) this.#raise(this.#fresh, change)
      return
    }
    let own = this.#own.get(change.process)
    if (own === undefined) this.#own.set(change.process, own = new Map())
    this.#raise(own, change)
    if (isToldToAll) this.#raise(this.#everywhere, change)
    else this.#pending.push(change)
  }

  /** It has changed nothing. */
  fail ({ name }: Change): void {
    this.#over(name)
  }

  /** By now everybody has been told of everything. */
  settle (): void {
    for (const change of this.#pending.splice(0)) this.#raise(this.#everywhere, change)
  }

  at (cell: Cell, process: number, isFresh = false): Limit {
    const floors = [this.#everywhere, this.#own.get(process), isFresh ? this.#fresh : undefined].flatMap(floors => floors?.get(cell) ?? [])
    return { cell, floor: floors.reduce<Floor | undefined>((highest, one) => highest === undefined || one.version > highest.version ? one : highest, undefined) }
  }

  /** For the request that has made the change itself. */
  atOnce (cell: Cell, { name }: Change): Limit {
    const change = this.#known.get(name)!
    return { cell, floor: { version: change.versions[cell.row]!, change } }
  }

  /** Undefined: nothing is wrong with it. */
  wrong (value: Version, { cell, floor }: Limit): string | undefined {
    if (value.row !== cell.row) return `row ${value.row}`
    if (floor === undefined || value.version >= floor.version) return undefined
    if (floor.change.met.has(value.by)) return undefined
    // "A row that came along with an older load", where nothing was left of what was set.
    if (this.hasForgotten && floor.change.kind === 'set' && value.method !== cell.method) return undefined
    return `version ${value.version} of ${value.by}, after ${floor.change.name} of ${floor.version}`
  }

  #over (name: string): KnownChange {
    const change = this.#known.get(name)!
    this.#underWay.delete(change)
    return change
  }

  #raise (floors: Map<Cell, Floor>, change: KnownChange): void {
    for (const cell of change.cells) {
      const version = change.versions[cell.row]!
      if (version > (floors.get(cell)?.version ?? 0)) floors.set(cell, { version, change })
    }
  }
}
