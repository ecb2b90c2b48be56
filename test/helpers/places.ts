import { Redis } from 'ioredis'
import type { Test } from 'tap'
import { Keyspace } from '../../lib/keys.js'
import type { Backend, LeasingBackend } from '../../lib/backends/backend.js'
import { memory } from '../../lib/backends/memory.js'
import { redis } from '../../lib/backends/redis.js'

/** Where the shared tier of a region stands, for every process that has one there. */
export interface Place {
  /** What another process has of it. */
  another (): Backend
  keyspace: Keyspace
  /** What is under a key, and nobody's but the test's. */
  raw: Backend
}

let spaces = 0
const newKeyspace = () => new Keyspace(`test-${spaces++}`, 'objects')

/** `more`: methods that take the place of the backend's own. */
export function onRedis (t: Test, server: { readonly port: number }, more: Partial<LeasingBackend> = {}): Place {
  const another = () => {
    const client = new Redis(server.port)
    t.teardown(() => client.disconnect())
    return Object.assign(redis(client), more)
  }
  return { another, keyspace: newKeyspace(), raw: another() }
}

/** As in a cluster, where no step sees both a stamp and a key. */
export const onRedisByMarks = (t: Test, server: { readonly port: number }): Place => onRedis(t, server, { fillUnchanged: undefined! })

/** Three methods, as somebody's own backend has them. */
export function onThreeMethods (): Place {
  const kept = memory()
  const bare = (): Backend => ({ name: 'bare', getMany: async keys => await kept.getMany(keys), setMany: async entries => await kept.setMany(entries), deleteMany: async keys => await kept.deleteMany(keys) })
  return { another: bare, keyspace: newKeyspace(), raw: bare() }
}
