import KeyvRedis from '@keyv/redis'
import { RedisMessageProvider } from '@qified/redis'
import { Cacheable, Keyv } from 'cacheable'
import { lifetime } from '../settings.js'

const url = port => `redis://127.0.0.1:${port}`

function over (cache, { load, loadMany, name }) {
  const keyOf = id => `${name}:${id}`
  return {
    get: id => cache.getOrSet(keyOf(id), () => load(id), { ttl: lifetime }),
    async getMany (ids) {
      const found = await cache.getMany(ids.map(keyOf))
      const missing = ids.filter((_, i) => found[i] === undefined)
      if (missing.length === 0) return found
      const rows = await loadMany(missing)
      await cache.setMany(rows.map(row => ({ key: keyOf(row.id), value: row, ttl: lifetime })))
      const byId = new Map(rows.map(row => [row.id, row]))
      return ids.map((id, i) => found[i] ?? byId.get(id))
    },
    delete: id => cache.delete(keyOf(id)),
    close: () => cache.disconnect()
  }
}

export function memory (source) {
  return over(new Cacheable({ ttl: lifetime }), source)
}

export function redis (source) {
  return over(new Cacheable({ ttl: lifetime, primary: new Keyv({ store: new KeyvRedis(url(source.port)) }) }), source)
}

export function shared (source) {
  const qified = new RedisMessageProvider({ uri: url(source.port) })
  const cache = new Cacheable({ ttl: lifetime, secondary: new Keyv({ store: new KeyvRedis(url(source.port)) }), sync: { qified } })
  return {
    ...over(cache, source),
    close: async () => {
      await cache.disconnect()
      await qified.disconnect()
    }
  }
}
