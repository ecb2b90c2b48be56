import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { MemcacheClient } from 'memcache-client'
import { Redis } from 'ioredis'
import t from 'tap'
import { testBackend, type TestBackendOptions } from '../../lib/testing.js'
import type { Backend, BackendEntry, LeaseRequest, LeasedEntry, LeasingBackend, Revision } from '../../lib/backends/backend.js'
import { memcached, type MemcachedBackend } from '../../lib/backends/memcached.js'
import { memory } from '../../lib/backends/memory.js'
import { redis } from '../../lib/backends/redis.js'
import { freePort } from '../helpers/server-process.js'
import { startMemcached, startRedis } from '../helpers/servers.js'

// They wait for values to end: beside each other.
t.jobs = 8

/** Runs the suite as tap would, or one test of it, and resolves to the names of what failed. */
async function failuresOf (makeBackend: () => Backend | Promise<Backend>, options?: TestBackendOptions, only?: string): Promise<string[]> {
  const failed: string[] = []
  const runner = {
    async test (name: string, fn: () => Promise<void>) {
      if (only !== undefined && name !== only) return
      try {
        await fn()
      } catch {
        failed.push(name)
      }
    }
  }
  await testBackend(runner, makeBackend, options)
  return failed
}

t.test('what keeps the contract passes, with three methods', async t => {
  await testBackend(t, () => memory())
})

t.test('what keeps the contract passes, with leases', async t => {
  const server = await startMemcached(t)
  const client = new MemcacheClient({ server: `127.0.0.1:${server.port}` })
  t.teardown(() => client.shutdown())
  const makeAway = async () => {
    const away = new MemcacheClient({ server: `127.0.0.1:${await freePort()}` })
    t.teardown(() => away.shutdown())
    return memcached(away)
  }
  t.strictSame(await failuresOf(() => memcached(client), { makeAway, flush: () => client.cmd('flush_all') }), [])
})

t.test('what keeps the contract passes, with a line', async t => {
  const redisServer = await startRedis(t, { shared: true })
  const redisClient = new Redis(redisServer.url)
  t.teardown(() => redisClient.disconnect())
  await testBackend(t, () => redis(redisClient))
})

t.test('the backend is closed in the end, and the one that is away too', async t => {
  const closed: string[] = []
  const backend = Object.assign(memory(), { close: async () => { closed.push('backend') } })
  t.strictSame(await failuresOf(() => backend, { makeAway: () => ({ ...failing(), close: async () => { closed.push('away') } }) }), [])
  t.strictSame(closed, ['away', 'backend'])
})

t.test('a backend that is away may have nothing to close', async t => {
  t.strictSame(await failuresOf(() => memory(), { makeAway: () => failing() }), [])
})

