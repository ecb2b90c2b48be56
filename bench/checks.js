import { deepStrictEqual } from 'node:assert'

/** Thrown where a side gives another answer than it should: a result that is wrong isn't timed. */
export class WrongResultError extends Error { name = 'WrongResultError' }

/** Each side's answer, before it is timed. */
export async function checkAnswers (sides, expected) {
  for (const [side, answer] of sides) {
    const given = await answer()
    try {
      deepStrictEqual(given, expected)
    } catch (error) {
      throw new WrongResultError(`${side} gives another answer than it should: ${error.message}`)
    }
  }
}

/** That nothing was loaded where all was to be found. */
export async function withoutLoads (sources, measure) {
  const before = new Map(Array.from(sources, ([side, source]) => [side, source.loads]))
  const result = await measure()
  for (const [side, source] of sources) {
    if (source.loads !== before.get(side)) throw new WrongResultError(`${side} called its loader ${source.loads - before.get(side)} times for what it has`)
  }
  return result
}
