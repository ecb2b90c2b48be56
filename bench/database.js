import pg from 'pg'
import { cityOf } from './rows.js'

/** Ids of the table, from 0. */
export const cities = 100_000

export function openDatabase (url) {
  const pool = new pg.Pool({ connectionString: url, max: 4 })
  return {
    /** The table, with the rows of `cityOf`. */
    async fill () {
      await pool.query('create table if not exists cities (id int primary key, name text not null, country text not null, population int not null, lat float8 not null, lon float8 not null)')
      await pool.query('truncate cities')
      for (let from = 0; from < cities; from += 10_000) {
        const rows = Array.from({ length: 10_000 }, (_, i) => cityOf(from + i))
        await pool.query('insert into cities select * from json_populate_recordset(null::cities, $1)', [JSON.stringify(rows)])
      }
      await pool.query('vacuum analyze cities')
    },
    select: async ids => (await pool.query({ name: 'cities', text: 'select id, name, country, population, lat, lon from cities where id = any($1)', values: [ids] })).rows,
    close: () => pool.end()
  }
}

/** A source for a cache, that counts its selects. */
export function databaseSource (database) {
  const source = {
    loads: 0,
    loadMany: async ids => {
      source.loads++
      return await database.select(ids)
    },
    load: async id => (await source.loadMany([id]))[0]
  }
  return source
}
