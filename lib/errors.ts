import createError, { type FastifyErrorConstructor } from '@fastify/error'

/*
 * Every error that this package makes. `code` is stable; a loader's own errors pass through unchanged.
 * Messages name the thing, what was expected, and what came.
 */

/** Named, since a declaration that is made of `createError` is understood by some module resolutions only. */
type MadeError<Args extends unknown[]> = FastifyErrorConstructor<{ code: string }, Args>

/** An option that can't work. Thrown at registration, or by the call that was given it. */
export const InvalidOptionsError: MadeError<[path: string, expected: string, got: string]> = createError(
  'FST_CACHING_API_INVALID_OPTIONS', '%s must be %s, got %s', 500, TypeError)

/** A cached object, or a cache object, that can't work. Thrown where it is defined or first used. */
export const InvalidDefinitionError: MadeError<[what: string]> = createError(
  'FST_CACHING_API_INVALID_DEFINITION', '%s', 500, TypeError)

/** No region has this name. The message lists those that there are. */
export const UnknownRegionError: MadeError<[name: string, known: string]> = createError(
  'FST_CACHING_API_UNKNOWN_REGION', "There is no region '%s'; there are: %s", 500)

/** An argument that can't be part of a key: two different ones could not be told apart. */
export const InvalidArgumentError: MadeError<[where: string, expected: string, got: string]> = createError(
  'FST_CACHING_API_INVALID_ARGUMENT', '%s must be %s, got %s', 500, TypeError)

/** A batch creator returned another number of values than it was asked for, or a batch loader returned no array. */
export const BatchMismatchError: MadeError<[where: string, asked: string, got: string]> = createError(
  'FST_CACHING_API_BATCH_MISMATCH', '%s was asked for %s, and returned %s', 500)

/** A loader waits for a key that only it can provide. */
export const ReentrantLoadError: MadeError<[key: string]> = createError(
  'FST_CACHING_API_REENTRANT_LOAD', "The loader of '%s' waits for its own value", 500)

/** The load took longer than `loadTimeout.hard`. It goes on, and its value is cached. */
export const LoadTimeoutError: MadeError<[what: string, ms: number]> = createError(
  'FST_CACHING_API_LOAD_TIMEOUT', "Loading '%s' took longer than %s ms", 503)

/** A tier was away, or the line to other processes. The invalidation is done in this process, and replayed there when it is back. */
export const InvalidationPendingError: MadeError<[who: string, what: string]> = createError(
  'FST_CACHING_API_INVALIDATION_PENDING', "%s could not be told to forget %s; it will be when it is back, and isn't believed about it until then", 503)

/** Properties of a cache object that a backend could not read or write. */
export interface FailedProperties {
  readonly properties: readonly string[]
  /** A name such as 'redis'. */
  readonly backend: string
  readonly error: unknown
}

const BackendFailed: MadeError<[object: string, failures: string, options: { cause: unknown }]> = createError(
  'FST_CACHING_API_BACKEND_FAILED', '%s: %s', 503)

/**
 * A backend of a cache object failed, or was silent past the object's `timeout`. It costs only that backend's own
 * properties. `cause`: the backend's own error; an AggregateError, where several backends failed.
 */
export class BackendFailedError extends BackendFailed {
  /** Those that could not be read or written. */
  readonly properties: readonly string[]
  /** The others, where `getAll` could read them. */
  readonly values: Readonly<Record<string, unknown>>

  constructor (object: string, what: 'read from' | 'written to', failures: readonly FailedProperties[], values: Record<string, unknown> = {}) {
    const said = failures.map(({ properties, backend, error }) => `${properties.join(', ')} could not be ${what} ${backend}: ${error instanceof Error ? error.message : String(error)}`)
    const errors = failures.map(({ error }) => error)
    super(object, said.join('; '), { cause: errors.length === 1 ? errors[0] : new AggregateError(errors) })
    this.properties = failures.flatMap(({ properties }) => properties)
    this.values = values
  }
}

/** A region, or the manager, was used after it was closed. */
export const ClosedError: MadeError<[what: string]> = createError(
  'FST_CACHING_API_CLOSED', '%s was used after close()', 503)

/** `code` of an error of ours. */
export type ErrorCode =
  | 'FST_CACHING_API_INVALID_OPTIONS'
  | 'FST_CACHING_API_INVALID_DEFINITION'
  | 'FST_CACHING_API_UNKNOWN_REGION'
  | 'FST_CACHING_API_INVALID_ARGUMENT'
  | 'FST_CACHING_API_BATCH_MISMATCH'
  | 'FST_CACHING_API_REENTRANT_LOAD'
  | 'FST_CACHING_API_LOAD_TIMEOUT'
  | 'FST_CACHING_API_INVALIDATION_PENDING'
  | 'FST_CACHING_API_BACKEND_FAILED'
  | 'FST_CACHING_API_CLOSED'

/** A value as an error message shows it: short, and of a known length. */
export function show (value: unknown): string {
  if (typeof value === 'string') return value.length > 60 ? `'${value.slice(0, 60)}…'` : `'${value}'`
  if (typeof value === 'bigint') return `${value}n`
  if (typeof value === 'function') return `a function${value.name ? ` (${value.name})` : ''}`
  if (Array.isArray(value)) return `an array of ${value.length}`
  if (typeof value === 'object' && value !== null) {
    const { constructor } = value
    return typeof constructor === 'function' && constructor !== Object ? `an instance of ${constructor.name}` : 'an object'
  }
  return String(value)
}