t.test('node:test runs the suite of backends, too', async t => {
  const script = `
    import { test } from 'node:test'
    import { testBackend } from '${new URL('../../lib/testing.ts', import.meta.url).href}'
    import { memory } from '${new URL('../../lib/backends/memory.ts', import.meta.url).href}'
    test('the contract', async t => { await testBackend(t, () => memory()) })`
  const { NODE_TEST_CONTEXT: _, ...env } = process.env
  const { stdout } = await promisify(execFile)(process.execPath, ['--import', 'tsx', '--test-reporter', 'tap', '--input-type', 'module', '--eval', script], { env: { ...env, _TAPJS_PROCESSINFO_COVERAGE_: '0' } })
  t.match(stdout, /# Subtest: it has a name/)
  t.match(stdout, /# fail 0\n/)
})

function failing (): Backend {
  const fail = async () => { throw new Error('nobody is there') }
  return { name: 'away', getMany: fail, setMany: fail, deleteMany: fail }
}

/** Keeps every key under another name. */
const renaming = (whole: Backend, rename: (key: string) => string): Partial<Backend> => ({
  getMany: async keys => await whole.getMany(keys.map(rename)),
  setMany: async entries => await whole.setMany(entries.map(one => ({ ...one, key: rename(one.key) }))),
  deleteMany: async keys => await whole.deleteMany(keys.map(rename))
})

t.test('whatever breaks the contract fails', async t => {
  type Methods = Partial<Backend>
  const broken: Record<string, [fails: string, break_: (whole: Backend) => Methods]> = {
    'has no name': ['it has a name', () => ({ name: '' })],
    'answers in an order of its own': ['what was set is found, in the order that is asked for, with gaps and duplicates',
      whole => ({ getMany: async keys => await whole.getMany([...keys].sort()) })],
    'leaves gaps out': ['what was set is found, in the order that is asked for, with gaps and duplicates',
      whole => ({ getMany: async keys => (await whole.getMany(keys)).filter(value => value !== undefined) })],
    'does not take an empty list': ['an empty list is nothing to do', whole => ({ getMany: async keys => { if (keys.length === 0) throw new Error('syntax error at or near ")"'); return await whole.getMany(keys) } })],
    'keeps text': ['all bytes come back as they were, few or many, or none', whole => ({ setMany: async entries => await whole.setMany(entries.map(one => ({ ...one, value: Buffer.from(Buffer.from(one.value).toString()) }))) })],
    'takes an empty value for none': ['all bytes come back as they were, few or many, or none', whole => ({ getMany: async keys => (await whole.getMany(keys)).map(value => value?.length === 0 ? undefined : value) })],
    'answers with text': ['all bytes come back as they were, few or many, or none', whole => ({ getMany: async keys => (await whole.getMany(keys)).map(value => value === undefined ? undefined : Buffer.from(value).toString('latin1')) as never })],
    'keeps what was there': ['a value is replaced, by a shorter one too; of two in one call the later one stays',
      whole => ({ setMany: async entries => { for (const one of entries) if ((await whole.getMany([one.key]))[0] === undefined) await whole.setMany([one]) } })],
    'lets the first of two win': ['a value is replaced, by a shorter one too; of two in one call the later one stays', whole => ({ setMany: async entries => await whole.setMany(entries.toReversed()) })],
    'deletes only the first': ['two thousand keys go in one call', whole => ({ deleteMany: async keys => await whole.deleteMany(keys.slice(0, 1)) })],
    'fails to delete what is not there': ['what is deleted is gone, and nothing else; what is not there can be deleted',
      whole => ({ deleteMany: async keys => { for (const found of await whole.getMany(keys)) if (found === undefined) throw new Error('not found'); await whole.deleteMany(keys) } })],
    'takes a ttl for seconds beyond a month': ['a value is gone when its ttl is over, and not before', whole => ({ setMany: async entries => await whole.setMany(entries.filter(one => one.ttl < 2_592_000_000)) })],
    'keeps the first ttl': ['a value is gone when its ttl is over, and not before', whole => {
      const ttls = new Map<string, number>()
      return { setMany: async entries => await whole.setMany(entries.map(one => ({ ...one, ttl: ttls.get(one.key) ?? ttls.set(one.key, one.ttl).get(one.key)! }))) }
    }],
    'trims keys': ['keys of any characters and any length are told apart', whole => renaming(whole, key => key.trim())],
    'does not tell case': ['keys of any characters and any length are told apart', whole => renaming(whole, key => key.toLowerCase())],
    'normalises keys': ['keys of any characters and any length are told apart', whole => renaming(whole, key => key.normalize())],
    'cuts keys off': ['keys of any characters and any length are told apart', whole => renaming(whole, key => key.slice(0, 250))],
    'ends keys at a NUL': ['keys of any characters and any length are told apart', whole => renaming(whole, key => key.split('\0')[0]!)],
    'collects in an object': ['a key that is only a hostile name is like any other', whole => ({
      async getMany (keys) {
        const found: Record<string, any> = {}
        for (const [i, value] of (await whole.getMany(keys)).entries()) if (value !== undefined) found[keys[i]!] = value
        return keys.map(key => found[key])
      }
    })],
    'takes a thousand keys': ['two thousand keys go in one call', whole => ({ getMany: async keys => { if (keys.length > 1000) throw new Error('too many'); return await whole.getMany(keys) } })],
    'shares its bytes': ['bytes belong to whoever gave or got them: changing them changes nothing here', () => {
      const kept = new Map<string, BackendEntry & { until: number }>()
      return {
        getMany: async keys => keys.map(key => { const one = kept.get(key); return one !== undefined && one.until > Date.now() ? one.value : undefined }),
        setMany: async entries => { for (const one of entries) kept.set(one.key, { ...one, until: Date.now() + one.ttl }) },
        deleteMany: async keys => { for (const key of keys) kept.delete(key) }
      }
    }],
    'can not be closed': ['the backend can be closed, or has nothing to close', () => ({ close: async () => { throw new Error('stuck') } })]
  }
  await Promise.all(Object.entries(broken).map(async ([what, [fails, break_]]) => {
    const whole = memory()
    const methods = { name: whole.name, getMany: whole.getMany.bind(whole), setMany: whole.setMany.bind(whole), deleteMany: whole.deleteMany.bind(whole) }
    t.strictSame(await failuresOf(() => ({ ...methods, ...break_(methods) }), {}, fails), [fails], `a backend that ${what}`)
  }))
})

t.test('a backend that invents a miss fails, and nothing but that', async t => {
  const inventing: Backend = { ...failing(), getMany: async keys => keys.map(() => undefined) }
  t.strictSame(await failuresOf(() => memory(), { makeAway: () => inventing }), ['a backend that can not reach its server throws, it does not invent a miss'])
})

t.test('whatever breaks what it says of leases fails', async t => {
  const reads = new Set<Promise<unknown>>()
  const server = await startMemcached(t)
  const client = new MemcacheClient({ server: `127.0.0.1:${server.port}` })
  t.teardown(() => client.shutdown())
  const whole = memcached(client) as MemcachedBackend

  const broken: Record<string, [fails: string, methods: Partial<LeasingBackend>]> = {
    'fills whatever is there': ['a fill is refused where a mark, or an older value, is forgotten',
      { fillMany: async (entries: readonly LeasedEntry[]) => { await whole.setMany(entries); return entries.map(() => true) } }],
    'fills nothing': ['a fill replaces a mark, once', { fillMany: async entries => entries.map(() => false) }],
    'does not take over': ['a fill is refused where a mark, or an older value, is taken over',
      { leaseMany: async (at: string, keys: readonly string[], request: LeaseRequest) => await whole.leaseMany(at, keys, { ...request, takeOver: false }) }],
    'leaves no mark': ['what is leased gets a mark, and whoever comes next shares it',
      { leaseMany: async (at: string, keys: readonly string[], request: LeaseRequest) => { const held = await whole.leaseMany(at, keys, request); await whole.deleteMany(keys); return held } }],
    'leaves marks for ever': ['a mark ends after its time, and a fill comes too late then',
      { leaseMany: async (at: string, keys: readonly string[], request: LeaseRequest) => await whole.leaseMany(at, keys, { ...request, ttl: 60_000 }) }],
    'forgets without the stamp': ['a stamp is raised by each revision, and never lowered', { forgetMany: async (_at: string, _stamp: string, keys: readonly string[]) => await whole.deleteMany(keys) }],
    'changes the stamp without comparing': ['a stamp is raised by each revision, and never lowered', {
      revise: async (at: string, revision: Revision) => {
        const reading = whole.getMany([at])
        reads.add(reading)
        const [bytes] = await reading
        await Promise.all(reads) // of all that are revising at the time
        reads.delete(reading)
        const [epoch, ...counters] = (bytes === undefined ? revision.stamp : Buffer.from(bytes).toString()).split('|').map(Number)
        if (revision.kind === 'soft') counters[0]!++
        if (revision.kind === 'tags') counters[1]!++
        await whole.setMany([{ key: at, value: Buffer.from([revision.kind === 'hard' ? revision.stamp.split('|')[0] : epoch, ...counters].join('|')), ttl: 60_000 }])
      }
    }],
    'does not touch tags': ['a tag has a version while somebody holds it, that tells of its invalidations',
      { revise: async (at: string, revision: Revision) => await whole.revise(at, revision.kind === 'tags' ? { ...revision, tagKeys: [] } : revision) }],
    'does not hold tags': ['a tag has a version while somebody holds it, that tells of its invalidations', { holdTags: async () => {} }]
  }
  await Promise.all(Object.entries(broken).map(async ([what, [fails, methods]]) => {
    const names = ['getMany', 'setMany', 'deleteMany', 'leaseMany', 'fillMany', 'revise', 'forgetMany', 'holdTags'] as const
    const bound = Object.fromEntries(names.map(name => [name, (whole[name] as (...args: unknown[]) => unknown).bind(whole)]))
    t.strictSame(await failuresOf(() => ({ name: 'broken', ...bound, ...methods }) as unknown as LeasingBackend, {}, fails), [fails], `a backend that ${what}`)
  }))
})

t.test('a flush that revokes no lease fails, and nothing but that', async t => {
  const server = await startMemcached(t)
  const client = new MemcacheClient({ server: `127.0.0.1:${server.port}` })
  t.teardown(() => client.shutdown())
  const unflushed = await failuresOf(() => memcached(client), { flush: () => {} })
  t.strictSame(unflushed, ['a fill is refused where a mark, or an older value, is flushed', 'a fill is refused where a mark, or an older value, is flushed and leased by another'])
})
