import { InvalidOptionsError, show } from '../errors.js'
import { useRedis } from '../backends/redis-client.js'
import type { DogpileLock } from './lock.js'
import { QuorumLock } from './quorum-lock.js'
import { RedisLock } from './redis-lock.js'

/**
 * The Redlock algorithm over one Redis, one Redis Cluster, or an odd number of independent ones. It is needed where several
 * processes share a tier, so that one of them loads and the others wait for its value; within a process that is so without
 * a lock. The clients are handed in and stay open.
 * @throws InvalidOptionsError
 */
export function redlock (clients: readonly unknown[]): DogpileLock {
  if (!Array.isArray(clients) || clients.length % 2 === 0) {
    throw new InvalidOptionsError('redlock(clients)', 'an array of one ioredis client, or of an odd number of independent ones', show(clients))
  }
  const used = clients.map((client, i) => useRedis(client, `redlock(clients)[${i}]`))
  if (new Set(clients).size !== clients.length) throw new InvalidOptionsError('redlock(clients)', 'an array of different clients', 'the same one twice')
  return used.length === 1 ? new RedisLock(used[0]!) : new QuorumLock(used)
}
