import { show } from '../errors.js'

/** What became of the work on a name: its result can be looked for, or the work failed, or nobody else will find its result. */
export type Outcome = { readonly kind: 'done' } | { readonly kind: 'failed', readonly error: unknown } | { readonly kind: 'unshared' }

/** An outcome, and the names that it is of, as they travel between processes. */
export interface News {
  readonly names: readonly string[]
  readonly outcome: Outcome['kind']
  readonly error?: TravellingError
}

/** The part of an error that another process gets to see. */
interface TravellingError { name: string, message: string, code?: string, statusCode?: number }

export const newsOf = (names: readonly string[], outcome: Outcome): News => outcome.kind === 'failed'
  ? { names, outcome: 'failed', error: travelling(outcome.error) }
  : { names, outcome: outcome.kind }

/** Undefined for a message that is no news: anybody may publish on the channel. */
export function parseNews (message: string): News | undefined {
  try {
    const news = JSON.parse(message) as News
    return Array.isArray(news.names) && ['done', 'failed', 'unshared'].includes(news.outcome) ? news : undefined
  } catch {
    return undefined
  }
}

/** The error that failed work elsewhere has ended with. */
export function errorOf (news: News): Error {
  const { name, message, ...rest } = checked(Object(news.error) as object)
  const error = Object.assign(new Error(message), rest)
  Object.defineProperty(error, 'name', { value: name, configurable: true, writable: true })
  return error
}

/** A loader may throw anything: what is no Error, and what throws itself when its properties are read. */
function travelling (error: unknown): TravellingError {
  try {
    return error instanceof Error ? checked(error) : { name: 'Error', message: typeof error === 'string' ? error : show(error) }
  } catch {
    return checked({})
  }
}

/** The properties that have the right type, both of what a loader has thrown and of what a message has brought. */
function checked (error: object): TravellingError {
  const { name, message, code, statusCode } = error as Record<string, unknown>
  return {
    name: typeof name === 'string' ? name : 'Error',
    message: typeof message === 'string' ? message : 'a load failed in another process',
    ...(typeof code === 'string' && { code }),
    ...(typeof statusCode === 'number' && { statusCode })
  }
}
