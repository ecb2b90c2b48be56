import { fork } from 'node:child_process'
import { fileURLToPath } from 'node:url'

/** Starts processes that do what they are told; they end with this one. `flags` are Node's own. */
export function startProcesses (module, count, args = [], flags = []) {
  return Array.from({ length: count }, () => {
    const child = fork(fileURLToPath(new URL(module, import.meta.url)), args, { execArgv: flags, serialization: 'advanced' })
    const calls = new Map()
    let last = 0
    let ended
    child.on('message', ({ call, result, error }) => {
      const { resolve, reject } = calls.get(call)
      calls.delete(call)
      if (error === undefined) resolve(result)
      else reject(new Error(error))
    })
    child.on('exit', (code, signal) => {
      ended = new Error(`a process ended with ${signal ?? `exit code ${code}`}`)
      for (const { reject } of calls.values()) reject(ended)
    })
    return {
      tell: (order, arg) => new Promise((resolve, reject) => {
        if (ended !== undefined) return reject(ended)
        calls.set(++last, { resolve, reject })
        child.send({ call: last, order, arg })
      }),
      end: () => child.kill('SIGKILL')
    }
  })
}

export const now = () => Number(process.hrtime.bigint()) / 1e6
