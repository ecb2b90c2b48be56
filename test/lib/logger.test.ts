import t from 'tap'
import { unthrowing, type LogFn } from '../../lib/logger.js'

const levels = ['debug', 'info', 'warn', 'error'] as const

t.test('a logger is told everything, as its own method', t => {
  const told: unknown[] = []
  class Logger {
    debug: LogFn = (...line) => { told.push(['debug', ...line]) }
    info: LogFn = (...line) => { told.push(['info', ...line]) }
    error: LogFn = (...line) => { told.push(['error', ...line]) }
    warn (...line: Parameters<LogFn>): void { told.push([this instanceof Logger && 'warn', ...line]) }
  }
  const logger = unthrowing(new Logger())
  for (const level of levels) logger[level]({ level }, 'said')
  t.strictSame(told, levels.map(level => [level, { level }, 'said']))
  t.end()
})

t.test('what a logger throws is lost', t => {
  const fails = () => { throw new Error('the disk is full') }
  const logger = unthrowing({ debug: fails, info: fails, warn: fails, error: fails })
  for (const level of levels) logger[level]({}, 'said')
  t.end()
})
