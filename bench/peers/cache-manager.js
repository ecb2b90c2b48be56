import KeyvRedis from '@keyv/redis'
import { createCache } from 'cache-manager'
import { Keyv } from 'keyv'
import { lifetime } from '../settings.js'

function over (cache, { load, loadMany, name }) {
  const keyOf = id => `${name}:${id}`
  return {
    get: id => cache.wrap(keyOf(id), () => load(id)),
    async getMany (ids) {
      const found = await cache.mget(ids.map(keyOf))
      const missing = ids.filter((_, i) => found[i] === undefined)
      if (missing.length === 0) return found
      const rows = await loadMany(missing)
      await cache.mset(rows.map(row => ({ key: keyOf(row.id), value: row })))
      const byId = new Map(rows.map(row => [row.id, row]))
      return ids.map((id, i) => found[i] ?? byId.get(id))
    },
    close: () => cache.disconnect()
  }
}

const keyvRedis = port => new Keyv({ store: new KeyvRedis(`redis://127.0.0.1:${port}`) })

export const memory = source => over(createCache({ ttl: lifetime }), source)
export const redis = source => over(createCache({ ttl: lifetime, stores: [keyvRedis(source.port)] }), source)
/** Nothing tells its memory of other processes: it can't be used where something is invalidated. */
export const shared = source => over(createCache({ ttl: lifetime, stores: [new Keyv(), keyvRedis(source.port)] }), source)
