import Fastify from 'fastify'
import t from 'tap'
import cachingApi, { memory } from '../../plugin/index.js'
import { resolveOptions } from '../../plugin/options.js'

const objects = { tiers: [memory()], ttl: '1m' }

/** What an app says at boot that was given these options. */
async function bootErrorOf (options: unknown): Promise<Error> {
  const app = Fastify()
  app.register(cachingApi, options as never)
  try {
    await app.ready()
  } catch (error) {
    return error as Error
  } finally {
    await app.close()
  }
  throw new Error('it booted')
}

t.test('an app with options that can\'t work fails at boot, with an error that names the option', async t => {
  const cases: [options: unknown, message: RegExp][] = [
    [{}, /^regions must be an object of at least one region, got undefined$/],
    [{ regions: {} }, /^regions must be an object of at least one region, got an empty object$/],
    [{ regions: { objects }, regoins: 1 }, /^options\.regoins must be absent: the options are regions, .*serverTiming/],
    [{ regions: { objects: { ttl: 1000 } } }, /^regions\.objects\.tiers must be an array of at least one backend, such as \[memory\(\)\], got undefined$/],
    [{ regions: { objects: { ...objects, tiers: [] } } }, /^regions\.objects\.tiers must be an array of at least one backend, such as \[memory\(\)\], got an array of 0$/],
    [{ regions: { objects: { ...objects, tiers: [{}] } } }, /^regions\.objects\.tiers\[0\] must be a backend with getMany, setMany and deleteMany, such as memory\(\) or redis\(client\), got an object$/],
    [{ regions: { objects: { tiers: [memory()] } } }, /^regions\.objects\.ttl must be a duration .*, got undefined$/],
    [{ regions: { objects: { ...objects, ttl: 'soon' } } }, /^regions\.objects\.ttl must be a duration such as 5000 or '10m', at least 1 ms and at most a year, got 'soon'$/],
    [{ regions: { objects: { ...objects, ttl: 0 } } }, /^regions\.objects\.ttl must be .*, got 0$/],
    [{ regions: { objects: { ...objects, grace: -1 } } }, /^regions\.objects\.grace must be a duration such as 5000 or '10m', not negative and at most a year, got -1$/],
    [{ regions: { objects: { ...objects, refresh: 'later' } } }, /^regions\.objects\.refresh must be 'background' or 'inline', got 'later'$/],
    [{ regions: { objects: { ...objects, lockTTL: 5 } } }, /^regions\.objects\.lockTTL must be absent: the options are tiers, ttl, grace/],
    [{ regions: { 'my:objects': objects } }, /^regions\['my:objects'\] must be a name of 1 to 64 letters/],
    [{ regions: { objects }, serverTiming: 'yes' }, /^serverTiming must be true or false, got 'yes'$/],
    [{ regions: { objects }, lock: 'redis' }, /^lock must be a lock with acquire/]
  ]
  for (const [options, message] of cases) {
    t.match(await bootErrorOf(options), { code: 'FST_CACHING_API_INVALID_OPTIONS', statusCode: 500, message }, String(message))
  }
})

t.test('the manager gets its own options, and no others', async t => {
  const logger = { debug () {}, info () {}, warn () {}, error () {} }
  const given = { regions: { objects }, namespace: 'app', logger }
  t.strictSame(resolveOptions({ ...given, serverTiming: true, prefix: '/x', logLevel: 'warn', logSerializers: {} } as never), { serverTiming: true, manager: given })
  t.strictSame(resolveOptions(given as never), { serverTiming: false, manager: given }, 'the header is off by default')
  t.strictSame(resolveOptions({ ...given, lock: undefined, context: undefined } as never), { serverTiming: false, manager: given }, 'undefined is as good as absent')
})

t.test('the options that were given are not changed', async t => {
  const given = Object.freeze({ regions: Object.freeze({ objects: Object.freeze({ ...objects, tiers: Object.freeze([memory()]) }) }), serverTiming: true })
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(cachingApi, given as never)
  await app.ready()
  t.ok(app.cachingManager)
})

t.test('what is no object is refused', async t => {
  for (const options of [undefined, null, 5, [], 'regions']) t.throws(() => resolveOptions(options as never), { code: 'FST_CACHING_API_INVALID_OPTIONS', message: /^options must be an object, got / })
})
