import assert from 'node:assert/strict'
import { setTimeout as pause } from 'node:timers/promises'

/** Waits for what only the server's clock, or another connection, brings about. The deadline only bounds a failure. */
export async function eventually (condition: () => unknown, message: string): Promise<void> {
  const end = performance.now() + 5_000
  while (await condition() !== true) {
    assert.ok(performance.now() < end, message)
    await pause(20)
  }
}
