import { createRequire } from 'node:module'
import { connect } from '../clients.js'
import { lifetime, mostEntries } from '../settings.js'

const { Loader, RedisCache, createNotificationPair } = createRequire(import.meta.url)('layered-loader')

const inMemoryCache = { ttlInMsecs: lifetime, maxItems: mostEntries }

function dataSource ({ load, loadMany }) {
  return {
    dataSourceGetOneFn: key => load(Number(key)),
    ...loadMany !== undefined && { dataSourceGetManyFn: keys => loadMany(keys.map(Number)), cacheKeyFromValueResolver: row => String(row.id) }
  }
}

export function memory (source) {
  const loader = new Loader({ inMemoryCache, ...dataSource(source) })
  return { get: id => loader.get(String(id)) }
}

export function redis (source) {
  const client = connect(source.port)
  return { ...over(new Loader({ inMemoryCache: false, asyncCache: redisCache(client, source), ...dataSource(source) })), close: () => client.disconnect() }
}

export async function shared (source) {
  const clients = Array.from({ length: 3 }, () => connect(source.port))
  const [client, publisherRedis, consumerRedis] = clients
  const { publisher, consumer } = createNotificationPair({ channel: source.name, publisherRedis, consumerRedis })
  const loader = new Loader({
    inMemoryCache,
    asyncCache: redisCache(client, source),
    notificationPublisher: publisher,
    notificationConsumer: consumer,
    ...dataSource(source)
  })
  await loader.init()
  return {
    ...over(loader),
    delete: id => loader.invalidateCacheFor(String(id)),
    close: () => clients.forEach(one => one.disconnect())
  }
}

const redisCache = (client, { name }) => new RedisCache(client, { json: true, ttlInMsecs: lifetime, prefix: name })

const over = loader => ({
  get: id => loader.get(String(id)),
  // Its answer is in no order: whoever wants one puts it there.
  async getMany (ids) {
    const byId = new Map((await loader.getMany(ids.map(String))).map(row => [row.id, row]))
    return ids.map(id => byId.get(id))
  }
})
