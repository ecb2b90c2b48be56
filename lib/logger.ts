export type LogFn = (details: object, message: string) => void

/** The methods of pino, Fastify's logger, that are called here. */
export interface Logger { debug: LogFn, info: LogFn, warn: LogFn, error: LogFn }
