import type { Policy, Source } from './source.js'

/** What a reader wants of a key. A class, see *What is made for each key* in docs/decisions.md. */
export class Want {
  readonly key: string
  readonly maxAge: number | undefined
  /** What loads it, where it is missing. Undefined: only look in the tiers. */
  readonly load: { readonly source: Source, readonly policy: Policy } | undefined
  /** What the source is called with for this key. */
  readonly arg?: unknown
  /** It is loaded whatever the tiers hold, and replaces that. */
  readonly isRefresh: boolean

  constructor ({ key, maxAge, load, arg, isRefresh = false }: Omit<Want, 'isRefresh'> & { isRefresh?: boolean }) {
    this.key = key
    this.maxAge = maxAge
    this.load = load
    this.arg = arg
    this.isRefresh = isRefresh
  }
}

/** What is wanted, in an error. */
export const nameOf = ({ key, load, arg }: Want): string => load?.source.nameOf?.(arg) ?? key
