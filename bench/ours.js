import { CachingManager, cachedObject, loadMany } from '../dist/plugin/index.js'
import { lifetime } from './settings.js'

/** What is measured: cities by id, each read from a new request. */
export function ours ({ tiers, lock, source, namespace = 'bench' }) {
  const City = cachedObject({
    name: 'City',
    region: 'rows',
    methods: { getById: loadMany({ load: (_context, ids) => source.loadMany(ids), idOf: row => row.id }) }
  })
  const manager = new CachingManager({
    namespace,
    ...lock !== undefined && { lock },
    regions: { rows: { tiers, ttl: lifetime, tierTimeout } }
  })
  return {
    City,
    manager,
    get: id => manager.createApi().get(City, 'getById', [id]),
    getMany: ids => manager.createApi().getMany(City, 'getById', ids),
    delete: id => manager.createApi().invalidate(City, 'getById', [id]),
    idle: () => manager.idle(),
    close: () => manager.close()
  }
}

/** Of a machine that stands still for a moment we don't want to measure how Redis is given up. */
const tierTimeout = '5s'
