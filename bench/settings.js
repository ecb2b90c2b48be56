/** What all sides are given alike. */

/** Of whatever is cached: nothing expires while it is measured. Milliseconds. */
export const lifetime = 60 * 60_000

/** That a memory may hold: nothing is evicted. */
export const mostEntries = 20_000
