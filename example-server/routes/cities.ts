import type { FastifyInstance, FastifyRequest } from 'fastify'
import type { CachingApi } from 'fastify-caching-api'
import { City, CityIds, cityColumns, maxListed, type CityRow } from '../cached-objects.js'
import { CityNotFound, InvalidPopulation, InvalidPrefix } from '../errors.js'
import { schema, searchName } from '../rows.js'
import { cityFields, cityWithCountry } from '../views.js'
import { noteVisit, visitorHeaders, type VisitorHeaders } from './visitors.js'

const maxInt4 = 2_147_483_647
const id = { type: 'integer', minimum: 1, maximum: maxInt4 }
const params = { type: 'object', properties: { id } }
const someIds = {
  type: 'object',
  required: ['ids'],
  properties: { ids: { type: 'array', items: id, minItems: 1, maxItems: maxListed } },
}
const search = {
  type: 'object',
  required: ['prefix'],
  properties: {
    // No control characters: PostgreSQL refuses NUL in a text.
    prefix: { type: 'string', minLength: 1, maxLength: 64, pattern: '^\\P{Cc}*$' },
    limit: { type: 'integer', minimum: 1, maximum: maxListed, default: 10 },
  },
}
const update = {
  type: 'object',
  required: ['population'],
  properties: { population: { type: 'integer', minimum: 0, maximum: maxInt4 } },
}

export async function cityRoutes (app: FastifyInstance): Promise<void> {
  app.get<{ Params: { id: number }, Headers: VisitorHeaders }>('/cities/:id', { schema: { params, headers: visitorHeaders } }, async request => {
    const city = await request.cachingApi.get(City, 'getById', [request.params.id])
    if (city === null) throw new CityNotFound(request.params.id)
    const [view] = await Promise.all([cityWithCountry(city), noteVisit(request, city.id)])
    return view
  })

  // In the order of the ids, `null` for an id without a row.
  app.get<{ Querystring: { ids: number[] } }>('/cities', { schema: { querystring: someIds }, preValidation: splitIds }, async request => {
    const cities = await request.cachingApi.getMany(City, 'getById', request.query.ids)
    return cities.map(city => city && cityFields(city))
  })

  app.get<{ Querystring: { prefix: string, limit: number } }>('/search', { schema: { querystring: search } }, async request => {
    const api = request.cachingApi
    const prefix = searchName(request.query.prefix)
    if (prefix === '') throw new InvalidPrefix()
    const ids = await api.get(CityIds, 'startingWith', [prefix]) ?? []
    const cities = await api.getMany(City, 'getById', ids.slice(0, request.query.limit))
    return cities.filter(city => city !== null).map(cityFields)
  })

  // First the row, then the cache: the other way round, a reader in between would cache the old row again.
  app.patch<{ Params: { id: number }, Body: { population: number } }>('/cities/:id', { schema: { params, body: update }, preValidation: refuseCoercion }, async (request, reply) => {
    const { rows: [city] } = await app.database.pool().query<CityRow>(
      `update ${schema}.cities set population = $2 where id = $1 returning ${cityColumns}`, [request.params.id, request.body.population]
    )
    if (city === undefined) throw new CityNotFound(request.params.id)
    if (!await forget(request.cachingApi, city)) reply.code(202)
    return cityFields(city)
  })
}

/** Everything that shows this city's population. False while a tier is away that will hear of it once it is back. */
async function forget (api: CachingApi, city: CityRow): Promise<boolean> {
  const outcomes = await Promise.allSettled([
    api.invalidate(City, 'getById', [city.id]),
    api.invalidate(CityIds, 'largestIn', [city.countryCode]),
    city.featureCode === 'PPLC' && api.invalidate(City, 'capitalOf', [city.countryCode]),
  ])
  const failures = outcomes.filter(outcome => outcome.status === 'rejected').map(outcome => outcome.reason)
  const fatal = failures.find(error => error.code !== 'FST_CACHING_API_INVALIDATION_PENDING')
  if (fatal !== undefined) throw fatal
  return failures.length === 0
}

/** `?ids=1,2` as well as `?ids=1&ids=2`. */
async function splitIds (request: FastifyRequest): Promise<void> {
  const query = request.query as { ids?: string | string[] }
  if (query.ids !== undefined) {
    query.ids = [query.ids].flat().flatMap(text => text.split(','))
  }
}

/** Fastify reads null as 0 and true as 1: right for a query string, wrong for a row. */
async function refuseCoercion (request: FastifyRequest): Promise<void> {
  const population = (request.body as { population?: unknown } | null)?.population
  if (population !== undefined && typeof population !== 'number') {
    throw new InvalidPopulation(JSON.stringify(population))
  }
}
