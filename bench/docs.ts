import { mkdirSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { barCharts, lineChart } from './charts.js'
import { machineLine, number, ratio } from './report.js'
import { bestPeer, type Result, type Row } from './result.js'

const page = new URL('../docs/benchmarks.md', import.meta.url)
const folder = new URL('../docs/benchmarks/', import.meta.url)

interface Chapter { readonly file: string, readonly title: string, readonly text: string, readonly charts: readonly string[], readonly rows: readonly string[] }

const chapters: readonly Chapter[] = [
  {
    file: 'hits',
    title: 'Hits',
    text: 'What a read costs that needs no loader: in the request, in memory, in Redis.',
    charts: ['request-hit', 'memory-hit', 'redis-hit', 'redis-hit-64'],
    rows: ['request-hit', 'request-hit-bytes', 'memory-hit', 'memory-hit-10k', 'redis-hit', 'redis-hit-64']
  },
  {
    file: 'batches',
    title: 'Batches',
    text: 'Many ids at once: found, partly found, and found only in PostgreSQL; and a graph three levels deep.',
    charts: ['redis-100', 'redis-100-20', 'redis-100-20-plain', 'cold-100', 'graph'],
    rows: ['redis-100', 'redis-100-20', 'redis-100-20-plain', 'cold-100', 'cold-100-elected', 'cold-100-memory', 'graph']
  },
  {
    file: 'stampedes',
    title: 'Stampedes and invalidations',
    text: 'A cold value that everybody wants, in one process and in four; and how soon another process hears that a value is gone.',
    charts: ['stampede-1', 'stampede-1-commands', 'stampede-4-p99', 'stampede-4-loads', 'invalidate', 'invalidate-call'],
    rows: ['stampede-1', 'stampede-1-loads', 'stampede-1-commands', 'stampede-4', 'stampede-4-p99', 'stampede-4-loads', 'invalidate', 'invalidate-p95', 'invalidate-plain', 'invalidate-call']
  },
  {
    file: 'http',
    title: 'Requests',
    text: 'What a whole request costs, on a route that reads from memory and on one that does not use the plugin.',
    charts: ['http', 'http-idle'],
    rows: ['http', 'http-cpu', 'http-idle', 'http-idle-cpu']
  },
  {
    file: 'space',
    title: 'Space and serializers',
    text: 'Heap, and the way to bytes and back.',
    charts: ['bytes', 'bytes-request', 'serializer', 'serializer-types'],
    rows: ['bytes', 'bytes-request', 'serializer', 'serializer-100', 'serializer-types']
  },
  { file: 'scale', title: 'Scale', text: 'Batches of any size.', charts: [], rows: ['scale', 'scale-1', 'scale-10', 'scale-100', 'scale-1000', 'scale-10000'] }
]

/** docs/benchmarks.md and the charts beside it. */
export function writeDocs (result: Result): void {
  const byName = new Map(result.workloads.map(row => [row.name, row]))
  const rowsNamed = (names: readonly string[]) => names.flatMap(name => byName.get(name) ?? [])
  mkdirSync(fileURLToPath(folder), { recursive: true })
  const parts = [introduction(result)]
  for (const { file, title, text, charts, rows } of chapters) {
    const some = rowsNamed(rows)
    if (some.length === 0) continue
    const sizes = rowsNamed(['scale-1', 'scale-10', 'scale-100', 'scale-1000', 'scale-10000'])
    const chart = file === 'scale' ? lineChart(sizes, sizes.map(({ name }) => Number(name.slice('scale-'.length))), text) : barCharts(rowsNamed(charts), text)
    writeFileSync(new URL(`${file}.svg`, folder), chart)
    parts.push(`## ${title}\n\n${wrapped(text)}\n\n![${title}](benchmarks/${file}.svg)\n\n${table(some)}\n\n${some.map(explanation).join('\n')}`)
  }
  parts.push(losses(result), goals(result))
  writeFileSync(page, `${parts.join('\n\n')}\n`)
}

function introduction ({ machine, versions, command, seed, date, workloads }: Result): string {
  const rounds = workloads.find(({ name }) => name === 'memory-hit')?.rounds
  return `# Benchmarks

Made by \`${command.replace(/ --json(=| )\S+/, '')}\` on ${date.slice(0, 10)}, seed ${seed}.

${wrapped(`${machineLine(machine)}. ${Object.entries(versions).map(([name, version]) => `${name} ${version}`).join(', ')}.`)}

## How to read it

- **Lower is better**, everywhere. Read the ratios, not the times: another machine has other times.
- *ours* is the built package as an application uses it; *the limit* is the same work by hand, with nothing around it: no
  protection from stale fills, no election, no isolation of requests, for exactly this case. Nobody can be much faster.
- A dash: a package can't do it. What it would take to do it by hand around the package is not measured as its own.
- Ours, the limit and the peers take turns in one process, ${rounds ?? 'several'} rounds, each round from another one on; a number is the
  median. Each one's answers are compared with what they should be, before it is timed.
- A workload runs in a process of its own, warm, with \`NODE_ENV=production\`. What a side leaves in its turn, it collects in
  its turn. All garbage is collected before the first round only: to do so between rounds, when nothing is under way, makes V8
  throw away most of what it has compiled.
- The servers of *http* are new processes in each of their rounds, all with a young generation of 16 MB, which V8 would
  otherwise size by what was allocated at boot; sides take turns, slice by slice, and a round counts its fastest.
- Where the wait of callers is reported, it counts from the moment at which they meant to start: a process that is late
  counts as waiting.
- All sides talk to the same Redis and PostgreSQL over loopback, with durability off, and use the same ioredis where they
  take one. Over a real network, round trips weigh more and the processor less.
- Peers are set up as their documentation recommends for the job. Those without a read of many keys do 100 at once.`
}

function table (rows: readonly Row[]): string {
  const heads = '| | ours | limit | ours : limit | best peer | ours : best |\n|---|---:|---:|---:|---|---:|'
  return [heads, ...rows.map(row => {
    const best = bestPeer(row)
    return `| ${row.name} | ${number(row.ours)} ${row.unit} | ${number(row.limit)} | ${ratio(row.ours, row.limit)} | ${best === undefined ? '–' : `${best[0]} ${number(best[1])}`} | ${ratio(row.ours, best?.[1])} |`
  })].join('\n')
}

function explanation ({ name, unit, about, peers, byHand = [], without }: Row): string {
  const others = Object.entries(peers).filter(([, value]) => value !== null).sort(([, a], [, b]) => a! - b!)
  const list = others.map(([peer, value]) => `${peer}${byHand.includes(peer) ? ' (by hand)' : ''} ${number(value)}`).join(', ')
  const bare = without === undefined ? '' : ` Without any cache, the row at hand: ${number(without)} ${unit}.`
  return wrapped(`- **${name}**: ${about}${bare}${list === '' ? '' : ` *${list}.*`}`, '  ')
}

function losses ({ workloads }: Result): string {
  const lost = workloads.flatMap(row => {
    const best = bestPeer(row)
    return best === undefined || row.ours === null || row.ours <= best[1] ? [] : [{ row, best }]
  })
  const list = lost.map(({ row, best: [peer, value] }) => `- **${row.name}**: ${peer} takes ${number(value)} ${row.unit}, ours ${number(row.ours)} (${ratio(row.ours, value)}).`)
  return `## Where we lose\n\n${list.length === 0 ? 'Nowhere, in this run.' : list.join('\n')}

${wrapped('What ours does in that time, and those do not: a value is each request\'s own; a fill is refused if the key was invalidated meanwhile; every read of a shared tier asks whether its region was invalidated; memory is used only while this process hears of invalidations elsewhere.')}`
}

function goals ({ targets }: Result): string {
  return `## What we want\n\n| | at most | got | |\n|---|---|---:|---|\n${targets.map(({ workload, wanted, got, ok }) => `| ${workload} | ${wanted} | ${got} | ${ok ? 'ok' : '**missed**'} |`).join('\n')}`
}

/** Lines of up to 120 characters. */
function wrapped (text: string, indent = ''): string {
  const lines: string[] = []
  for (const word of text.split(' ')) {
    const line = lines.at(-1)
    if (line === undefined || line.length + 1 + word.length > 120) lines.push(lines.length === 0 ? word : `${indent}${word}`)
    else lines[lines.length - 1] = `${line} ${word}`
  }
  return lines.join('\n')
}
