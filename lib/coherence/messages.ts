/** What is to be forgotten of a region: keys, everything with one of the tags, the whole of it (hard), or its freshness (soft). */
export interface Invalidation {
  readonly keys?: readonly string[]
  readonly tags?: readonly string[]
  readonly hard?: boolean
  readonly soft?: boolean
  /** The keys have new values already: others that are setting them as well may go on. */
  readonly replaced?: boolean
}

export interface Push extends Invalidation { readonly region: string }

/** The longest lease of a process on its memory. Others may have to wait for as long. Milliseconds. */
export const longestLease = 60_000

/** What processes tell each other over a line. `from` is the sender. */
export type Message = { readonly from: string } & (
  // To all:
  /** I am about to believe my memory: wait for my acknowledgement from now on. */
  | { readonly kind: 'hello', readonly lease: number }
  /** Forget this. Numbered by each sender; `previous` is its last push that is known to have been published. */
  | { readonly kind: 'push', readonly number: number, readonly previous: number, readonly pushes: readonly Push[] }
  /** I am leaving: don't wait for me. */
  | { readonly kind: 'bye' }
  // To one:
  /** The answer to hello: I believe my memory already. */
  | { readonly kind: 'present', readonly lease: number }
  /** I have forgotten everything up to this push of yours. */
  | { readonly kind: 'acknowledgement', readonly upTo: number }
  /** You did not acknowledge: I won't wait for you until you say hello again. */
  | { readonly kind: 'doubt' }
)

/** A message without its sender. Distributed over the kinds: a plain Omit would leave only what all of them have in common. */
export type MessageBody = Message extends infer M ? M extends Message ? Omit<M, 'from'> : never : never

/** Undefined for text that is none of our messages. */
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
