import { existsSync } from 'node:fs'

/**
 * Which source files a test file has to cover: tap asks for all of them to be covered in full, by the tests that name
 * them. Tests mirror the sources, so a file is covered by its own tests, never by the way.
 *
 * - `test/lib/flights.test.ts` covers `lib/flights.ts`. So do `test/lib/flights.errors.test.ts` and
 *   `test/lib/flights/errors.test.ts`, for a file whose behaviours fill more than one test file.
 * - `test/coverage.test.ts` loads every source file: one that no test covers is counted as well.
 * - All others (integration, helpers, misuse) are about behaviour, and measure nothing.
 *
 * @param {string} testFile relative to this folder
 * @returns {string | string[] | null} glob patterns; null: no coverage is measured
 */
export default function coveredBy (testFile) {
  if (testFile === 'test/coverage.test.ts') return ['lib/**/*.ts', 'plugin/**/*.ts']

  const mirrored = testFile.match(/^test\/((?:lib|plugin)\/.+)\.test\.ts$/)?.[1]
  if (mirrored === undefined) return null
  const withoutAspect = mirrored.replace(/\.[^./]+$/, '')
  const folder = mirrored.replace(/\/[^/]+$/, '')
  return [mirrored, withoutAspect, folder].map(path => `${path}.ts`).find(path => existsSync(new URL(path, import.meta.url))) ?? null
}
