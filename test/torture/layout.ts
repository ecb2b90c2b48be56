/*
 * What is read and what is invalidated is a cell: a row of the database, under one of its kinds of key, in a region.
 * Nothing but an invalidation that covers a cell promises anything about it.
 */

/** `lasting` keeps values until they are forgotten; in `brief` they also become stale, and are served so within grace. */
export const regions = ['lasting', 'brief'] as const
export const kinds = ['byId', 'byName', 'key'] as const
export type RegionName = typeof regions[number]
export type Kind = typeof kinds[number]

/** How much an invalidation covers: a key; whatever has the row's tag; whatever has its group's; the region. */
export type Scope = 'cell' | 'row' | 'group' | 'region'

export interface Cell { readonly region: RegionName, readonly kind: Kind, readonly id: number }

const groups = 8
export const groupOf = (id: number): number => id % groups

/** Cells as numbers, and back. */
export class Layout {
  readonly rows: number

  constructor (rows: number) {
    this.rows = rows
  }

  get cells (): number {
    return regions.length * kinds.length * this.rows
  }

  number ({ region, kind, id }: Cell): number {
    return (regions.indexOf(region) * kinds.length + kinds.indexOf(kind)) * this.rows + id
  }

  cell (number: number): Cell {
    const place = Math.floor(number / this.rows)
    return { region: regions[Math.floor(place / kinds.length)]!, kind: kinds[place % kinds.length]!, id: number % this.rows }
  }

  /** The cells that an invalidation of this one covers. */
  covered (number: number, scope: Scope): number[] {
    if (scope === 'cell') return [number]
    const { region, id } = this.cell(number)
    const covered: number[] = []
    for (let other = 0; other < this.rows; other++) {
      if (scope === 'region' || other === id || (scope === 'group' && groupOf(other) === groupOf(id))) {
        for (const kind of kinds) covered.push(this.number({ region, kind, id: other }))
      }
    }
    return covered
  }
}
