import { MemcacheClient } from 'memcache-client'
import { CachingManager } from '../../lib/caching-manager.js'
import type { Region } from '../../lib/region.js'
import { memcached } from '../../lib/backends/memcached.js'
import { gate, type Gate } from '../helpers/doubles.js'
import { serve } from '../helpers/processes.js'

let region: Region
let manager: CachingManager
const loads = new Map<string, { begun: Gate, held: Gate, outcome?: Promise<unknown> }>()

const handlers = {
  async join ({ namespace, ports }: { namespace: string, ports: number[] }): Promise<void> {
    const clients = ports.map(port => new MemcacheClient({ server: { server: `127.0.0.1:${port}`, maxConnections: 2 } }))
    manager = new CachingManager({ namespace, regions: { people: { tiers: [memcached(clients)], ttl: '10m', tierTimeout: '20s' } } })
    region = manager.region('people')
    await manager.ready()
  },

  /** Resolves when the load has begun; it ends after `letGo`. */
  async load ({ key, value, tags = [] }: { key: string, value: string, tags?: string[] }): Promise<void> {
    const load = { begun: gate(), held: gate() }
    const creator = async () => {
      load.begun.open()
      await load.held.opened
      return value
    }
    const outcome = region.getOrCreate(key, creator, { tags })
    outcome.catch(() => {})
    loads.set(key, { ...load, outcome })
    await load.begun.opened
  },

  /** Resolves to what its caller got, when the value is written back or refused. */
  async letGo ({ key, delay }: { key: string, delay: number }): Promise<unknown> {
    const { held, outcome } = loads.get(key)!
    await new Promise(resolve => setTimeout(resolve, delay))
    held.open()
    const got = await outcome
    await manager.idle()
    return got
  },

  async invalidate ({ key, delay, how }: { key: string, delay: number, how: 'delete' | 'tag' | 'hard' | 'set' }): Promise<void> {
    await new Promise(resolve => setTimeout(resolve, delay))
    if (how === 'delete') await region.delete(key)
    else if (how === 'tag') await region.invalidateTags(key)
    else if (how === 'hard') await region.invalidate()
    else await region.set(key, 'set')
  },

  async read (key: string): Promise<unknown> {
    return await region.get(key)
  },

  async create ({ key, value }: { key: string, value: string }): Promise<unknown> {
    const got = await region.getOrCreate(key, () => value)
    await manager.idle()
    return got
  }
}

export type StaleFillHandlers = typeof handlers
serve(handlers)
