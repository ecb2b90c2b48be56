import { randomUUID } from 'node:crypto'
import { newMark } from '../entry-format.js'
import type { BackendEntry } from '../backends/backend.js'

export const minute = 60_000
export const day = 24 * 60 * minute

/** What `setMany` takes. */
export const entry = (key: string, value: string, ttl = minute): BackendEntry => ({ key, value: Buffer.from(value), ttl })

/** As entries do, it begins with bytes that nothing else begins with. */
export const newValue = (): Buffer => Buffer.concat([newMark(), Buffer.from(randomUUID())])

/** Bytes as an assertion compares and shows them: one character each. */
export const text = (bytes: Uint8Array | undefined): string | undefined => bytes === undefined ? undefined : Buffer.from(bytes).toString('latin1')

/** Text in the message of an assertion. */
export const show = (value: string): string => JSON.stringify(value.length > 60 ? `${value.slice(0, 60)}…` : value)
