import pg from 'pg'

export interface Row { readonly id: number, readonly name: string, readonly version: number }

export const nameOf = (id: number): string => `row-${id}`

/** What the cache is in front of. Versions only rise, and begin at 1. */
export class Database {
  readonly #pool: pg.Pool

  constructor (url: string) {
    this.#pool = new pg.Pool({ connectionString: url, max: 8 })
    this.#pool.on('error', () => {})
  }

  async create (rows: number): Promise<void> {
    await this.#pool.query('drop table if exists torture_item')
    await this.#pool.query('create unlogged table torture_item (id int primary key, name text not null unique, version int not null)')
    await this.#pool.query('insert into torture_item select id, \'row-\' || id, 1 from generate_series(0, $1::int - 1) as id', [rows])
  }

  async byIds (ids: readonly number[]): Promise<Row[]> {
    return (await this.#pool.query<Row>({ name: 'byIds', text: 'select id, name, version from torture_item where id = any($1)', values: [ids] })).rows
  }

  async byName (name: string): Promise<Row | undefined> {
    return (await this.#pool.query<Row>({ name: 'byName', text: 'select id, name, version from torture_item where name = $1', values: [name] })).rows[0]
  }

  /** Resolves to the new rows, in the order of `ids`. */
  async raise (ids: readonly number[]): Promise<Row[]> {
    const { rows } = await this.#pool.query<Row>({
      name: 'raise',
      // In one order, so that two of these don't wait for each other for ever.
      text: 'update torture_item set version = version + 1 where id in (select id from torture_item where id = any($1) order by id for update) returning id, name, version',
      values: [ids]
    })
    return ids.map(id => rows.find(row => row.id === id)!)
  }

  async end (): Promise<void> {
    await this.#pool.end()
  }
}
