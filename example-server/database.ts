import pg from 'pg'
import { loadRows } from './rows.js'

const { Client, Pool } = pg

/** PGlite's socket server lets twenty connections in; a health check and a psql should still find room. */
const maxConnections = 20
const poolSize = 10

export interface Database {
  readonly name: 'PostgreSQL' | 'PGlite'
  /** Made when it is first asked for: while the cache answers, nobody is connected. */
  pool (): pg.Pool
  close (): Promise<void>
}

export interface DatabaseOptions {
  /** A PostgreSQL server. Default: PGlite, which is PostgreSQL in this process's memory. */
  url?: string | undefined
  /** Told how far the loading of the rows is. */
  report?: (line: string) => void
}

/** Resolves when all rows are there. */
export async function openDatabase ({ url, report = () => {} }: DatabaseOptions): Promise<Database> {
  const embedded = url === undefined ? await startPGlite(report) : undefined
  const connectionString = url ?? embedded?.url
  try {
    await prepare(new Client({ connectionString, connectionTimeoutMillis: 10_000 }), report)
  } catch (error) {
    await embedded?.close()
    throw error
  }

  let pool: pg.Pool | undefined
  return {
    name: embedded === undefined ? 'PostgreSQL' : 'PGlite',
    pool () {
      if (pool === undefined) {
        pool = new Pool({ connectionString, max: poolSize, connectionTimeoutMillis: 5_000 })
        // An idle connection that breaks is replaced by the next query; unheard, its error would end the process.
        pool.on('error', () => {})
      }
      return pool
    },
    async close () {
      await pool?.end()
      await embedded?.close()
    },
  }
}

async function prepare (client: pg.Client, report: (line: string) => void): Promise<void> {
  try {
    await client.connect()
    await loadRows(client, report)
  } finally {
    await client.end()
  }
}

async function startPGlite (report: (line: string) => void): Promise<{ url: string, close: () => Promise<void> }> {
  report('starting PGlite, about 5 seconds')
  const [{ PGlite }, { PGLiteSocketServer }] = await Promise.all([
    import('@electric-sql/pglite'),
    import('@electric-sql/pglite-socket'),
  ])
  const db = await PGlite.create()
  const server = new PGLiteSocketServer({ db, port: 0, maxConnections })
  await server.start()
  return {
    url: `postgres://postgres@${server.getServerConn()}/postgres`,
    async close () {
      await server.stop()
      await db.close()
    },
  }
}
