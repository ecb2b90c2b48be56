import type { CacheObjectDefinition, Properties } from './cache-object.js'
import { assertBackend, isObject, namesOf, refuse, refuseUnknown, refusing } from '../checks.js'
import { longestTimer, resolveDuration } from '../duration.js'
import { InvalidArgumentError, show } from '../errors.js'
import { isName, nameRule } from '../keys.js'
import { ObjectBackend } from './object-backend.js'
import type { Backend } from '../backends/backend.js'
import type { Shared } from '../values.js'

/** A definition of a cache object's class, checked, with every default in place. */
export interface Model {
  readonly name: string
  readonly backend: Backend | undefined
  readonly timeout: number
  readonly properties: ReadonlyMap<string, ModelProperty>
  readonly backends: ReadonlySet<Backend>
  /** What `property` made, for classes that extend this one. */
  readonly made: Properties
}

/** A property in its class. */
export interface ModelProperty {
  readonly name: string
  readonly backend: ObjectBackend
  /** What a read gets where nothing is stored. */
  readonly fallback: Shared
  readonly ttl: number
}

/** A property as it was defined, before it has a class. */
export interface PropertyDefinition extends Pick<ModelProperty, 'fallback' | 'ttl'> { readonly backend: Backend | undefined }

export const kModel = Symbol('model')
export const kProperty = Symbol('property definition')

/** @internal Undefined for a class, or anything else, that cacheObject didn't make. */
export const modelOf = (object: unknown): Model | undefined => (Object(object) as { [kModel]?: Model })[kModel]

const definitionNames = namesOf<CacheObjectDefinition<Properties> & { extends: unknown }>({ name: true, backend: true, properties: true, timeout: true, extends: true })

/** `base`: the model of the class that it extends. `inherited`: that class's prototype. @throws InvalidDefinitionError */
export function resolveModel (definition: CacheObjectDefinition<Properties> & { extends?: unknown }, base: Model | undefined, inherited: object): Model {
  const { name, backend = base?.backend, properties, timeout = base?.timeout ?? 250 } = definition
  if (!isName(name)) refuse(`cacheObject: name must be ${nameRule}, got ${show(name)}`)
  refuseUnknown(definition, name, definitionNames)
  if (!isObject(properties)) refuse(`${name}: properties must be an object of property(…), got ${show(properties)}`)
  for (const own of Object.keys(properties)) {
    // 'then' would be called by whatever awaits the object.
    if (base?.properties.has(own) !== true && (own in inherited || own === 'id' || own === 'then')) refuse(`${name}: a property can't be named '${own}': that is a member of the object`)
  }
  const milliseconds = refusing(name, () => {
    if (backend !== undefined) assertBackend(backend, 'backend')
    return resolveDuration(timeout, 'timeout', 1, longestTimer)
  })
  const made = Object.freeze({ ...base?.made, ...properties })
  const resolved = new Map(Object.entries(made).map(([own, property]) => [own, resolveProperty(own, property, { name, backend, timeout: milliseconds })]))
  const backends = new Set(Array.from(resolved.values(), property => property.backend.backend))
  return { name, backend, timeout: milliseconds, properties: resolved, backends, made }
}

function resolveProperty (name: string, property: unknown, model: Pick<Model, 'name' | 'backend' | 'timeout'>): ModelProperty {
  const { backend = model.backend, fallback, ttl } = definitionOf(property) ?? refuse(`${model.name}.${name} must be made by property(…), got ${show(property)}`)
  if (backend === undefined) refuse(`${model.name}.${name} has no backend: give one to it, or to ${model.name}`)
  return { name, backend: ObjectBackend.of(backend, model.timeout), fallback, ttl }
}

const definitionOf = (property: unknown): PropertyDefinition | undefined => (Object(property) as { [kProperty]?: PropertyDefinition })[kProperty]

/** @internal An object's id, as a part of keys. @throws InvalidArgumentError */
export function idOf (id: unknown, name: string): string {
  if (typeof id === 'string' || typeof id === 'bigint' || (typeof id === 'number' && Number.isFinite(id))) return String(id)
  throw new InvalidArgumentError(`An id of ${name}`, 'a string, a finite number or a bigint', show(id))
}
