import t from 'tap'
import type { Backend } from '../../../lib/backends/backend.js'
import { gate } from '../../helpers/doubles.js'
import { onThreeMethods } from '../../helpers/places.js'
import { claim, fill, load, read, tierOn } from '../../helpers/shared-tiers.js'

t.test('a deletion comes after what the same process is writing to a backend of three methods, though that may fail', async t => {
  const place = onThreeMethods()
  const key = place.keyspace.entry('k', 'slow')
  for (const error of [undefined, new Error('refused')]) {
    const [write, isWriting] = [gate(), gate()]
    const slow: Backend = {
      ...place.raw,
      setMany: async entries => {
        if (entries[0]!.key === key) {
          isWriting.open()
          await write.opened
          if (error !== undefined) throw error
        }
        await place.raw.setMany(entries)
      }
    }
    const { tier } = tierOn(t, place, slow)
    const filled = fill(tier, await claim(tier, key), [{ key, value: 'old' }])
    await isWriting.opened
    const forgotten = tier.forget({ keys: [key] })
    await new Promise(setImmediate) // it would have deleted by now
    write.open()
    await Promise.all([filled, forgotten])
    t.strictSame(await read(tier, key), [undefined])
  }
})

t.test('a deletion waits for no write of another key, and for none that takes longer than a minute', async t => {
  const place = onThreeMethods()
  const [lost, other] = [place.keyspace.entry('k', 'lost'), place.keyspace.entry('k', 'other')]
  const isWriting = gate()
  const { tier } = tierOn(t, place, {
    ...place.raw,
    setMany: async entries => {
      await place.raw.setMany(entries)
      if (entries[0]!.key !== lost) return
      isWriting.open()
      await new Promise(() => {})
    }
  })
  await load(tier, other, 1)
  void fill(tier, await claim(tier, lost), [{ key: lost, value: 1 }])
  await isWriting.opened
  t.equal(await tier.forget({ keys: [other] }), true)
  const { now } = performance
  t.intercept(performance, 'now', { value: () => now.call(performance) + 60_001 })
  t.equal(await tier.forget({ keys: [lost] }), true)
  t.strictSame(await read(tier, lost, other), [undefined, undefined])
})

t.test('a stamp that is made anew matches no older entry, whatever is left of the one before', async t => {
  const place = onThreeMethods()
  const key = place.keyspace.entry('k', 'tagged')
  const state = { refused: '' }
  const { tier } = tierOn(t, place, {
    ...place.raw,
    setMany: async entries => {
      await place.raw.setMany(entries.filter(entry => entry.key !== state.refused))
      if (entries.some(entry => entry.key === state.refused)) throw new Error('away')
    }
  })
  await load(tier, key, 'old', ['t'])
  await tier.forget({ tags: ['t'] })
  await place.raw.deleteMany([place.keyspace.stampPart('deleted')])
  state.refused = place.keyspace.stampPart('epoch')
  await claim(tier, place.keyspace.entry('k', 'another'))
  t.strictSame(await read(tier, key), [undefined])
})
