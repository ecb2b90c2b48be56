/** `Promise.try`, which Node 20 doesn't have yet: what `fn` throws is a rejection, as of an application's own code. */
export const promiseTry = async <T>(fn: () => T | Promise<T>): Promise<T> => await fn()
