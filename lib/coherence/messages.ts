/** What is to be forgotten of a region: keys, everything with one of the tags, the whole of it, or the freshness of the whole. */
export interface Invalidations {
  readonly keys?: readonly string[]
  readonly tags?: readonly string[]
  readonly hard?: boolean
  readonly soft?: boolean
  /** The keys have new values already: who is setting them as well may go on. */
  readonly replaced?: boolean
}

export interface Push extends Invalidations { readonly region: string }

/** Of a process that believes its memory; milliseconds. Others wait for it as long as that. */
export const longestLease = 60_000

/** What processes tell each other over a line. `from` is who says it. */
export type Message = { readonly from: string } & (
  // To all:
  /** I am about to believe my memory: wait for my acknowledgement from now on. */
  | { readonly kind: 'hello', readonly lease: number }
  /** Forget this. Numbered in their order; `previous` is the last one that is known to have been published. */
  | { readonly kind: 'push', readonly number: number, readonly previous: number, readonly pushes: readonly Push[] }
  | { readonly kind: 'bye' }
  // To one:
  /** The answer to hello: I believe mine already. */
  | { readonly kind: 'present', readonly lease: number }
  /** I have forgotten everything up to this push of yours. */
  | { readonly kind: 'acknowledgement', readonly upTo: number }
  /** I can't see that you do: I shall not wait for you any more, until you say hello. */
  | { readonly kind: 'doubt' }
)

/** Undefined for what is no message of ours. */
export function readMessage (text: string): Message | undefined {
  let message: Record<string, unknown>
  try {
    message = Object(JSON.parse(text))
  } catch {
    return undefined
  }
  return typeof message['from'] === 'string' && isKnown(message) ? message as unknown as Message : undefined
}

function isKnown ({ kind, number, previous, lease, upTo, pushes }: Record<string, unknown>): boolean {
  switch (kind) {
    case 'bye':
    case 'doubt': return true
    case 'hello':
    case 'present': return typeof lease === 'number' && lease > 0 && lease <= longestLease
    case 'acknowledgement': return isNumber(upTo)
    case 'push': return isNumber(number) && isNumber(previous) && Array.isArray(pushes) && pushes.every(isPush)
    default: return false
  }
}

const isNumber = (value: unknown): boolean => Number.isSafeInteger(value) && (value as number) >= 0

function isPush (push: unknown): push is Push {
  const { region, keys, tags } = Object(push) as Partial<Push>
  return typeof region === 'string' && areStrings(keys) && areStrings(tags)
}

const areStrings = (list: unknown): boolean => list === undefined || (Array.isArray(list) && list.every(item => typeof item === 'string'))
