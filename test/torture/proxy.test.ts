import { once } from 'node:events'
import { connect, createServer, type AddressInfo, type Socket } from 'node:net'
import { setTimeout as pause } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { Proxy } from './proxy.js'

/** Long enough for anything that is not held back. */
const moment = 50

/** A proxy in front of a server that sends everything back, and what came back. */
async function echo (t: Test): Promise<{ proxy: Proxy, join: () => Promise<{ socket: Socket, heard: () => string }> }> {
  const server = createServer(socket => {
    socket.on('error', () => {})
    socket.pipe(socket)
  })
  t.teardown(() => server.close())
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const proxy = await Proxy.start(t, (server.address() as AddressInfo).port)
  return {
    proxy,
    join: async () => {
      const socket = connect(proxy.port, proxy.host).setEncoding('utf8')
      t.teardown(() => socket.destroy())
      let heard = ''
      socket.on('data', text => { heard += String(text) })
      await once(socket, 'connect')
      return { socket, heard: () => heard }
    }
  }
}

t.test('what is held back arrives when it is released by all who hold it', async t => {
  const { proxy, join } = await echo(t)
  const { socket, heard } = await join()
  socket.write('a')
  await once(socket, 'data')
  proxy.hold()
  proxy.hold()
  socket.write('b')
  const late = await join()
  late.socket.write('c')
  proxy.release()
  await pause(moment)
  t.equal(heard() + late.heard(), 'a')
  proxy.release()
  await Promise.all([once(socket, 'data'), once(late.socket, 'data')])
  t.equal(heard() + late.heard(), 'abc')
})

t.test('what is held back is lost when connections are dropped; new ones work', async t => {
  const { proxy, join } = await echo(t)
  const { socket, heard } = await join()
  proxy.hold()
  socket.write('a')
  await pause(moment)
  proxy.drop()
  proxy.release()
  const [error] = await once(socket, 'error')
  t.equal((error as NodeJS.ErrnoException).code, 'ECONNRESET')
  t.equal(heard(), '')
  const next = await join()
  next.socket.write('b')
  await once(next.socket, 'data')
  t.equal(next.heard(), 'b')
})

t.test('where it is cut, connections are reset and refused until all who cut it have restored it', async t => {
  const { proxy, join } = await echo(t)
  const { socket } = await join()
  proxy.cut()
  proxy.cut()
  await once(socket, 'error')
  await proxy.restore()
  await t.rejects(join(), { code: 'ECONNREFUSED' })
  await proxy.restore()
  const { socket: again, heard } = await join()
  again.write('a')
  await once(again, 'data')
  t.equal(heard(), 'a')
})

t.test('one connection is held back while others go on', async t => {
  const { proxy, join } = await echo(t)
  const [a, b] = [await join(), await join()]
  a.socket.write('a')
  b.socket.write('b')
  await Promise.all([once(a.socket, 'data'), once(b.socket, 'data')])
  const goOn = proxy.stall(5)
  a.socket.write('a')
  b.socket.write('b')
  await once(a.socket, 'data')
  await pause(moment)
  t.strictSame([a.heard(), b.heard()], ['aa', 'b'])
  goOn()
  await once(b.socket, 'data')
  t.equal(b.heard(), 'bb')
  t.doesNotThrow(await Proxy.start(t, 1).then(empty => empty.stall(0)), 'where there is none, nothing happens')
})
