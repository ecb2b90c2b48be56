import { cachified, createBatch } from '@epic-web/cachified'
import { LRUCache } from 'lru-cache'
import { connect } from '../clients.js'
import { lifetime, mostEntries } from '../settings.js'

function over (cache, { load, loadMany, name }) {
  const get = (id, getFreshValue = () => load(id)) => cachified({ key: `${name}:${id}`, cache, getFreshValue, ttl: lifetime })
  return {
    get: id => get(id),
    getMany (ids) {
      const batch = createBatch(loadMany)
      return Promise.all(ids.map(id => get(id, batch.add(id))))
    }
  }
}

export const memory = source => over(new LRUCache({ max: mostEntries }), source)

export function redis (source) {
  const client = connect(source.port)
  const cache = {
    name: 'redis',
    async get (key) {
      const found = await client.get(key)
      return found === null ? null : JSON.parse(found)
    },
    set: (key, entry) => client.set(key, JSON.stringify(entry), 'PXAT', entry.metadata.createdTime + entry.metadata.ttl),
    delete: key => client.del(key)
  }
  return { ...over(cache, source), close: () => client.disconnect() }
}

export const shared = redis
