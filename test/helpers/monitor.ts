import { once } from 'node:events'
import { connect } from 'node:net'
import { createInterface } from 'node:readline'
import type { Owner } from './server-process.js'

/**
 * Calls `heard` with each command that the Redis server at `url` executes from now on, but for those that a script calls. Not
 * by ioredis: it fails where the packet that answers MONITOR tells of somebody's command as well.
 */
export async function monitor (owner: Owner, url: string, heard: (call: string[]) => void): Promise<void> {
  const { hostname, port } = new URL(url)
  const socket = connect(Number(port), hostname)
  owner.teardown(() => socket.destroy())
  const lines = createInterface(socket)
  socket.write('MONITOR\r\n')
  await once(lines, 'line')
  socket.on('error', () => {}) // the server may end before its test
  lines.on('line', line => {
    const call = parseCall(line)
    if (call !== undefined) heard(call)
  })
}

/** Of a line such as `+1796100207.011294 [0 127.0.0.1:46258] "set" "k" "\x01\n"`: one character for each byte. */
export function parseCall (line: string): string[] | undefined {
  const [, source, call] = /^\+[\d.]+ \[\d+ ([^\]]+)\] (.*)$/.exec(line) ?? []
  if (call === undefined || source === 'lua') return undefined
  return Array.from(call.matchAll(/"((?:[^"\\]|\\.)*)"/g), ([, argument]) => argument!.replace(/\\(x([0-9a-f]{2})|.)/g, unescape))
}

const unescape = (_escape: string, character: string, hex: string | undefined): string =>
  hex === undefined ? escapes[character] ?? character : String.fromCharCode(Number.parseInt(hex, 16))

const escapes: Readonly<Record<string, string>> = { n: '\n', r: '\r', t: '\t', a: '\x07', b: '\b' }
