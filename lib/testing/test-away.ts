import assert from 'node:assert/strict'
import type { Backend } from '../backends/backend.js'
import type { TestRunner } from './test-runner.js'
import { entry } from './values.js'

/** Of a backend whose server can't be reached. */
export async function testAway (t: TestRunner, makeAway: () => Backend | Promise<Backend>): Promise<void> {
  await t.test('a backend that can not reach its server throws, it does not invent a miss', async () => {
    const away = await makeAway()
    await assert.rejects(async () => await away.getMany(['a']), 'getMany must reject')
    await assert.rejects(async () => await away.setMany([entry('a', 'value')]), 'setMany must reject')
    await assert.rejects(async () => await away.deleteMany(['a']), 'deleteMany must reject')
    await away.close?.()
  })
}
