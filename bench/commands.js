import { once } from 'node:events'
import { connect } from 'node:net'
import { createInterface } from 'node:readline'
import { setTimeout as pause } from 'node:timers/promises'

/** What isn't a side's own work: how connections are kept. */
const others = new Set(['ping', 'info', 'client', 'monitor', 'hello', 'auth', 'select'])

/** Counts what a Redis server executes while something runs; what a script calls is a part of that one command. */
export async function commandCounter (port) {
  const socket = connect(port, '127.0.0.1')
  await once(socket, 'connect')
  let seen = []
  createInterface({ input: socket }).on('line', line => {
    // +1700000000.000001 [0 127.0.0.1:50000] "get" "key"
    const [, source, name = ''] = /^\+[\d.]+ \[\d+ (\S+)\] "([^"]*)"/.exec(line) ?? []
    if (source !== undefined && source !== 'lua' && !others.has(name.toLowerCase())) seen.push(name.toLowerCase())
  })
  socket.write('MONITOR\r\n')
  await pause(50)
  return {
    async during (work) {
      seen = []
      await work()
      await pause(100) // what is written back after the callers have their value
      return seen
    },
    close: () => socket.destroy()
  }
}
