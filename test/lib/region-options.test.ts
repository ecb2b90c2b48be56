import t from 'tap'
import { resolveMaxAge, resolvePolicy, resolveRegionOptions } from '../../lib/region-options.js'
import { msgpackSerializer } from '../../lib/serializer.js'
import { memory } from '../../lib/backends/memory.js'
import { nothing } from '../../lib/backends/nothing.js'

const resolve = (options: unknown) => resolveRegionOptions(options, 'regions.objects')
const tiers = [memory()]
const invalidOptions = (message: string) => ({ code: 'FST_CACHING_API_INVALID_OPTIONS', message })

t.test('a region needs tiers and a ttl; all else has a default', async t => {
  t.strictSame(resolve({ tiers, ttl: '10m' }), {
    tiers,
    policy: { ttl: 600_000, grace: 0, negativeTtl: undefined, shouldCache: undefined },
    negativeTtl: undefined,
    refresh: 'background',
    jitter: 0.1,
    lockTtl: 5000,
    lockWait: 5000,
    softTimeout: undefined,
    hardTimeout: undefined,
    tierTimeout: 250,
    serializer: msgpackSerializer,
    coherence: 'acknowledged'
  })
})

t.test('every option is taken, in milliseconds', async t => {
  const serializer = { encode: () => Buffer.alloc(0), decode: () => 1 }
  const two = [memory(), memory()]
  const options = {
    tiers: two,
    ttl: '1h',
    grace: '10m',
    refresh: 'inline',
    negativeTtl: 0,
    jitter: 0,
    lockTtl: '2s',
    lockWait: 0,
    loadTimeout: { soft: '250ms', hard: '2s' },
    tierTimeout: 100,
    serializer,
    coherence: 'eventual'
  }
  const before = structuredClone({ ...options, tiers: undefined, serializer: undefined })
  t.strictSame(resolve(options), {
    tiers: two,
    policy: { ttl: 3_600_000, grace: 600_000, negativeTtl: undefined, shouldCache: undefined },
    negativeTtl: 0,
    refresh: 'inline',
    jitter: 0,
    lockTtl: 2000,
    lockWait: 0,
    softTimeout: 250,
    hardTimeout: 2000,
    tierTimeout: 100,
    serializer,
    coherence: 'eventual'
  })
  t.strictSame({ ...options, tiers: undefined, serializer: undefined }, before, 'and none is changed')
})

t.test('an option that is undefined is absent', async t => {
  const absent = Object.fromEntries(['grace', 'refresh', 'negativeTtl', 'jitter', 'lockTtl', 'lockWait', 'loadTimeout', 'tierTimeout', 'serializer', 'coherence'].map(name => [name, undefined]))
  t.strictSame(resolve({ tiers, ttl: 1000, ...absent }), resolve({ tiers, ttl: 1000 }))
})

t.test('what keeps nothing is no tier that is asked', async t => {
  t.strictSame(resolve({ tiers: [nothing()], ttl: 1000 }).tiers, [])
  const kept = memory()
  t.strictSame(resolve({ tiers: [nothing(), kept], ttl: 1000 }).tiers, [kept])
})

t.test('tiers that are added to the options later are not in the region', async t => {
  const given = [...tiers]
  const { tiers: taken } = resolve({ tiers: given, ttl: 1000 })
  given.push(memory())
  t.equal(taken.length, 1)
})

