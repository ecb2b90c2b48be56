import type { FastifyInstance } from 'fastify'
import { City, CityIds, Country, maxListed } from '../cached-objects.js'
import { CountryNotFound } from '../errors.js'
import { cityFields, countryWithCapital } from '../views.js'

const params = {
  type: 'object',
  properties: { code: { type: 'string', pattern: '^[A-Za-z]{2}$' } },
}
const querystring = {
  type: 'object',
  properties: { limit: { type: 'integer', minimum: 1, maximum: maxListed, default: 10 } },
}

export async function countryRoutes (app: FastifyInstance): Promise<void> {
  app.get<{ Params: { code: string } }>('/countries/:code', { schema: { params } }, async request => {
    const code = request.params.code.toUpperCase()
    const country = await request.cachingApi.get(Country, 'getByCode', [code])
    if (country === null) throw new CountryNotFound(code)
    return countryWithCapital(country)
  })

  // The list holds ids; those of its rows that any other route has read are in the cache already.
  app.get<{ Params: { code: string }, Querystring: { limit: number } }>('/countries/:code/largest', { schema: { params, querystring } }, async request => {
    const api = request.cachingApi
    const code = request.params.code.toUpperCase()
    const country = await api.get(Country, 'getByCode', [code])
    if (country === null) throw new CountryNotFound(code)
    const ids = await api.get(CityIds, 'largestIn', [code]) ?? []
    const cities = await api.getMany(City, 'getById', ids.slice(0, request.query.limit))
    return cities.filter(city => city !== null).map(cityFields)
  })
}
