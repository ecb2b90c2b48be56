/**
 * Which sources a test file may cover: all of them, by the tests that mirror them and by those of their work together;
 * the tests of the helpers cover none. `test/coverage.test.ts` loads every source, so one that nothing covers counts too.
 */
export default function coveredBy (testFile) {
  return testFile.startsWith('test/helpers/') ? null : ['lib/**/*.ts', 'plugin/**/*.ts']
}
