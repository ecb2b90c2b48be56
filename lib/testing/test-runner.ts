/** What runs the tests: tap's `t`, node:test's, or anything else with such a `test`. A test fails by a rejection. */
export interface TestRunner {
  test (name: string, fn: () => Promise<void>): unknown
}
