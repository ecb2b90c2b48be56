import type { Backend } from '../backends/backend.js'

/** What the tiers of a region are called in stats, metrics, logs and errors: as their backends, and from the second of a name on with a number. */
export function tierNames (backends: readonly Pick<Backend, 'name'>[]): string[] {
  const taken = new Set(backends.map(({ name }) => name))
  const given = new Set<string>()
  return backends.map(({ name }) => {
    let own = name
    for (let n = 2; given.has(own); n++) if (!taken.has(`${name}-${n}`)) own = `${name}-${n}`
    given.add(own)
    return own
  })
}
