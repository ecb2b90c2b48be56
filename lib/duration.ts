import ms from 'ms'
import { InvalidOptionsError, show } from './errors.js'

/** Milliseconds, or a string that the `ms` package reads: `'250ms'`, `'30s'`, `'10m'`, `'1h'`, `'7d'`. */
export type Duration = number | string

/** A year, as `ms` counts it ('1y'): more than any entry should outlive a deployment by. */
const longest = ms('1y')

/** The longest delay that a timer of Node takes. Milliseconds. */
export const longestTimer = 2 ** 31 - 1

/**
 * Milliseconds. `path` names the option in the error.
 * @throws InvalidOptionsError where it is no duration, is below `least`, or is above `most` (default: a year).
 */
export function resolveDuration (value: unknown, path: string, least = 0, most = longest): number {
  const read = typeof value === 'string' && value !== '' && value.length <= 100 ? ms(value as ms.StringValue) : value
  if (typeof read !== 'number' || !(read >= least && read <= most)) {
    const above = least > 0 ? `, at least ${least} ms` : ', not negative'
    const below = most === longest ? ' and at most a year' : most === Infinity ? '' : ` and at most ${most} ms`
    throw new InvalidOptionsError(path, `a duration such as 5000 or '10m'${above}${below}`, show(value))
  }
  return read
}
