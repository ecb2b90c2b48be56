import assert from 'node:assert/strict'
import type { Line } from '../line.js'
import { eventually } from './eventually.js'
import { newKey } from './keys.js'
import type { TestRunner } from './test-runner.js'

/** Of a backend with a line: it carries messages to whoever listens. */
export async function testLine (t: TestRunner, line: Line): Promise<void> {
  await t.test('a message reaches all who listen to its channel by then, in its order', async () => {
    const channel = newKey()
    const heard: string[][] = [[], []]
    const stops = await Promise.all(heard.map(async messages => await line.listen(channel, message => { messages.push(message) })))
    for (const message of ['one', 'two', 'three']) await line.publish(channel, message)
    await eventually(() => heard.every(messages => messages.length === 3), 'every message must be heard')
    assert.deepEqual(heard, [['one', 'two', 'three'], ['one', 'two', 'three']])
    for (const stop of stops) stop()
  })
}
