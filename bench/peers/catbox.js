import Catbox from '@hapi/catbox'
import { Engine as CatboxMemory } from '@hapi/catbox-memory'
import { Engine as CatboxRedis } from '@hapi/catbox-redis'
import { connect } from '../clients.js'
import { lifetime } from '../settings.js'

async function over (engine, { load, name }) {
  const client = new Catbox.Client(engine)
  await client.start()
  const policy = new Catbox.Policy({ expiresIn: lifetime, generateFunc: id => load(Number(id)), generateTimeout: false }, client, name)
  const get = id => policy.get(String(id))
  return { get, getMany: ids => Promise.all(ids.map(get)) } // one by one
}

/** As it is by default: a hit is parsed anew. */
export const memory = source => over(new CatboxMemory({ maxByteSize: 1024 ** 3 }), source)

export async function redis (source) {
  const client = connect(source.port)
  return { ...await over(new CatboxRedis({ client, partition: 'bench' }), source), close: () => client.disconnect() }
}

export const shared = redis
