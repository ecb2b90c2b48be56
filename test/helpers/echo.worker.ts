import { serve } from './processes.js'

const handlers = {
  echo: (value: unknown) => value,
  pid: () => process.pid,
  fail: (code: string) => { throw Object.assign(new TypeError('no such luck'), { code }) },
  hang: async () => await new Promise<never>(() => {})
}
export type EchoHandlers = typeof handlers

serve(handlers)