t.test('each mistake is named by its path, with what was expected and what came', async t => {
  const duration = "a duration such as 5000 or '10m'"
  const backend = 'a backend with getMany, setMany and deleteMany, such as memory() or redis(client)'
  const methods = { getMany () {}, setMany () {}, deleteMany () {} }
  const mistakes: [options: unknown, message: string][] = [
    [undefined, 'regions.objects must be an object, got undefined'],
    [null, 'regions.objects must be an object, got null'],
    [[], 'regions.objects must be an object, got an array of 0'],
    ['1h', "regions.objects must be an object, got '1h'"],
    [{ ttl: 1000 }, 'regions.objects.tiers must be an array of at least one backend, such as [memory()], got undefined'],
    [{ ttl: 1000, tiers: [] }, 'regions.objects.tiers must be an array of at least one backend, such as [memory()], got an array of 0'],
    [{ ttl: 1000, tiers: memory() }, 'regions.objects.tiers must be an array of at least one backend, such as [memory()], got an instance of MemoryBackend'],
    [{ ttl: 1000, tiers: [...tiers, undefined] }, `regions.objects.tiers[1] must be ${backend}, got undefined`],
    [{ ttl: 1000, tiers: [null] }, `regions.objects.tiers[0] must be ${backend}, got null`],
    [{ ttl: 1000, tiers: [memory] }, `regions.objects.tiers[0] must be ${backend}, got a function (memory)`],
    [{ ttl: 1000, tiers: [{ ...methods, name: 'mine', getMany: 1 }] }, `regions.objects.tiers[0] must be ${backend}, got an object`],
    [{ ttl: 1000, tiers: [{ ...methods, name: 'mine', setMany: 1 }] }, `regions.objects.tiers[0] must be ${backend}, got an object`],
    [{ ttl: 1000, tiers: [{ ...methods, name: 'mine', deleteMany: 1 }] }, `regions.objects.tiers[0] must be ${backend}, got an object`],
    [{ ttl: 1000, tiers: [methods] }, 'regions.objects.tiers[0].name must be a name of 1 to 40 letters, digits, - and _, got undefined'],
    [{ ttl: 1000, tiers: [{ ...methods, name: 'a b' }] }, "regions.objects.tiers[0].name must be a name of 1 to 40 letters, digits, - and _, got 'a b'"],
    [{ ttl: 1000, tiers: [tiers[0], tiers[0]] }, 'regions.objects.tiers must be an array of different backends, got the same one twice'],
    [{ tiers }, `regions.objects.ttl must be ${duration}, at least 1 ms and at most a year, got undefined`],
    [{ tiers, ttl: 'soon' }, `regions.objects.ttl must be ${duration}, at least 1 ms and at most a year, got 'soon'`],
    [{ tiers, ttl: 0 }, `regions.objects.ttl must be ${duration}, at least 1 ms and at most a year, got 0`],
    [{ tiers, ttl: 1000, grace: -1 }, `regions.objects.grace must be ${duration}, not negative and at most a year, got -1`],
    [{ tiers, ttl: 1000, grace: null }, `regions.objects.grace must be ${duration}, not negative and at most a year, got null`],
    [{ tiers, ttl: 1000, negativeTtl: 'no' }, `regions.objects.negativeTtl must be ${duration}, not negative and at most a year, got 'no'`],
    [{ tiers, ttl: 1000, refresh: null }, "regions.objects.refresh must be 'background' or 'inline', got null"],
    [{ tiers, ttl: 1000, coherence: null }, "regions.objects.coherence must be 'acknowledged' or 'eventual', got null"],
    [{ tiers, ttl: 1000, refresh: 'later' }, "regions.objects.refresh must be 'background' or 'inline', got 'later'"],
    [{ tiers, ttl: 1000, coherence: true }, "regions.objects.coherence must be 'acknowledged' or 'eventual', got true"],
    [{ tiers, ttl: 1000, jitter: 1 }, 'regions.objects.jitter must be a fraction from 0 to below 1, got 1'],
    [{ tiers, ttl: 1000, jitter: -0.1 }, 'regions.objects.jitter must be a fraction from 0 to below 1, got -0.1'],
    [{ tiers, ttl: 1000, jitter: NaN }, 'regions.objects.jitter must be a fraction from 0 to below 1, got NaN'],
    [{ tiers, ttl: 1000, jitter: '10%' }, "regions.objects.jitter must be a fraction from 0 to below 1, got '10%'"],
    [{ tiers, ttl: 1000, lockTtl: 49 }, `regions.objects.lockTtl must be ${duration}, at least 50 ms and at most 2147483647 ms, got 49`],
    [{ tiers, ttl: 1000, lockTtl: '25d' }, `regions.objects.lockTtl must be ${duration}, at least 50 ms and at most 2147483647 ms, got '25d'`],
    [{ tiers, ttl: 1000, lockWait: '1 moment' }, `regions.objects.lockWait must be ${duration}, not negative and at most a year, got '1 moment'`],
    [{ tiers, ttl: 1000, tierTimeout: 0 }, `regions.objects.tierTimeout must be ${duration}, at least 1 ms and at most 2147483647 ms, got 0`],
    [{ tiers, ttl: 1000, tierTimeout: '25d' }, `regions.objects.tierTimeout must be ${duration}, at least 1 ms and at most 2147483647 ms, got '25d'`],
    [{ tiers, ttl: 1000, loadTimeout: 5000 }, 'regions.objects.loadTimeout must be an object, got 5000'],
    [{ tiers, ttl: 1000, loadTimeout: { hard: '25d' } }, `regions.objects.loadTimeout.hard must be ${duration}, at least 1 ms and at most 2147483647 ms, got '25d'`],
    [{ tiers, ttl: 1000, loadTimeout: { soft: 'x' } }, `regions.objects.loadTimeout.soft must be ${duration}, at least 1 ms and at most 2147483647 ms, got 'x'`],
    [{ tiers, ttl: 1000, loadTimeout: { firm: 1 } }, 'regions.objects.loadTimeout.firm must be absent: the options are soft, hard, got 1'],
    [{ tiers, ttl: 1000, serializer: JSON }, 'regions.objects.serializer must be an object with encode and decode, got an object'],
    [{ tiers, ttl: 1000, serializer: null }, 'regions.objects.serializer must be an object with encode and decode, got null'],
    [{ tiers, ttl: 1000, serializer: { encode () {} } }, 'regions.objects.serializer must be an object with encode and decode, got an object'],
    [{ tiers, ttl: 1000, tll: 5 }, 'regions.objects.tll must be absent: the options are tiers, ttl, grace, refresh, negativeTtl, jitter, lockTtl, lockWait, loadTimeout, tierTimeout, serializer, coherence, got 5']
  ]
  for (const [options, message] of mistakes) t.throws(() => resolve(options), invalidOptions(message))
})

