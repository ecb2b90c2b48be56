import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createServer, type AddressInfo } from 'node:net'
import { fileURLToPath } from 'node:url'
import { Redis } from 'ioredis'
import t from 'tap'
import { isOpening } from '../../../lib/backends/backend.js'
import { LocalRedisBackend, localRedis } from '../../../lib/backends/local-redis.js'
import { eventually } from '../../helpers/doubles.js'
import { recordingProxy } from '../../helpers/recording-proxy.js'
import { startRedis } from '../../helpers/servers.js'

const bytes = (text: string) => Buffer.from(text)
const entry = (key: string, text: string) => ({ key, value: bytes(text), ttl: 60_000 })

t.test('localRedis connects when it is first used, once, and keeps bytes', async t => {
  const redis = await startRedis(t)
  const proxy = await recordingProxy(t, redis.port)
  const backend = localRedis({ port: proxy.port })
  t.teardown(() => backend.close!())
  t.equal(backend.name, 'redis')
  t.ok(isOpening(backend))
  t.equal(proxy.connections, 0)
  await Promise.all([backend.setMany([entry('a', '1'), entry('b', '2')]), backend.getMany(['c'])])
  t.strictSame(await backend.getMany(['b', 'c', 'a']), [bytes('2'), undefined, bytes('1')])
  await backend.deleteMany(['a'])
  t.strictSame(await backend.getMany(['a', 'b']), [undefined, bytes('2')])
  t.equal(proxy.connections, 1)
})

t.test('two databases of the local Redis are apart', async t => {
  const { port } = await startRedis(t)
  const [first, second] = [localRedis({ port }), localRedis({ port, db: 1 })]
  t.teardown(() => Promise.all([first.close!(), second.close!()]))
  await second.setMany([entry('a', '1')])
  t.strictSame(await first.getMany(['a']), [undefined])
  t.strictSame(await second.getMany(['a']), [bytes('1')])
})

t.test('localRedis without a server says why, and tries again with the next operation', async t => {
  const redis = await startRedis(t)
  const backend = localRedis({ port: redis.port })
  t.teardown(() => backend.close!())
  await redis.stop()
  await t.rejects(backend.getMany(['a']), { code: 'ECONNREFUSED' })
  await t.rejects(backend.setMany([entry('a', '1')]), { code: 'ECONNREFUSED' })
  await redis.start()
  t.strictSame(await backend.getMany(['a']), [undefined])
})

t.test('a local server that hangs up is an error that says so', async t => {
  const server = createServer(socket => { socket.once('data', () => socket.end()) })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => server.close())
  const backend = localRedis({ port: (server.address() as AddressInfo).port })
  await t.rejects(backend.getMany(['a']), /closed/)
})

t.test('a connection that was lost is made anew', async t => {
  const redis = await startRedis(t)
  const proxy = await recordingProxy(t, redis.port)
  const backend = localRedis({ port: proxy.port })
  t.teardown(() => backend.close!())
  await backend.setMany([entry('a', '1')])
  await proxy.cut()
  await eventually(t, () => backend.getMany(['a']).then(() => false, error => error.code === 'ECONNREFUSED'), 'it noticed')
  await proxy.restore()
  t.strictSame(await backend.getMany(['a']), [bytes('1')])
})

t.test('close ends the connection when what is under way is answered; localRedis can be used again', async t => {
  const redis = await startRedis(t)
  const proxy = await recordingProxy(t, redis.port)
  const backend = localRedis({ port: proxy.port })
  await backend.close!()
  t.equal(proxy.connections, 0)
  await backend.setMany([entry('a', '1')])
  const reading = backend.getMany(['a'])
  await new Promise(setImmediate)
  await backend.close!()
  t.strictSame(await reading, [bytes('1')])
  await eventually(t, () => proxy.connections === 0, 'the connection is gone')
  const again = backend.getMany(['a'])
  t.strictSame(await again, [bytes('1')])
  t.equal(proxy.connections, 1)
  await backend.close!()
})

