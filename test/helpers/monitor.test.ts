import t from 'tap'
import { Redis } from 'ioredis'
import { monitor, parseCall } from './monitor.js'
import { startRedis } from './servers.js'

t.test('a command is told as it was sent, byte by byte', async t => {
  const server = await startRedis(t)
  const client = new Redis(server.port)
  t.teardown(() => client.disconnect())
  const value = Buffer.from([0, 7, 8, 9, 10, 13, 32, 34, 92, 120, 128, 255])
  const told = new Promise<string[]>(resolve => { void monitor(t, server.url, call => { if (call[0] === 'set') resolve(call) }).then(() => client.set('k', value)) })
  t.strictSame(await told, ['set', 'k', value.toString('latin1')])
})

t.test('it begins while others send commands without end', async t => {
  const server = await startRedis(t)
  const client = new Redis(server.port)
  t.teardown(() => client.disconnect())
  const over = new AbortController()
  const pings = (async () => { while (!over.signal.aborted) await Promise.all(Array.from({ length: 50 }, () => client.ping())) })()
  for (let i = 0; i < 20; i++) await new Promise<void>(resolve => { void monitor(t, server.url, () => resolve()) })
  over.abort()
  await pings
})

t.test('what a script calls, and what is no command, is not told', async t => {
  t.equal(parseCall('+1796100207.011294 [0 lua] "set" "k" "v"'), undefined)
  t.equal(parseCall('+OK'), undefined)
})
