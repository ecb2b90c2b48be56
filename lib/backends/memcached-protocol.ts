/** memcached's text protocol: storage commands, expiry times, and what the replies mean. */

const lineBreak = Buffer.from('\r\n')

/** A command that ends with it gets no reply. */
export const noreply = ' noreply'

/** 8 is the flag that memcache-client gives to bytes. `more`: the number that `cas` compares, or `noreply`. */
export const storageCommand = (command: 'set' | 'add' | 'cas' | 'append', key: string, value: Uint8Array, exptime: number, more = ''): Buffer =>
  Buffer.concat([Buffer.from(`${command} ${key} 8 ${exptime} ${value.length}${more}\r\n`), value, lineBreak])

/** A `cas unique` that no item ever has. */
export const unusedUnique = String(2n ** 64n - 1n)

/** The expiry time of what never expires. */
export const never = 0
const thirtyDays = 30 * 24 * 60 * 60
const latest = 2 ** 31 - 1

/**
 * Milliseconds as memcached wants them: seconds, or past thirty days the second of the epoch. One second more than asked
 * for, since memcached counts the ticks of its clock, and the next one may be about to come.
 */
export function exptimeOf (ttl: number): number {
  const seconds = Math.ceil(ttl / 1000) + 1
  if (seconds <= thirtyDays) return seconds
  const at = Math.ceil(Date.now() / 1000) + seconds
  return at <= latest ? at : never
}

/** Whether the error says that something else is there, or nothing. */
export const isRefusal = ({ message }: Error): boolean => message === 'NOT_STORED' || message === 'EXISTS' || message === 'NOT_FOUND'

/** Whether the error says that the value can't be kept: never, or not now. */
export const isUnstorable = ({ message }: Error): boolean => /^SERVER_ERROR (object too large|out of memory)/.test(message)

/** Whether it can only not be kept now: the server may evict nothing (-M). */
export const isFull = ({ message }: Error): boolean => /^SERVER_ERROR out of memory/.test(message)

/** Whether the client has read the error from the server. All others are of a connection, or of silence. */
export const isReply = ({ message }: Error): boolean => /^(NOT_STORED|EXISTS|NOT_FOUND|((CLIENT|SERVER)_)?ERROR)\b/.test(message)

/** Whether the client couldn't unpack a value, which isn't ours then. It doesn't tell which of the keys has it. */
export const isForeignValue = (error: Error): boolean => error instanceof SyntaxError || (error as NodeJS.ErrnoException).code === 'ERR_ASSERTION'
