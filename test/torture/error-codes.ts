import { appendFileSync, existsSync, readFileSync } from 'node:fs'

interface Known { readonly number: number, readonly code: string, readonly message: string }

const pathOf = (log: string): string => `${log}.errors`

/** Errors as numbers, for the log of a process; what they stand for is in a file beside it. */
export class ErrorCodes {
  /** Of an invalidation that will be replayed. */
  readonly pending: number
  readonly #path: string
  readonly #numbers = new Map<string, number>()

  constructor (log: string) {
    this.#path = pathOf(log)
    this.pending = this.#numberOf('FST_CACHING_API_INVALIDATION_PENDING', 'a tier was away')
  }

  numberOf (error: unknown): number {
    const { code, name, message } = error as Partial<NodeJS.ErrnoException>
    return this.#numberOf(String(code ?? name ?? 'unknown'), String(message))
  }

  #numberOf (code: string, message: string): number {
    const known = this.#numbers.get(code)
    if (known !== undefined) return known
    const number = this.#numbers.size
    this.#numbers.set(code, number)
    appendFileSync(this.#path, `${JSON.stringify({ number, code, message } satisfies Known)}\n`)
    return number
  }
}

/** By number: each code with the first message that came with it. */
export function readErrorCodes (log: string): { code: string, message: string }[] {
  if (!existsSync(pathOf(log))) return []
  const known: { code: string, message: string }[] = []
  for (const line of readFileSync(pathOf(log), 'utf8').split('\n').filter(line => line.endsWith('}'))) {
    const { number, code, message } = JSON.parse(line) as Known
    known[number] = { code, message }
  }
  return known
}
