import { randomUUID } from 'node:crypto'

/** One that nobody else has. */
export const newKey = (): string => `test-${randomUUID()}`

/**
 * Keys that have broken something somewhere: each is its own, and none is a pattern or a command. None has a lone
 * surrogate: most clients write UTF-8, where all of them are the same character, and no key of a region or of a cache
 * object has one.
 */
export const hostileKeys = [
  'with blanks', ' with blanks', 'with blanks ', 'tab\tand\vmore', 'line\r\nbreak', 'line\nbreak', 'a\r\nflush_all\r\n', 'NUL\0byte', 'NUL\0', 'NUL',
  '{braces}', '{braces', 'braces}', '{}', '*', '?', '[a-z]', '%', '_', '\\', '\'', '"', "'; drop table cache; --", '$1', ':', '|', '#', '/', '../..', '-1', '0', '1', 'é', 'e\u0301',
  'upper', 'UPPER', '🦊', '🦊🦊', '日本語', '\u2028', '\ufeff', '\x7f', '__proto__', 'constructor', 'toString', 'hasOwnProperty', 'undefined', 'null',
  'x'.repeat(249), 'x'.repeat(250), 'x'.repeat(251), 'long '.repeat(2000), 'long '.repeat(1999) + 'lonG ', '🦊'.repeat(5000)
]
