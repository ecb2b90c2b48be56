import { execFile } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import t from 'tap'
import { readCommandLine, usage, WrongOption } from './command-line.js'
import { mutations } from './mutations.js'
import { defaults } from './options.js'
import { peerNames } from './peers.js'

const read = (line: string) => readCommandLine(line.split(' ').filter(word => word !== ''))

t.test('without options it is ours, and what the options say by themselves', async t => {
  const { help, runs, mutations, json } = read('')
  t.match({ help, runs, mutations, json }, { help: false, runs: [defaults], mutations: [], json: undefined })
})

t.test('options are what was asked for', async t => {
  const { runs: [run], json } = read('--seconds 5 --seed 7 --processes 2 --tier cluster --memory no --faults cut,move --rows 9 --slow 3 --lib /elsewhere --json all.json')
  t.match(run, { seconds: 5, seed: 7, processes: 2, tier: 'cluster', memory: false, faults: ['cut', 'move'], rows: 9, slow: 3, build: '/elsewhere', subject: 'ours' })
  t.equal(json, 'all.json')
  t.strictSame(read('--faults none').runs[0]!.faults, [])
})

t.test('peers: all beside ours, or one; with more rows unless their number was asked for', async t => {
  const runs = (line: string) => read(line).runs.map(({ subject, rows }) => ({ subject, rows }))
  t.strictSame(runs('--peers'), ['ours, plain', ...peerNames].map(subject => ({ subject, rows: 4 * defaults.rows })))
  t.strictSame(runs('--only-peer cacheable --rows 16'), [{ subject: 'cacheable', rows: 16 }])
})

t.test('mutations: all, or some, each run as it shows', async t => {
  t.strictSame(read('--mutate all').mutations.map(({ mutation }) => mutation), mutations)
  const [first, second, ...others] = read('--mutate join,replayed --seconds 20').mutations
  t.match(first, { mutation: { name: 'join' }, seconds: 20, options: { seconds: 20, rows: 8, slow: 4, untilStale: true } })
  t.match(second, { mutation: { name: 'replayed' }, seconds: 20, options: { seconds: 6, tier: 'memcached' } })
  t.strictSame(others, [])
  t.strictSame(read('--mutate join').runs, [])
})

t.test('what can\'t be done is refused, and by which option', async t => {
  const refused: Record<string, RegExp> = {
    '--colour red': /--colour/,
    redis: /redis/,
    '--seconds': /--seconds/,
    '--seconds 0': /--seconds must be a whole number from 1 on, got 0/,
    '--slow 1.5': /--slow must be a whole number from 1 on, got 1.5/,
    '--tier disk': /--tier must be one of redis, memcached, cluster, got disk/,
    '--memory maybe': /--memory must be one of yes, no, got maybe/,
    '--faults cut,fire,flood': /--faults knows .*, or none, not fire, flood/,
    '--faults move,failover': /the faults move and failover need the tier cluster, got redis/,
    '--rows 7': /4 processes need 8 rows at least, got 7/,
    '--processes 20': /20 processes need 40 rows at least, got 32/,
    '--rows 10923': /room for 10922 rows at most, got 10923/,
    '--mutate a,join,b': /--mutate knows redis-fill, .*, or all, not a, b/,
    '--mutate join --processes 5': /mutation join: 5 processes need 10 rows at least, got 8/,
    '--only-peer ours,cacheable': /--only-peer must be one of .*, got ours,cacheable/,
    '--peers --tier memcached': /peers are tortured over redis, got the tier memcached/,
    '--only-peer cacheable --tier cluster': /peers are tortured over redis, got the tier cluster/
  }
  for (const [line, message] of Object.entries(refused)) {
    t.throws(() => read(line), { constructor: WrongOption, message }, line)
  }
})

t.test('who asks for something wrong is told so, and no more', async t => {
  const main = fileURLToPath(new URL('./main.ts', import.meta.url))
  // Without the runner's own options for Node.
  const torture = async (...args: string[]) => await promisify(execFile)(process.execPath, ['--import', 'tsx', main, ...args], { env: {} })
  await t.rejects(torture('--mutate', 'a,b'), { code: 2, stdout: '', stderr: /^--mutate knows .*, not a, b\n--help tells what there is\.\n$/ })
  t.equal((await torture('--help')).stdout, `${usage}\n`)
})