t.test('what is asked for while localRedis closes has a connection of its own, which the end of the old one leaves alone', async t => {
  const redis = await startRedis(t)
  const proxy = await recordingProxy(t, redis.port)
  const ends: Promise<unknown>[] = []
  class Watched extends Redis {
    constructor (options: { port: number }) {
      super(options)
      ends.push(once(this, 'end'))
    }
  }
  const backend = new LocalRedisBackend({ port: proxy.port }, async () => ({ Redis: Watched }))
  t.teardown(() => backend.close())
  await backend.getMany(['a'])
  const closing = backend.close()
  await backend.getMany(['a'])
  await closing
  await ends[0]
  await eventually(t, () => proxy.connections === 1, 'the old one is gone')
  await backend.getMany(['a'])
  t.equal(proxy.connections, 1)
})

t.test('a server that hangs does not hold up close', async t => {
  const redis = await startRedis(t)
  const proxy = await recordingProxy(t, redis.port)
  const backend = localRedis({ port: proxy.port })
  await backend.setMany([entry('a', '1')])
  proxy.pause()
  await backend.close!()
  proxy.resume()
  await eventually(t, () => proxy.connections === 0, 'the connection is gone')
})

t.test('localRedis without ioredis says what to install, and looks again the next time', async t => {
  const { port } = await startRedis(t)
  let installed = false
  const backend = new LocalRedisBackend({ port }, async () => {
    if (!installed) throw new Error("Cannot find package 'ioredis'")
    return await import('ioredis')
  })
  t.teardown(() => backend.close())
  const refused = { code: 'FST_CACHING_API_INVALID_OPTIONS', message: "localRedis() must be used where ioredis is installed (npm install ioredis), got Cannot find package 'ioredis'" }
  await t.rejects(backend.loadLibrary(), refused)
  await t.rejects(backend.getMany(['a']), refused)
  installed = true
  await backend.loadLibrary()
  t.strictSame(await backend.getMany(['a']), [undefined])
})

t.test('options that can not work are refused', async t => {
  const cases: [options: unknown, message: string][] = [
    [null, 'localRedis(options) must be an object, got null'],
    [[], 'localRedis(options) must be an object, got an array of 0'],
    [{ host: 'elsewhere' }, "localRedis(options).host must be absent: the options are port, db, got 'elsewhere'"],
    [{ port: 0 }, 'localRedis(options).port must be a port, such as 6379, got 0'],
    [{ port: 65_536 }, 'localRedis(options).port must be a port, such as 6379, got 65536'],
    [{ port: '6379' }, "localRedis(options).port must be a port, such as 6379, got '6379'"],
    [{ db: -1 }, 'localRedis(options).db must be the number of a database, such as 0, got -1'],
    [{ db: 0.5 }, 'localRedis(options).db must be the number of a database, such as 0, got 0.5']
  ]
  for (const [options, message] of cases) t.throws(() => localRedis(options as never), { code: 'FST_CACHING_API_INVALID_OPTIONS', message })
  t.ok(localRedis())
  t.ok(localRedis({ port: undefined, other: undefined } as never), 'what is undefined counts as absent')
})

t.test('a connection that is idle does not keep the process alive', async t => {
  const { port } = await startRedis(t)
  const script = `
    import { localRedis } from './lib/backends/local-redis.ts'
    const backend = localRedis({ port: ${port} })
    const hold = setTimeout(() => {}, 20_000)
    await backend.getMany(['a'])
    clearTimeout(hold)
    console.log('read')
  `
  const child = spawn(process.execPath, ['--import', 'tsx', '--input-type=module', '-e', script], {
    cwd: fileURLToPath(new URL('../../..', import.meta.url)),
    env: { ...process.env, _TAPJS_PROCESSINFO_COVERAGE_: '0' },
    stdio: ['ignore', 'pipe', 2],
    timeout: 60_000
  })
  let said = ''
  child.stdout!.setEncoding('utf8').on('data', text => { said += text })
  const [code, signal] = await once(child, 'exit')
  t.strictSame([code, signal, said], [0, null, 'read\n'])
})
