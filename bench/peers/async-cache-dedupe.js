import { createCache } from 'async-cache-dedupe'
import { connect } from '../clients.js'
import { lifetime, mostEntries } from '../settings.js'

const ttl = lifetime / 1000

export function memory ({ load }) {
  const cache = createCache({ ttl, storage: { type: 'memory', options: { size: mostEntries } } })
  cache.define('city', load)
  return { get: id => cache.city(id) }
}

/** One key at a time. It tells other processes nothing: memory in front of Redis isn't offered. */
export function redis ({ load, port, name }) {
  const client = connect(port)
  const cache = createCache({ ttl, storage: { type: 'redis', options: { client } } })
  cache.define(name, load)
  return {
    get: id => cache[name](id),
    getMany: ids => Promise.all(ids.map(id => cache[name](id))),
    close: () => client.disconnect()
  }
}

export const shared = redis
