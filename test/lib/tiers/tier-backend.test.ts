import t from 'tap'
import type { Backend } from '../../../lib/backends/backend.js'
import { switchable } from '../../helpers/backend-doubles.js'
import { onThreeMethods } from '../../helpers/places.js'
import { startRedis } from '../../helpers/servers.js'
import { entryOf, load, onEachPlace, read, tierOn } from '../../helpers/shared-tiers.js'

const server = await startRedis(t)

onEachPlace(t, server, (t, { make }) => {
  t.test('a tier that says nothing counts as missing when its time is over', async t => {
    const place = make(t)
    const { backend, state } = switchable(place.another())
    const { tier, logger } = tierOn(t, place, backend, { timeout: 1 })
    state.away = 'silent'
    t.strictSame(await read(tier, 'a'), [undefined])
    t.match(logger.lines.debug, [{ details: { err: { message: `${backend.name} of region objects did not answer within 1 ms` } } }])
  })

  t.test('a tier that answers another number of values than it was asked for counts as away', async t => {
    const place = make(t)
    for (const answer of [[], [undefined, undefined, undefined], 'text']) {
      const { tier, logger } = tierOn(t, place, { ...place.raw, name: 'wrong', getMany: async () => answer as [], setMany: async () => {}, deleteMany: async () => {} })
      t.strictSame(await read(tier, 'a'), [undefined])
      t.match(logger.lines.debug, [{ details: { err: { message: 'wrong.getMany must answer each of 5 keys' } } }])
    }
  })
})

t.test('a backend whose setMany returns nothing is understood', async t => {
  const place = onThreeMethods()
  const key = place.keyspace.entry('k', 'a')
  const { tier } = tierOn(t, place, { ...place.raw, setMany: (entries => { void place.raw.setMany(entries) }) as Backend['setMany'] })
  t.strictSame(await tier.setMany([{ key, entry: entryOf(1) }]), [true])
  t.strictSame(await read(tier, key), [1])
})

t.test('a backend that says null where there is nothing is understood', async t => {
  const place = onThreeMethods()
  const key = place.keyspace.entry('k', 'a')
  const { tier } = tierOn(t, place, { ...place.raw, getMany: async keys => (await place.raw.getMany(keys)).map(bytes => bytes ?? null!) })
  await load(tier, key, 1)
  t.strictSame(await read(tier, key, place.keyspace.entry('k', 'b')), [1, undefined])
})

t.test('a backend on several servers hears how long they may take, and where to log; it needn’t listen', async t => {
  const place = onThreeMethods()
  const allowed: unknown[] = []
  const spread = { ...place.raw, serverOf: () => ({}) }
  const { logger } = tierOn(t, place, { ...spread, allow: (...what: unknown[]) => { allowed.push(what) } } as Backend, { timeout: 123 })
  t.equal(allowed.length, 1)
  const [[milliseconds, log]] = allowed as [[unknown, unknown]]
  t.equal(milliseconds, 123)
  t.equal(log, logger)
  t.strictSame(await tierOn(t, place, spread).tier.readMany([place.keyspace.entry('k', 'absent')]), [undefined])
})
