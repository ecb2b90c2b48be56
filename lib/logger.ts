export type LogFn = (details: object, message: string) => void

/** The methods of pino, Fastify's logger, that are called here. */
export interface Logger { debug: LogFn, info: LogFn, warn: LogFn, error: LogFn }

/** The same logger, but what it throws is lost: nothing is left undone, and no process ends, for the sake of a line in the log. */
export function unthrowing (logger: Logger): Logger {
  const level = (name: keyof Logger): LogFn => (details, message) => {
    try {
      logger[name](details, message)
    } catch {}
  }
  return { debug: level('debug'), info: level('info'), warn: level('warn'), error: level('error') }
}
