import { fileURLToPath, pathToFileURL } from 'node:url'
import t from 'tap'
import { simulateTime } from '../helpers/line-hub.js'
import { startProcess } from '../helpers/processes.js'
import { operateAtRandom } from '../helpers/random-operations.js'
import { mutant, mutations, type Mutation } from '../torture/mutations.js'

/*
 * Reads, sets, refreshes and invalidations at random, by one process on backends of three methods, and by several on backends
 * that refuse what comes too late. Every call to a backend waits, is overtaken or fails as chance wants it. No time passes but
 * the test's, so a seed always gives the same steps; what goes wrong tells them, and its seed.
 *
 *     SEED=123 npx tap --disable-coverage test/integration/random-operations.test.ts     that one again
 *     SEEDS=5000 npx tap …                                                               the first five thousand
 *     SEED=5001 SEEDS=5000 npx tap …                                                     the next five thousand
 */

const { SEED, SEEDS = SEED === undefined ? '150' : '1' } = process.env
const first = Number(SEED ?? 1)

t.test('whatever is overtaken, and whatever fails, no read gets what is too old, and everything ends', { timeout: 1000 * Math.max(120, Number(SEEDS)) }, async t => {
  simulateTime(t)
  for (let seed = first; seed < first + Number(SEEDS); seed++) await operateAtRandom(seed)
})

t.test('a seed gives the same steps each time, and another one gives others', async t => {
  simulateTime(t)
  for (const seed of [1, 2, 3, 4, 5]) {
    const steps = await operateAtRandom(seed)
    t.strictSame(await operateAtRandom(seed), steps)
    t.notSame((await operateAtRandom(seed + 1)).slice(1), steps.slice(1))
  }
})

/** Guards that only backends of three methods need: the torture, on real servers, does without them. */
const ofThreeMethods: readonly Mutation[] = [
  {
    name: 'order',
    what: 'a write does not wait for an earlier one of its key',
    file: 'lib/tiers/ordered-writes.ts',
    find: 'if (earlier.length > 0) await this.#wait(write, earlier)',
    replace: ''
  },
  {
    name: 'deletion',
    what: 'a deletion does not wait for earlier writes of its key',
    file: 'lib/tiers/unfenced-backend.ts',
    find: "await Promise.all([this.#replace('deleted'), this.#writes.ended(keys)])",
    replace: "await this.#replace('deleted')"
  },
  {
    name: 'superseded',
    what: 'a set is written though its key was set again',
    file: 'lib/tiers/tier-sets.ts',
    find: 'set.isOvertaken?.() !== true && set.isSuperseded?.() !== true',
    replace: 'set.isOvertaken?.() !== true'
  }
]

t.test('without a guard something goes wrong', async t => {
  const root = fileURLToPath(new URL('../..', import.meta.url))
  const taken = [...ofThreeMethods, ...mutations.filter(({ name }) => name === 'replayed')]
  t.equal(taken.length, 4)
  await Promise.all([taken.slice(0, 2), taken.slice(2)].map(async some => {
    for (const mutation of some) {
      const folder = await mutant(t, mutation, root, ['test/helpers', 'test/torture', 'test/integration'])
      const worker = await startProcess(t, pathToFileURL(`${folder}/test/integration/random-operations.worker.ts`))
      t.match(await worker.call('search', 500), /^SEED=\d+: /, `${mutation.name}: ${mutation.what}`)
      await worker.kill()
    }
  }))
})
