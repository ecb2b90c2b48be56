import { isReopening } from './backends/backend.js'

/** How many managers use a backend or a bus. */
const users = new WeakMap<object, number>()

/** To be called once by each manager that uses it, whatever it uses it for. Then it is open, though it was closed before. */
export function startUse (used: object): void {
  const others = users.get(used) ?? 0
  if (others === 0 && isReopening(used)) used.reopen()
  users.set(used, others + 1)
}

/** Whether a manager uses it that isn't closed. */
export const isInUse = (used: object): boolean => (users.get(used) ?? 0) > 0

/** Closes it, unless another manager uses it. Rejects where it can't be closed. */
export async function endUse (used: { close? (): Promise<void> }): Promise<void> {
  const left = users.get(used)! - 1
  users.set(used, left)
  if (left === 0) await used.close?.()
}
