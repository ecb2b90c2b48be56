import { BentoCache, bentostore } from 'bentocache'
import { memoryDriver } from 'bentocache/drivers/memory'
import { redisBusDriver, redisDriver } from 'bentocache/drivers/redis'
import { connect } from '../clients.js'
import { lifetime, mostEntries } from '../settings.js'

const readers = (cache, load, name) => {
  const get = id => cache.getOrSet({ key: `${name}:${id}`, factory: () => load(id) })
  return { get, getMany: ids => Promise.all(ids.map(get)) } // one by one: it has no read of several keys
}

const made = store => new BentoCache({ default: 'store', ttl: lifetime, stores: { store } })
const inMemory = () => bentostore().useL1Layer(memoryDriver({ maxItems: mostEntries }))

export function memory ({ load, name }) {
  const cache = made(inMemory())
  return { ...readers(cache, load, name), close: () => cache.disconnectAll() }
}

export function redis ({ load, port, name }) {
  const connection = connect(port)
  const cache = made(bentostore().useL2Layer(redisDriver({ connection })))
  return { ...readers(cache, load, name), close: () => cache.disconnectAll() }
}

export function shared ({ load, port, name }) {
  const connection = connect(port)
  const cache = made(inMemory().useL2Layer(redisDriver({ connection })).useBus(redisBusDriver({ connection: { host: '127.0.0.1', port } })))
  return { ...readers(cache, load, name), delete: id => cache.delete({ key: `${name}:${id}` }), close: () => cache.disconnectAll() }
}
