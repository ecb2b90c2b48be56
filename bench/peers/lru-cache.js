import { LRUCache } from 'lru-cache'
import { lifetime, mostEntries } from '../settings.js'

export function memory ({ load }) {
  const cache = new LRUCache({ max: mostEntries, ttl: lifetime, fetchMethod: load })
  return { get: id => cache.fetch(id) }
}
