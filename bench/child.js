// Runs one workload in a process of its own, so that none finds what another left: compiled code, a heap, connections.
// It is built as for production and has nothing of the loader that TypeScript needs.

import { flush } from './clients.js'
import { randomOf } from './rows.js'

process.on('disconnect', () => process.exit(1))
process.once('message', ({ file, redis, postgres, seed, turns, quick, rows }) => {
  start({ file, redis, postgres, seed, turns, quick, rows }).then(
    result => process.send({ result }, () => process.exit()),
    error => process.send({ error: { wrong: error.name === 'WrongResultError', message: error.stack ?? String(error) } }, () => process.exit(1))
  )
})

async function start ({ file, rows, seed, ...setting }) {
  if (setting.redis !== undefined) await flush(setting.redis.port)
  const { run } = await import(`./workloads/${file}.js`)
  return await run({ ...setting, seed, random: randomOf(seed), only: row => rows.includes(row) })
}
