import { testAway } from './testing/test-away.js'
import { testLeases } from './testing/test-leases.js'
import { testLine } from './testing/test-line.js'
import { testMethods } from './testing/test-methods.js'
import type { TestRunner } from './testing/test-runner.js'
import { testStamps } from './testing/test-stamps.js'
import { isLeasing, type Backend } from './backends/backend.js'

export type { TestRunner }

export interface TestBackendOptions {
  /** Makes a backend whose server can't be reached. With it, it is tested that such a one throws. */
  makeAway?: () => Backend | Promise<Backend>
  /** Empties the server from outside, as an operator would. With it, it is tested that this revokes every lease. */
  flush?: () => unknown
}

/**
 * The contract that every backend has to keep. `makeBackend` is called once; all keys are the suite's own, so the
 * server may be in use. It is closed in the end.
 *
 *     import { testBackend } from 'fastify-caching-api/testing'
 *
 *     await testBackend(t, () => postgres(pool))
 */
export async function testBackend (t: TestRunner, makeBackend: () => Backend | Promise<Backend>, options: TestBackendOptions = {}): Promise<void> {
  const { makeAway, flush } = options
  const backend = await makeBackend()
  await testMethods(t, backend)
  if (isLeasing(backend)) {
    await testLeases(t, backend, flush)
    await testStamps(t, backend)
    if (backend.line !== undefined) await testLine(t, backend.line)
  }
  if (makeAway !== undefined) await testAway(t, makeAway)
  await t.test('the backend can be closed, or has nothing to close', async () => { await backend.close?.() })
}
