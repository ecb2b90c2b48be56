import type { TestContext } from 'node:test'
import type { Test } from 'tap'
import { expect, test } from 'tstyche'
import type { TestRunner } from '../../lib/testing.js'

test('testBackend takes the t of tap and of node:test, and the test of vitest', () => {
  expect<Test>().type.toBeAssignableTo<TestRunner>()
  expect<TestContext>().type.toBeAssignableTo<TestRunner>()
  expect<{ test: (name: string, fn?: () => Promise<unknown> | unknown, timeout?: number) => void }>().type.toBeAssignableTo<TestRunner>()
})
