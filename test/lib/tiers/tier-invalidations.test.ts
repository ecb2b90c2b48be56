import t from 'tap'
import type { Invalidation } from '../../../lib/coherence/messages.js'
import { freshness } from '../../../lib/entry.js'
import type { SharedTier } from '../../../lib/tiers/shared-tier.js'
import { eventually } from '../../helpers/doubles.js'
import { startRedis } from '../../helpers/servers.js'
import { claim, clock, fill, load, onEachPlace, read, twoTiers } from '../../helpers/shared-tiers.js'

const server = await startRedis(t)

onEachPlace(t, server, (t, { fenced, make }) => {
  t.test('a tier forgets keys for every process, and no others', async t => {
    const { tier, theirs, a, b } = twoTiers(t, make(t))
    await load(tier, a, 1)
    await load(tier, b, 2)
    t.equal(await theirs.forget({ keys: [a] }), true)
    t.strictSame(await read(tier, a, b), [undefined, 2])
    const { deleted } = (await tier.stamp())!
    await theirs.forget({ keys: [a] })
    t.not((await tier.stamp())!.deleted, deleted, 'its stamp tells of it')
  })

  t.test('a tier forgets everything with a hard invalidation, and what was being loaded', async t => {
    const { tier, theirs, a, b } = twoTiers(t, make(t))
    await load(tier, a, 1)
    const claims = await claim(tier, b)
    t.equal(await theirs.forget({ hard: true }), true)
    await fill(tier, claims, [{ key: b, value: 'late' }])
    t.strictSame(await read(tier, a, b), [undefined, undefined])
    t.equal((await claim(tier, a))[0]!.entry, undefined, 'nor does a second look find it')
    await load(tier, a, 2)
    t.strictSame(await read(theirs, a), [2])
  })

  t.test('a tier keeps to each of several invalidations at once', async t => {
    const all: Invalidation[] = [{ hard: true }, { soft: true }, { tags: ['t'] }, { keys: ['other'] }]
    for (const [one, another] of all.flatMap(one => all.filter(another => another !== one).map(another => [one, another] as const))) {
      const { tier, theirs, a } = twoTiers(t, make(t))
      await fill(tier, await claim(tier, a), [{ key: a, value: 1, tags: ['t'] }])
      await Promise.all([tier.forget(one), theirs.forget(another)])
      const both = { ...one, ...another }
      t.strictSame(await read(tier, a), [both.hard === true || both.tags !== undefined ? undefined : both.soft === true ? { softened: 1 } : 1], JSON.stringify(both))
    }
  })

  t.test('a tier softens everything with a soft invalidation, and what was being loaded', async t => {
    const { tier, theirs, a, b } = twoTiers(t, make(t))
    await load(tier, a, 1)
    const claims = await claim(tier, b)
    t.equal(await theirs.forget({ soft: true }), true)
    await fill(tier, claims, [{ key: b, value: 2 }])
    t.strictSame(await read(tier, a, b), [{ softened: 1 }, { softened: 2 }])
    t.equal(freshness((await tier.readMany([a]))[0]!, clock.now(), undefined), 'stale')
    await load(tier, a, 3)
    t.strictSame(await read(theirs, a), [3], 'what is loaded later is fresh')
  })

  t.test(`a tier forgets what has a tag, and ${fenced ? 'nothing else' : 'whatever else has tags'}`, async t => {
    const { tier, theirs, a, b, c } = twoTiers(t, make(t))
    await load(tier, a, 1, ['s', 't'])
    await load(tier, b, 2, ['s'])
    await load(tier, c, 3)
    const d = `${c}d`
    const claims = await claim(tier, d)
    t.equal(await theirs.forget({ tags: ['t', 'unknown'] }), true)
    await fill(tier, claims, [{ key: d, value: 'late', tags: ['t'] }])
    t.strictSame(await read(tier, a, b, c), [undefined, fenced ? 2 : undefined, 3])
    // Its load began before: its tag was not held yet, and is not now.
    t.strictSame(await read(tier, d), [undefined])
    await load(tier, a, 4, ['t'])
    t.strictSame(await read(theirs, a), [4])
  })

  t.test('a tier that nobody used before can be told to forget', async t => {
    for (const tell of [
      (tier: SharedTier, a: string) => tier.forget({ keys: [a] }), (tier: SharedTier) => tier.forget({ hard: true }),
      (tier: SharedTier) => tier.forget({ soft: true }), (tier: SharedTier) => tier.forget({ tags: ['t'] })
    ]) {
      const { tier, theirs, a } = twoTiers(t, make(t))
      t.equal(await tell(tier, a), true)
      t.strictSame(await read(theirs, a), [undefined])
      await load(tier, a, 1, ['t'])
      t.strictSame(await read(theirs, a), [1])
    }
  })

  t.test('a tier that could not be told to forget isn’t believed until it was', async t => {
    const { tier, theirs, state, logger, a, b } = twoTiers(t, make(t))
    await load(tier, a, 'old')
    await load(tier, b, 'other')
    state.away = true
    t.equal(await tier.forget({ keys: [a] }), false)
    state.away = false
    t.strictSame(await read(tier, a, b), [undefined, 'other'])
    t.equal((await claim(tier, a))[0]!.entry, undefined)
    await eventually(t, async () => (await read(theirs, a))[0] === undefined, 'it is replayed')
    await eventually(t, () => logger.lines.info.length === 1, 'and the log says so')
    t.match(logger.lines.info, [{ details: { region: 'objects' }, message: 'invalidations were replayed' }])
    await load(tier, a, 'new')
    t.strictSame(await read(tier, a), ['new'])
  })

  for (const [kind, what] of Object.entries({ hard: { hard: true }, soft: { soft: true }, tags: { tags: ['t'] } })) {
    t.test(`a tier that was away for an invalidation (${kind}) isn’t believed until it has it`, async t => {
      const { tier, theirs, state, logger, a } = twoTiers(t, make(t))
      await load(tier, a, 'old', ['t'])
      state.away = true
      t.equal(await tier.forget(what), false)
      state.away = false
      t.strictSame(await read(tier, a), [undefined])
      t.strictSame(await read(theirs, a), ['old'])
      await eventually(t, () => logger.lines.info.length === 1, 'it is replayed')
      t.strictSame(await read(theirs, a), [kind === 'soft' ? { softened: 'old' } : undefined])
      t.strictSame(await read(tier, a), [kind === 'soft' ? { softened: 'old' } : undefined])
    })
  }
})