const region = resolve({ tiers, ttl: 1000, grace: 500 }).policy

t.test('a call without options of its own has its region’s policy, and not a copy of it', async t => {
  t.equal(resolvePolicy(region, {}), region)
})

t.test('a call’s own options take the place of its region’s', async t => {
  const shouldCache = () => true
  t.strictSame(resolvePolicy(region, { ttl: '2s' }), { ...region, ttl: 2000 })
  t.strictSame(resolvePolicy(region, { grace: 0 }), { ...region, grace: 0 })
  t.strictSame(resolvePolicy(region, { shouldCache }), { ...region, shouldCache })
})

t.test('a call’s own ttl is that of "no such row" too', async t => {
  const base = { ...region, negativeTtl: 100 }
  t.match(resolvePolicy(base, { ttl: '2s' }), { ttl: 2000, negativeTtl: undefined }, 'as of any value')
  t.equal(resolvePolicy(base, { grace: 0 }).negativeTtl, 100)
})

t.test('a call’s mistakes are named as well', async t => {
  t.throws(() => resolvePolicy(region, { ttl: 0 }), { message: /^options\.ttl must be a duration/ })
  t.throws(() => resolvePolicy(region, { grace: 'x' }), { message: /^options\.grace must be a duration/ })
  t.throws(() => resolvePolicy(region, { shouldCache: true }), invalidOptions('options.shouldCache must be a function, got true'))
})

t.test('a maxAge may be endless', async t => {
  t.equal(resolveMaxAge(undefined), undefined)
  t.equal(resolveMaxAge(0), 0)
  t.equal(resolveMaxAge('1m'), 60_000)
  t.equal(resolveMaxAge(Infinity), Infinity)
  t.throws(() => resolveMaxAge(-1), { message: /^options\.maxAge must be a duration/ })
})

t.test('a soft timeout that the hard one would always come before is refused', async t => {
  const options = { tiers: [memory()], ttl: '1m', loadTimeout: { soft: 100, hard: 10 } }
  t.throws(() => resolveRegionOptions(options, 'regions.rows'), { message: 'regions.rows.loadTimeout.soft must be no longer than regions.rows.loadTimeout.hard, got 100' })
  t.equal(resolveRegionOptions({ ...options, loadTimeout: { soft: 10, hard: 10 } }, 'regions.rows').softTimeout, 10)
})
