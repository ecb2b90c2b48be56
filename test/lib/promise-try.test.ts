import t from 'tap'
import { promiseTry } from '../../lib/promise-try.js'

t.test('what the function returns, or its promise resolves to, is the result', async t => {
  t.equal(await promiseTry(() => 1), 1)
  t.equal(await promiseTry(async () => 2), 2)
})

t.test('it is called at once', async t => {
  let called = false
  const promise = promiseTry(() => { called = true })
  t.ok(called)
  await promise
})

t.test('what it throws is a rejection, as what its promise rejects with is', async t => {
  await t.rejects(promiseTry(() => { throw new Error('thrown') }), { message: 'thrown' })
  await t.rejects(promiseTry(async () => { throw new Error('rejected') }), { message: 'rejected' })
})
