import { managerOptionNames, type CachingManagerOptions } from '../lib/caching-manager.js'
import { assertBoolean, assertObject, namesOf } from '../lib/checks.js'

export interface CachingApiOptions extends CachingManagerOptions {
  /** Adds a `Server-Timing` response header that says where this request's values came from. Default false. */
  serverTiming?: boolean
}

const ownOptionNames = namesOf<Omit<CachingApiOptions, keyof CachingManagerOptions>>({ serverTiming: true })
/** Fastify's own: how a plugin is registered, not what it does. */
const registerOptionNames = ['prefix', 'logLevel', 'logSerializers']

/** The plugin's own options, and the manager's, which checks them itself. @throws InvalidOptionsError */
export function resolveOptions (options: CachingApiOptions): { serverTiming: boolean, manager: CachingManagerOptions } {
  assertObject(options, 'options', [...managerOptionNames, ...ownOptionNames, ...registerOptionNames])
  const { serverTiming = false } = options as CachingApiOptions
  assertBoolean(serverTiming, 'serverTiming')
  const given = Object.entries(options).filter(([name, value]) => managerOptionNames.includes(name) && value !== undefined)
  return { serverTiming, manager: Object.fromEntries(given) as unknown as CachingManagerOptions }
}
