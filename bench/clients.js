import { Redis } from 'ioredis'

/** The same client for every side that takes one, with its defaults. */
export const connect = port => new Redis(port)

/** Nothing is there that an earlier workload has left. */
export async function flush (port) {
  const client = connect(port)
  await client.flushall()
  client.disconnect()
}
