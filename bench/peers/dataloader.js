import DataLoader from 'dataloader'
import { connect } from '../clients.js'
import { lifetime } from '../settings.js'

/** For one request. */
export const requestMemory = ({ loadMany }) => new DataLoader(loadMany)

/** By hand: it knows no Redis. One for each request, with a batch function that asks Redis first, then the source. */
export function redis ({ loadMany, port, name }) {
  const client = connect(port)
  const keyOf = id => `${name}:${id}`
  async function batch (ids) {
    const rows = (await client.mget(ids.map(keyOf))).map(found => found === null ? undefined : JSON.parse(found))
    const missing = ids.filter((_, i) => rows[i] === undefined)
    if (missing.length === 0) return rows
    const loaded = await loadMany(missing)
    const pipeline = client.pipeline()
    for (const row of loaded) pipeline.set(keyOf(row.id), JSON.stringify(row), 'PX', lifetime)
    await pipeline.exec()
    const byId = new Map(loaded.map(row => [row.id, row]))
    return ids.map((id, i) => rows[i] ?? byId.get(id))
  }
  const request = () => new DataLoader(batch)
  return {
    request,
    get: id => request().load(id),
    getMany: ids => request().loadMany(ids),
    close: () => client.disconnect()
  }
}
