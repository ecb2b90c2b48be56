export interface Workload {
  readonly file: string
  /** What it measures, each a row of the result. */
  readonly rows: readonly string[]
  /** Rows that a quick run leaves out, unless they are asked for. */
  readonly more?: readonly string[]
  readonly needs?: ReadonlyArray<'redis' | 'postgres'>
}

/** In the order of a key's journey. A workload is a file of `workloads/` and runs in a process of its own. */
export const workloads: readonly Workload[] = [
  { file: 'request-hit', rows: ['request-hit', 'request-hit-bytes'] },
  { file: 'memory-hit', rows: ['memory-hit', 'memory-hit-10k'], more: ['memory-hit-10k'] },
  { file: 'redis-hit', rows: ['redis-hit', 'redis-hit-64'], needs: ['redis'] },
  { file: 'redis-100', rows: ['redis-100', 'redis-100-20', 'redis-100-20-plain'], needs: ['redis'] },
  { file: 'cold-100', rows: ['cold-100', 'cold-100-elected', 'cold-100-memory'], more: ['cold-100-memory'], needs: ['redis', 'postgres'] },
  { file: 'graph', rows: ['graph'], needs: ['redis'] },
  { file: 'stampede-1', rows: ['stampede-1', 'stampede-1-loads', 'stampede-1-commands'], needs: ['redis'] },
  { file: 'stampede-4', rows: ['stampede-4', 'stampede-4-p99', 'stampede-4-loads'], needs: ['redis'] },
  { file: 'invalidate', rows: ['invalidate', 'invalidate-p95', 'invalidate-plain', 'invalidate-call'], needs: ['redis'] },
  { file: 'http', rows: ['http', 'http-cpu', 'http-idle', 'http-idle-cpu'] },
  { file: 'scale', rows: ['scale', 'scale-1', 'scale-10', 'scale-100', 'scale-1000', 'scale-10000'], more: ['scale-1', 'scale-10', 'scale-1000'], needs: ['redis'] },
  { file: 'serializer', rows: ['serializer', 'serializer-100', 'serializer-types'], more: ['serializer-100'] },
  { file: 'bytes', rows: ['bytes', 'bytes-request'] }
]

/** Names that `--only` takes: of rows, and of workloads, which stand for all of their rows where no row has that name. */
export const names = [...new Set(workloads.flatMap(({ file, rows }) => [file, ...rows]))]

/** What is left of the workloads when only these are wanted, or it has to be quick. */
export function chosen (only: readonly string[], quick: boolean): Workload[] {
  const isChosen = (row: string, { file, rows, more = [] }: Workload) => only.length === 0
    ? !quick || !more.includes(row)
    : only.includes(row) || (only.includes(file) && !rows.includes(file))
  return workloads
    .map(workload => ({ ...workload, rows: workload.rows.filter(row => isChosen(row, workload)) }))
    .filter(({ rows }) => rows.length > 0)
}
