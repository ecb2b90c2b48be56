import { cachedObject, loadMany, loadOne } from 'fastify-caching-api'
import type { Pool } from 'pg'
import { schema } from './rows.js'

declare module 'fastify-caching-api' {
  interface LoaderContext { db: Pool }
}

export interface CityRow {
  id: number
  name: string
  countryCode: string
  featureCode: string
  population: number
  latitude: number
  longitude: number
}
export interface CountryRow {
  code: string
  name: string
  region: string
  languages: string[]
  area: number
}

/** What a request gets: the row, and what belongs to it, loaded when it is first read. */
export interface CityOfCountry extends CityRow { readonly country: Promise<CountryWithCapital | null> }
export interface CountryWithCapital extends CountryRow { readonly capital: Promise<CityOfCountry | null> }

export const cityColumns = 'id, name, country_code as "countryCode", feature_code as "featureCode", population, latitude, longitude'
const countryColumns = 'code, name, region, languages, area'

/** The longest list that is cached and served. */
export const maxListed = 100

export const City = cachedObject({
  name: 'City',
  region: 'rows',
  methods: {
    getById: loadMany({
      async load ({ db }, ids: readonly number[]) {
        const { rows } = await db.query<CityRow>(`select ${cityColumns} from ${schema}.cities where id = any($1)`, [ids])
        return rows
      },
      idOf: row => row.id,
      postCache: (row, api): CityOfCountry => api.lazyload(row, 'country', Country, 'getByCode', [row.countryCode]),
    }),
    capitalOf: loadMany({
      async load ({ db }, countryCodes: readonly string[]) {
        const { rows } = await db.query<CityRow>(
          `select ${cityColumns} from ${schema}.cities where feature_code = 'PPLC' and country_code = any($1)`, [countryCodes]
        )
        return rows
      },
      idOf: row => row.countryCode,
      primes: { getById: row => [row.id] },
      postCache: (row, api): CityOfCountry => api.lazyload(row, 'country', Country, 'getByCode', [row.countryCode]),
    }),
  },
})

export const Country = cachedObject({
  name: 'Country',
  region: 'rows',
  methods: {
    getByCode: loadMany({
      async load ({ db }, codes: readonly string[]) {
        const { rows } = await db.query<CountryRow>(`select ${countryColumns} from ${schema}.countries where code = any($1)`, [codes])
        return rows
      },
      idOf: row => row.code,
      postCache: (row, api): CountryWithCapital => api.lazyload(row, 'capital', City, 'capitalOf', [row.code]),
    }),
  },
})

/** Ids only: each row is kept once, by `City`, however many lists it is in. */
export const CityIds = cachedObject({
  name: 'CityIds',
  region: 'lists',
  methods: {
    largestIn: loadOne(async ({ db }, countryCode: string) => {
      const { rows } = await db.query<{ id: number }>(
        `select id from ${schema}.cities where country_code = $1 order by population desc, id limit $2`, [countryCode, maxListed]
      )
      return rows.map(row => row.id)
    }),
    // Ordered by name rather than by size, so that no change of a population touches any of these lists.
    startingWith: loadOne(async ({ db }, prefix: string) => {
      const { rows } = await db.query<{ id: number }>(
        `select id from ${schema}.cities where search_name like $1 order by search_name, id limit $2`, [`${escapeLike(prefix)}%`, maxListed]
      )
      return rows.map(row => row.id)
    }),
  },
})

function escapeLike (text: string): string {
  return text.replace(/[\\%_]/g, '\\$&')
}
