import { InvalidArgumentError, InvalidDefinitionError, InvalidOptionsError, show } from './errors.js'
import type { Serializer } from './serializer.js'
import type { Backend } from './backends/backend.js'

/*
 * What callers give is checked by the first code that gets it. `path` names the option in the error: 'regions.rows.tiers[0]'.
 */

/** The names of all properties of `T`, in this order: one that is left out, or that `T` doesn't have, is an error of the compiler. */
export const namesOf = <T>(names: Record<keyof T, true>): readonly string[] => Object.keys(names)

/** Whether it has options by name: arrays have none. */
export const isObject = (value: unknown): value is Record<string, unknown> => typeof value === 'object' && value !== null && !Array.isArray(value)

/** @throws InvalidOptionsError for what is no object, or has a property that isn't `known`. What is undefined counts as absent. */
export function assertObject (value: unknown, path: string, known: readonly string[]): asserts value is Record<string, unknown> {
  if (!isObject(value)) throw new InvalidOptionsError(path, 'an object', show(value))
  for (const [name, given] of Object.entries(value)) {
    if (given === undefined || known.includes(name)) continue
    throw new InvalidOptionsError(`${path}.${name}`, `absent: ${known.length === 1 ? 'the only option is' : 'the options are'} ${known.join(', ')}`, show(given))
  }
}

/** What stands in front of every key of a backend, from the options of its factory. @throws InvalidOptionsError */
export function resolveKeyPrefix (options: unknown, path: string, { canHaveBraces }: { canHaveBraces: boolean }): string {
  assertObject(options, path, ['keyPrefix'])
  const { keyPrefix = '' } = options
  if (typeof keyPrefix !== 'string' || !/^[!-~]{0,50}$/.test(keyPrefix) || (!canHaveBraces && /[{}]/.test(keyPrefix))) {
    throw new InvalidOptionsError(`${path}.keyPrefix`, `up to 50 printable ASCII characters without blanks${canHaveBraces ? '' : ' and braces'}`, show(keyPrefix))
  }
  return keyPrefix
}

/** @throws InvalidOptionsError */
export function assertOneOf<T extends string> (value: unknown, path: string, choices: readonly T[]): asserts value is T {
  if (!choices.includes(value as T)) throw new InvalidOptionsError(path, choices.map(choice => `'${choice}'`).join(' or '), show(value))
}

/** @throws InvalidOptionsError */
export function assertBackend (backend: unknown, path: string): asserts backend is Backend {
  const { name, getMany, setMany, deleteMany } = Object(backend) as Partial<Backend>
  if (typeof getMany !== 'function' || typeof setMany !== 'function' || typeof deleteMany !== 'function') {
    throw new InvalidOptionsError(path, 'a backend with getMany, setMany and deleteMany, such as memory() or redis(client)', show(backend))
  }
  if (typeof name !== 'string' || !/^[\w-]{1,40}$/.test(name)) throw new InvalidOptionsError(`${path}.name`, 'a name of 1 to 40 letters, digits, - and _', show(name))
}

/** @throws InvalidOptionsError */
export function assertSerializer (serializer: unknown, path: string): asserts serializer is Serializer {
  const { encode, decode } = Object(serializer) as Partial<Serializer>
  if (typeof encode !== 'function' || typeof decode !== 'function') throw new InvalidOptionsError(path, 'an object with encode and decode', show(serializer))
}

/** What callers may return in place of a value. */
export const isPromise = (value: unknown): value is PromiseLike<unknown> =>
  typeof value === 'object' && value !== null && typeof (value as Partial<PromiseLike<unknown>>).then === 'function'

/** A call takes its own options only: one that is misspelt, or meant for another call, would do nothing. @throws InvalidOptionsError */
export function assertCallOptions (options: unknown, known: readonly string[]): void {
  assertObject(options, 'options', known)
}

/**
 * For a call that has no options: they would do nothing. `args` are what it was given, of which it takes the first `count`. Only an
 * object with something in it is refused: `map` passes more than that, too, and a wrapper passes on what may be empty.
 * @throws InvalidOptionsError
 */
export function assertNoOptions (args: ArrayLike<unknown>, count: number): void {
  const given = args[count]
  if (isObject(given) && Object.values(given).some(value => value !== undefined)) throw new InvalidOptionsError('options', 'absent: this call has none', show(given))
}

/** @throws InvalidOptionsError */
export function assertBoolean (value: unknown, path: string): asserts value is boolean {
  if (typeof value !== 'boolean') throw new InvalidOptionsError(path, 'true or false', show(value))
}

/** @throws InvalidArgumentError */
export function assertTags (tags: unknown): asserts tags is readonly string[] {
  if (!Array.isArray(tags) || !tags.every(tag => typeof tag === 'string')) throw new InvalidArgumentError('tags', 'an array of strings', show(tags))
}

// ─── definitions ─────────────────────────────────────────────────────────────────────────────────

/** @throws InvalidDefinitionError */
export function refuse (what: string): never {
  throw new InvalidDefinitionError(what)
}

/** Whatever `resolve` throws is wrong with the definition. @throws InvalidDefinitionError */
export function refusing<T> (where: string, resolve: () => T): T {
  try {
    return resolve()
  } catch (error) {
    refuse(`${where}: ${(error as Error).message}`)
  }
}

/** @throws InvalidDefinitionError for a property that isn't `known`. What is undefined counts as absent. */
export function refuseUnknown (definition: object, where: string, known: readonly string[]): void {
  for (const [name, given] of Object.entries(definition)) {
    if (given !== undefined && !known.includes(name)) refuse(`${where}: '${name}' is not an option; the options are ${known.join(', ')}`)
  }
}
