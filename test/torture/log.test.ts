import { appendFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { ErrorCodes, readErrorCodes } from './error-codes.js'
import { LogWriter, readLog, type LogRecord } from './log.js'

t.test('what was written is read back, but for a record that was cut off', async t => {
  const path = join(t.testdir(), 'log')
  const log = new LogWriter(path)
  const records: LogRecord[] = [
    { what: 'read', way: 'api.get', origin: 'memory', cell: 383, version: 2 ** 31 - 1, began: 10_800_000_000_001, ended: 10_800_000_000_002 },
    { what: 'read', way: 'region.get', origin: 'unknown', cell: 0, version: undefined, began: 1, ended: 2 },
    { what: 'write', way: 'region.invalidateTags(group)', outcome: 'pending', cell: 5, version: 7, updated: 1, asked: 2, ended: 3 },
    { what: 'failure', way: 'region.delete', cell: 5, error: 3, began: 2, ended: 4 }
  ]
  for (const record of records) log.write(record)
  t.strictSame([...readLog(path)], [], 'not yet')
  log.flush()
  appendFileSync(path, Buffer.alloc(31))
  t.strictSame([...readLog(path)], records)
  log.close()
})

t.test('records that don\'t fit into the buffer together are read back as well', async t => {
  const path = join(t.testdir(), 'log')
  const log = new LogWriter(path)
  for (let version = 0; version < 5000; version++) log.write({ what: 'read', way: 'get', origin: 'loaded', cell: 1, version, began: version, ended: version })
  log.close()
  t.strictSame(Array.from(readLog(path), record => record.what === 'read' && record.version), Array.from({ length: 5000 }, (_, i) => i))
})

t.test('errors are numbers, and found again by them', async t => {
  const log = join(t.testdir(), 'log')
  t.strictSame(readErrorCodes(log), [])
  const codes = new ErrorCodes(log)
  t.equal(codes.numberOf(Object.assign(new Error('away'), { code: 'FST_CACHING_API_INVALIDATION_PENDING' })), codes.pending)
  const number = codes.numberOf(new RangeError('too far'))
  t.equal(codes.numberOf(new RangeError('too far again')), number)
  t.strictSame(readErrorCodes(log)[number], { code: 'RangeError', message: 'too far' })
})
