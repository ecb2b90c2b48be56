import { EventEmitter } from 'node:events'
import { setImmediate as later } from 'node:timers/promises'
import t from 'tap'
import { UnsavedObjects, warnOfLoss, watch, type Response } from '../../../lib/request/unsaved.js'
import { eventually, gate, silentLogger } from '../../helpers/doubles.js'
import { collectGarbage } from '../../helpers/garbage.js'

function warnings (t: { teardown (fn: () => void): void }): string[] {
  const said: string[] = []
  const hear = (warning: Error) => { said.push(`${warning.name}: ${warning.message}`) }
  process.on('warning', hear)
  t.teardown(() => process.off('warning', hear))
  return said
}

function request (response: Response | null = null) {
  const all = new Set<UnsavedObjects>()
  const logger = silentLogger()
  return { all, unsaved: new UnsavedObjects(all, logger, response), said: () => logger.lines.warn.map(({ details }) => (details as { err: Error }).err.message) }
}

const responding = () => Object.assign(new EventEmitter(), { destroyed: false })

t.test('the objects of a request are saved together, each once, and the log has the errors', async t => {
  const saved: string[] = []
  const { unsaved, said } = request()
  const good = { save: async () => { saved.push('good') } }
  const bad = { save: async () => { throw new Error('bad') } }
  const worse = { save: () => { throw new Error('worse') } }
  for (const object of [good, bad, good, worse]) unsaved.take(object)
  await unsaved.save()
  t.strictSame(said(), ['bad', 'worse'])
  t.strictSame(saved, ['good'])
})

t.test('with nothing to save there is nothing to wait for', async t => {
  const { unsaved, all } = request(responding())
  t.equal(unsaved.save(), undefined)
  t.equal(unsaved.saving, undefined)
  t.equal(all.size, 0)
})

t.test('a second send does not overtake the save of the first, whether or not it has something to save itself', async t => {
  const held = gate()
  const { unsaved } = request()
  const saved: string[] = []
  unsaved.take({ save: async () => { await held.opened; saved.push('first') } })
  const first = unsaved.save()
  const second = unsaved.save()!.then(() => t.ok(saved.includes('first')))
  unsaved.take({ save: async () => { saved.push('third') } })
  const third = unsaved.save()!.then(() => t.strictSame(saved, ['third', 'first']))
  await later()
  t.strictSame(saved, ['third'])
  held.open()
  await Promise.all([first, second, third])
  t.equal(unsaved.save(), undefined, 'all is saved')
})

t.test('what is assigned while a save is under way is not forgotten when that has ended', async t => {
  const [response, held, heldAgain, heldLonger] = [responding(), gate(), gate(), gate()]
  const { unsaved, all } = request(response)
  unsaved.take({ save: async () => { await held.opened } })
  const first = unsaved.save()
  let saved = false
  unsaved.take({ save: async () => { await heldAgain.opened; saved = true } })
  held.open()
  await first
  t.ok(all.has(unsaved), 'it has something to save')
  const second = unsaved.save()
  unsaved.take({ save: async () => { await heldLonger.opened } })
  const third = unsaved.save()
  heldAgain.open()
  await second
  t.ok(saved)
  t.equal(unsaved.saving, third)
  heldLonger.open()
  await third
  t.equal(all.size, 0)
})

t.test('what is assigned while the response is sent is saved when it is over; and after that at once', async t => {
  const response = responding()
  const { unsaved, all, said } = request(response)
  let saves = 0
  const object = { save: async () => { saves++ } }
  t.ok(unsaved.take(object))
  await unsaved.save()
  t.equal(saves, 1)
  t.equal(all.size, 0)
  unsaved.take(object)
  await later()
  t.equal(saves, 1)
  t.equal(all.size, 1, 'it has something to save')
  response.emit('close')
  await unsaved.saving
  t.equal(saves, 2)
  t.ok(unsaved.take({ save: async () => { throw new Error('away') } }))
  t.ok(unsaved.take(object))
  await unsaved.saving
  t.equal(saves, 3)
  t.strictSame(said(), ['away'])
  t.equal(all.size, 0)
  t.equal(response.listenerCount('close'), 0)
})

t.test('in the background, one save is under way: what is assigned meanwhile goes together', async t => {
  const response = responding()
  const { unsaved } = request(response)
  const doors = [gate(), gate()]
  let saves = 0
  const object = { save: async () => { await doors[saves++]!.opened } }
  unsaved.take(object)
  unsaved.end()
  unsaved.end()
  await later()
  for (let i = 0; i < 3; i++) {
    unsaved.take(object)
    await later()
  }
  t.equal(saves, 1)
  doors[0]!.open()
  await later()
  t.equal(saves, 2)
  doors[1]!.open()
  await unsaved.saving
  t.equal(saves, 2)
})

t.test('a save that comes when the response is over already takes what the background would have saved', async t => {
  const response = responding()
  const { unsaved } = request(response)
  let saves = 0
  response.emit('close')
  unsaved.take({ save: async () => {} })
  unsaved.end()
  unsaved.take({ save: async () => { saves++ } })
  await unsaved.save()
  t.equal(saves, 1)
  t.equal(unsaved.saving, undefined)
})

t.test('a response that was over before anything was assigned is no reason to lose it', async t => {
  for (const response of [{ destroyed: true }, { stream: { destroyed: true } }]) {
    const { unsaved } = request(Object.assign(new EventEmitter(), response))
    let saves = 0
    t.ok(unsaved.take({ save: async () => { saves++ } }))
    await unsaved.saving
    t.equal(saves, 1)
  }
})

t.test('before a response is known, nobody promises to save; when it is, it counts for what was assigned before', async t => {
  const response = responding()
  const { unsaved } = request()
  let saves = 0
  t.notOk(unsaved.take({ save: async () => { saves++ } }))
  unsaved.setResponse(response)
  response.emit('close')
  await unsaved.saving
  t.equal(saves, 1)
  const unused = request()
  unused.unsaved.setResponse(response)
  t.equal(response.listenerCount('close'), 0, 'nothing was assigned')
})

t.test('a loss is told once for each name, and only if there was one', async t => {
  const said = warnings(t)
  warnOfLoss({ name: 'Told', hasUnsaved: () => false })
  warnOfLoss({ name: 'Told', hasUnsaved: () => true })
  warnOfLoss({ name: 'Told', hasUnsaved: () => true })
  warnOfLoss({ name: 'Other', hasUnsaved: () => true })
  await later()
  t.match(said, [/^FastifyCachingApiWarning: an object of Told was dropped .* call save\(\)/, /an object of Other/])
  t.equal(said.length, 2)
})

t.test('an object that is watched can be dropped all the same, and then its loss is told', async t => {
  const said = warnings(t)
  ;(() => watch({}, { name: 'Watched', hasUnsaved: () => true }))()
  await eventually(t, () => { collectGarbage(); return said.some(line => line.includes('Watched')) }, 'it was told')
})
