import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { connect } from 'node:net'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { eventually } from './doubles.js'
import type { EchoHandlers } from './echo.worker.js'
import { startProcesses } from './processes.js'
import { findProgram } from './programs.js'

const echo = new URL('./echo.worker.ts', import.meta.url)

t.test('processes answer calls, and carry values and errors', async t => {
  const [a, b] = await startProcesses<EchoHandlers>(t, echo, 2)
  t.not(await a.call('pid'), await b.call('pid'))
  const value = { at: new Date(0), map: new Map([[1n, new Set(['x'])]]), bytes: new Uint8Array([1, 2]), none: undefined }
  t.strictSame(await a.call('echo', value), value)
  await t.rejects(a.call('fail', 'E_LUCK'), { name: 'TypeError', message: 'no such luck', code: 'E_LUCK' })
})

t.test('a process that is killed rejects its calls; a paused one answers when it goes on', async t => {
  const [a, b] = await startProcesses<EchoHandlers>(t, echo, 2)
  const call = t.rejects(a.call('hang'), /ended with SIGKILL/)
  await a.kill()
  await call
  await t.rejects(a.call('pid'), /ended with SIGKILL/)

  b.pause()
  const answer = b.call('echo', 1)
  b.resume()
  t.equal(await answer, 1)
  b.pause()
  await b.kill()
})

// Only Linux can be asked for this.
if (process.platform === 'linux') {
  t.test('servers and processes end with a test process that is killed', async t => {
    await findProgram('redis-server')
    const script = `
      import { startProcess } from './test/helpers/processes.ts'
      import { startRedis } from './test/helpers/servers.ts'
      const t = { teardown () {} }
      const worker = await startProcess(t, new URL('${echo.href}'))
      const redis = await startRedis(t)
      worker.pause()
      redis.pause()
      console.log(worker.pid, redis.port)
    `
    const parent = spawn(process.execPath, ['--import', 'tsx', '--input-type=module', '-e', script], {
      cwd: fileURLToPath(new URL('../..', import.meta.url)),
      env: { ...process.env, TMPDIR: t.testdir() },
      stdio: ['ignore', 'pipe', 'inherit']
    })
    t.teardown(() => parent.kill('SIGKILL'))
    const [line] = await once(parent.stdout.setEncoding('utf8'), 'data') as [string]
    const [pid = 0, port = 0] = line.trim().split(' ').map(Number)
    parent.kill('SIGKILL')
    await eventually(t, () => !isRunning(pid), 'the process is gone')
    await eventually(t, async () => !await canConnect(port), 'the server is gone')
  })
}

function isRunning (pid: number): boolean {
  try {
    return process.kill(pid, 0)
  } catch {
    return false
  }
}

async function canConnect (port: number): Promise<boolean> {
  const socket = connect(port, '127.0.0.1')
  return await once(socket, 'connect').then(() => true, () => false).finally(() => socket.destroy())
}
