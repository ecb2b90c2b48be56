/** Nanoseconds of the machine's own monotonic clock: the same for all of its processes. */
export const now = (): number => Number(process.hrtime.bigint())

export const milliseconds = 1e6
