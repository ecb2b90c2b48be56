import { readFile } from 'node:fs/promises'
import t from 'tap'
import { mutated, mutations } from './mutations.js'

t.test('every guard that can be taken away is there, once', async t => {
  for (const mutation of mutations) {
    const source = await readFile(new URL(`../../${mutation.file}`, import.meta.url), 'utf8')
    t.not(mutated(source, mutation), source, mutation.name)
  }
  t.equal(new Set(mutations.map(({ name }) => name)).size, mutations.length)
})

t.test('a guard that is not there, or not only there, is an error', async t => {
  const mutation = { name: 'guard', find: 'guard()', replace: '' }
  t.equal(mutated('a(); guard(); b()', mutation), 'a(); ; b()')
  t.throws(() => mutated('a()', mutation), { message: /guard is there 0 times/ })
  t.throws(() => mutated('guard(); guard()', mutation), { message: /guard is there 2 times/ })
})
