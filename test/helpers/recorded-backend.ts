import { memory } from '../../lib/backends/memory.js'
import type { Backend, BackendEntry } from '../../lib/backends/backend.js'

export interface RecordedBackend {
  readonly backend: Backend
  /** What it was asked, in order. */
  readonly calls: Array<[operation: string, ...keys: string[]]>
  /** What it was given, in order. */
  readonly entries: BackendEntry[]
}

/** A backend of three methods over memory that records what it is asked. `before` waits for a gate, or throws. */
export function recordedBackend (name = 'recorded', before: (operation: string) => unknown = () => {}): RecordedBackend {
  const inner = memory()
  const calls: Array<[string, ...string[]]> = []
  const given: BackendEntry[] = []
  const record = async (operation: string, keys: readonly string[]): Promise<void> => {
    calls.push([operation, ...keys])
    await before(operation)
  }
  const backend: Backend = {
    name,
    getMany: async keys => {
      await record('getMany', keys)
      return await inner.getMany(keys)
    },
    setMany: async entries => {
      given.push(...entries)
      await record('setMany', entries.map(({ key }) => key))
      await inner.setMany(entries)
    },
    deleteMany: async keys => {
      await record('deleteMany', keys)
      await inner.deleteMany(keys)
    }
  }
  return { backend, calls, entries: given }
}
