import { fileURLToPath } from 'node:url'
import t, { type Test } from 'tap'
import { startPostgres } from '../helpers/servers.js'
import { mutant, mutations } from '../torture/mutations.js'
import { defaults, type TortureOptions } from '../torture/options.js'
import { isClean, report } from '../torture/report.js'
import { run } from '../torture/run.js'
import type { Result } from '../torture/verdict.js'

t.setTimeout(300_000)

const database = (await startPostgres(t, { shared: true })).url
const build = fileURLToPath(new URL('../..', import.meta.url))

const torture = async (t: Test, options: Partial<TortureOptions>): Promise<Result> =>
  await run(t, { ...defaults, build, processes: 3, database, ...options })

for (const tier of ['redis', 'memcached', 'cluster'] as const) {
  t.test(`nobody reads what an invalidation has forgotten, whatever fails: memory and ${tier}`, async t => {
    const result = await torture(t, { tier, seconds: 8 })
    t.ok(isClean(result), report(result))
    t.ok(result.reads > 1000, `${result.reads} reads`)
    t.ok(result.writes > 50, `${result.writes} invalidations`)
  })
}

t.test('the torture would find out: a build whose invalidations don\'t wait for other processes', async t => {
  const guard = mutations.find(({ name }) => name === 'acknowledgements')!
  const result = await torture(t, { ...guard.run, seconds: 30, build: await mutant(t, guard, build), untilStale: true })
  t.ok(result.stale > 0)
})
