export type LogFn = (details: object, message: string) => void

/** As much of pino, Fastify's logger, as is called here. */
export interface Logger { debug: LogFn, info: LogFn, warn: LogFn, error: LogFn }
