// A Fastify server with one route, which it answers in one of several ways. It tells its port.

import Fastify from 'fastify'
import cachingApi, { cachedObject, loadMany, memory } from '../../dist/plugin/index.js'
import { openPeers } from '../peers/index.js'
import { cityOf, countedSource } from '../rows.js'
import { lifetime } from '../settings.js'

const ids = 1000
const all = Array.from({ length: ids }, (_, id) => id)
const route = '/cities/:id'
const options = {
  schema: {
    params: { type: 'object', properties: { id: { type: 'integer' } } },
    response: {
      200: {
        type: 'object',
        properties: { id: { type: 'integer' }, name: { type: 'string' }, country: { type: 'string' }, population: { type: 'integer' }, lat: { type: 'number' }, lon: { type: 'number' } }
      }
    }
  }
}

const City = cachedObject({ name: 'City', region: 'rows', methods: { getById: loadMany({ load: (_context, wanted) => wanted.map(cityOf), idOf: row => row.id }) } })
const regions = { rows: { tiers: [memory()], ttl: lifetime } }

const ways = {
  async ours (app) {
    await app.register(cachingApi, { regions })
    app.get(route, options, async request => await request.cachingApi.get(City, 'getById', [request.params.id]))
  },
  async limit (app) {
    const rows = new Map(all.map(id => [id, Promise.resolve(cityOf(id))]))
    app.get(route, options, async request => await rows.get(request.params.id))
  },
  async bare (app) {
    app.get(route, options, async request => cityOf(request.params.id))
  },
  async idle (app) {
    await app.register(cachingApi, { regions })
    await ways.bare(app)
  }
}

async function byPeer (app, name) {
  const { get } = (await openPeers('memory', () => Object.assign(countedSource(), { name: 'city' }), [name])).get(name)
  app.get(route, options, async request => await get(request.params.id))
}

const app = Fastify()
const [way] = process.argv.slice(2)
await (ways[way] ?? byPeer)(app, way)
await app.listen({ port: 0, host: '127.0.0.1' })

const orders = {
  port: () => app.server.address().port,
  /** Microseconds of the processor that this process has had. */
  spent () {
    const { user, system } = process.cpuUsage()
    return user + system
  }
}

process.on('disconnect', () => process.exit())
process.on('message', ({ call, order }) => process.send({ call, result: orders[order]() }))
