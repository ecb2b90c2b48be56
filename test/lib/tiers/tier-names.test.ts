import t from 'tap'
import { tierNames } from '../../../lib/tiers/tier-names.js'

const namesFor = (...names: string[]) => tierNames(names.map(name => ({ name })))

t.test('a tier is called as its backend is, and the second of a name has a number', async t => {
  t.strictSame(namesFor('memory', 'redis'), ['memory', 'redis'])
  t.strictSame(namesFor('memory', 'redis', 'redis', 'memory', 'redis'), ['memory', 'redis', 'redis-2', 'memory-2', 'redis-3'])
  t.strictSame(namesFor(), [])
})

t.test('a number doesn\'t give a tier the name that another backend has', async t => {
  t.strictSame(namesFor('redis', 'redis', 'redis-2', 'redis'), ['redis', 'redis-3', 'redis-2', 'redis-4'])
  t.strictSame(namesFor('redis', 'redis-2', 'redis-2', 'redis'), ['redis', 'redis-2', 'redis-2-2', 'redis-3'])
})
