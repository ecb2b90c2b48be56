import { createHash } from 'node:crypto'
import type { Backend } from 'fastify-caching-api'
import type { Pool } from 'pg'

// create unlogged table cache (key bytea primary key, value bytea not null, expires timestamptz not null)
// create index on cache (expires)   -- and now and then: delete from cache where expires < now()

/** Keys of any length and any characters: an index takes no more than 2.7 kB, and text no NUL. */
const hashed = (key: string) => createHash('sha256').update(key).digest()

export function postgres (pool: Pool): Backend {
  return {
    name: 'postgres',
    async getMany (keys) {
      const { rows } = await pool.query('select key, value from cache where key = any($1::bytea[]) and expires > clock_timestamp()', [keys.map(hashed)])
      const found = new Map<string, Buffer>(rows.map(row => [row.key.toString('hex'), row.value]))
      return keys.map(key => found.get(hashed(key).toString('hex')))
    },
    async setMany (entries) {
      const last = [...new Map(entries.map(entry => [entry.key, entry])).values()] // one statement can't write a row twice
      await pool.query(`
        insert into cache
        select key, value, clock_timestamp() + ttl * interval '1 millisecond' from unnest($1::bytea[], $2::bytea[], $3::float8[]) as entry (key, value, ttl)
        order by key -- everybody takes the locks in one order
        on conflict (key) do update set value = excluded.value, expires = excluded.expires`,
      [last.map(({ key }) => hashed(key)), last.map(({ value }) => Buffer.from(value)), last.map(({ ttl }) => ttl)])
    },
    async deleteMany (keys) {
      await pool.query('delete from cache where key in (select key from cache where key = any($1::bytea[]) order by key for update)', [keys.map(hashed)])
    }
  }
}
