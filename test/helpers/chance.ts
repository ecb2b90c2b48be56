import { randomInt } from 'node:crypto'
import type { Test } from 'tap'
import { Random } from '../torture/random.js'

/** Chance for a test that tries many moments. It says by which seed it is had again: `SEED=123 npx tap FILE`. */
export function chance (t: Pick<Test, 'comment'>): Random {
  const seed = process.env['SEED'] ?? randomInt(2 ** 31)
  t.comment(`SEED=${seed} gives the same moments again`)
  return new Random(seed)
}
