import t from 'tap'
import { afterTick } from '../../../lib/read-path/after-tick.js'

t.test('what is to run after a tick runs after all that the tick has promised, and before anything from outside', async t => {
  const order: string[] = []
  afterTick(() => { order.push('after') })
  setImmediate(() => { order.push('immediate') })
  process.nextTick(() => { order.push('next tick') })
  let jobs = Promise.resolve()
  for (let i = 0; i < 10; i++) jobs = jobs.then(() => { order.push(`job ${i}`) })
  await new Promise(resolve => { setImmediate(resolve) })
  t.equal(order.at(-2), 'after')
  t.equal(order.at(-1), 'immediate')
  t.equal(order.length, 13)
})
