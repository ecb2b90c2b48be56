import { Redis } from 'ioredis'
import t from 'tap'
import { UnstorableError, type Backend } from '../../../lib/backends/backend.js'
import { redis } from '../../../lib/backends/redis.js'
import { eventually } from '../../helpers/doubles.js'
import { onRedis, onThreeMethods } from '../../helpers/places.js'
import { startRedis } from '../../helpers/servers.js'
import { claim, clock, entryOf, fill, load, patchedTier, tierOn } from '../../helpers/shared-tiers.js'

const server = await startRedis(t)

t.test('an entry is kept as long as it may be served, and its tags a little longer', async t => {
  const place = onRedis(t, server)
  const client = new Redis(server.port)
  t.teardown(() => client.disconnect())
  const { tier } = tierOn(t, place, redis(client))
  const [a, b, c] = ['a', 'b', 'c'].map(rest => place.keyspace.entry('k', rest)) as [string, string, string]
  await load(tier, a, 1, ['t'])
  await tier.setMany([{ key: b, entry: entryOf(2) }])
  for (const [key, longest] of [[a, 60_000], [b, 60_000], [place.keyspace.tag('t'), 61_000]] as const) {
    const left = await client.pttl(key)
    t.ok(left > longest - 10_000 && left <= longest, `${key}: ${left} ms`)
  }
  await tier.setMany([{ key: c, entry: { ...entryOf(3), staleUntil: clock.now() - 1 } }])
  await eventually(t, async () => await client.exists(c) === 0, 'what is over already lives for a moment')
})

t.test('a value that a backend will never keep is no failure, and there is one warning', async t => {
  const tooLarge = new Error('too large')
  const warned = [{ message: 'a tier can not keep a value; further ones will not be logged', details: { region: 'objects', err: { message: 'too large' } } }]
  const { tier, logger, keyspace, a } = patchedTier(t, server, { fillMany: async entries => entries.map((_, i) => i === 1 ? tooLarge : i === 2) })
  const keys = [a, keyspace.entry('k', 'b'), keyspace.entry('k', 'c')]
  for (let round = 0; round < 5; round++) {
    t.strictSame(await fill(tier, await claim(tier, ...keys), keys.map(key => ({ key, value: key }))), [false, 'unkept', true])
  }
  t.match(logger.lines.warn, warned)
  t.equal(logger.lines.warn.length, 1)

  const place = onThreeMethods()
  const [large, small] = [place.keyspace.entry('k', 'large'), place.keyspace.entry('k', 'small')]
  const { raw } = place
  const picky: Backend = {
    ...raw,
    setMany: async entries => {
      await raw.setMany(entries.filter(({ key }) => key !== large))
      if (entries.some(({ key }) => key === large)) throw new UnstorableError([large], tooLarge)
    }
  }
  const bare = tierOn(t, place, picky)
  for (let round = 0; round < 5; round++) {
    t.strictSame(await fill(bare.tier, await claim(bare.tier, large, small), [{ key: large, value: 1 }, { key: small, value: 2 }]), ['unkept', true])
    await bare.tier.setMany([{ key: large, entry: entryOf(1) }, { key: small, entry: entryOf(round) }])
    t.match(await bare.tier.readMany([large, small]), [undefined, { value: round }])
  }
  t.match(bare.logger.lines.warn, warned)
  t.equal(bare.logger.lines.warn.length, 1)
})
