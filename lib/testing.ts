import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { setTimeout as pause } from 'node:timers/promises'
import { newMark } from './entry-format.js'
import { formatStamp, newStamp, parseStamp } from './stamp.js'
import { isLeasing, type Backend, type LeasingBackend } from './tiers/backend.js'

/** What runs the tests: tap's `t`, node:test's, or anything else with such a `test`. A test fails by a rejection. */
export interface TestRunner {
  test (name: string, fn: () => Promise<void>): unknown
}

export interface TestBackendOptions {
  /** Makes a backend whose server can't be reached. With it, it is tested that such a one throws. */
  makeAway?: () => Backend | Promise<Backend>
  /** Empties the server from outside, as an operator would. With it, it is tested that this revokes every lease. */
  flush?: () => unknown
}

/**
 * The contract that every backend has to keep. `makeBackend` is called once; all keys are the suite's own, so the
 * server may be in use. It is closed in the end.
 *
 *     import { testBackend } from 'fastify-caching-api/testing'
 *
 *     await testBackend(t, () => postgres(pool))
 */
export async function testBackend (t: TestRunner, makeBackend: () => Backend | Promise<Backend>, options: TestBackendOptions = {}): Promise<void> {
  const backend = await makeBackend()
  await testMethods(t, backend)
  if (isLeasing(backend)) await testLeases(t, backend, options)
  const { makeAway } = options
  if (makeAway !== undefined) {
    await t.test('a backend that can not reach its server throws, it does not invent a miss', async () => {
      const away = await makeAway()
      await assert.rejects(async () => await away.getMany(['a']), 'getMany must reject')
      await assert.rejects(async () => await away.setMany([entry('a', 'value')]), 'setMany must reject')
      await assert.rejects(async () => await away.deleteMany(['a']), 'deleteMany must reject')
      await away.close?.()
    })
  }
  await t.test('the backend can be closed, or has nothing to close', async () => { await backend.close?.() })
}

// ─── what every backend has to do ────────────────────────────────────────────────────────────────

const minute = 60_000
const day = 24 * 60 * minute

/**
 * Keys that have broken something somewhere: each is its own, and none is a pattern or a command. None has a lone
 * surrogate: most clients write UTF-8, where all of them are the same character, and no key of a region or of a cache
 * object has one.
 */
const hostileKeys = [
  'with blanks', ' with blanks', 'with blanks ', 'tab\tand\vmore', 'line\r\nbreak', 'line\nbreak', 'a\r\nflush_all\r\n', 'NUL\0byte', 'NUL\0', 'NUL',
  '{braces}', '{braces', 'braces}', '{}', '*', '?', '[a-z]', '%', '_', '\\', '\'', '"', "'; drop table cache; --", '$1', ':', '|', '#', '/', '../..', '-1', '0', '1', 'é', 'e\u0301',
  'upper', 'UPPER', '🦊', '🦊🦊', '日本語', '\u2028', '\ufeff', '\x7f', '__proto__', 'constructor', 'toString', 'hasOwnProperty', 'undefined', 'null',
  'x'.repeat(249), 'x'.repeat(250), 'x'.repeat(251), 'long '.repeat(2000), 'long '.repeat(1999) + 'lonG ', '🦊'.repeat(5000)
]

async function testMethods (t: TestRunner, backend: Backend): Promise<void> {
  const get = async (...keys: string[]) => (await backend.getMany(keys)).map(text)

  await t.test('it has a name', async () => {
    assert.match(backend.name, /\S/)
  })

  await t.test('what was set is found, in the order that is asked for, with gaps and duplicates', async () => {
    const [a, b, c] = [newKey(), newKey(), newKey()]
    await backend.setMany([entry(a, 'A'), entry(b, 'B')])
    assert.deepEqual(await get(b, c, a, b), ['B', undefined, 'A', 'B'])
    assert.deepEqual(await get(c), [undefined])
  })

  await t.test('an empty list is nothing to do', async () => {
    assert.deepEqual(await backend.getMany([]), [])
    await backend.setMany([])
    await backend.deleteMany([])
  })

  await t.test('all bytes come back as they were, few or many, or none', async () => {
    const values = [
      Uint8Array.from({ length: 256 }, (_, i) => i), new Uint8Array(0), Uint8Array.of(0), Uint8Array.of(13, 10),
      Buffer.from('\r\nEND\r\n'), new Uint8Array(100_000).fill(0xff), new Uint8Array(Uint8Array.of(1, 2, 3, 4).buffer, 1, 2)
    ]
    const keys = values.map(newKey)
    await backend.setMany(values.map((value, i) => ({ key: keys[i]!, value, ttl: minute })))
    for (const [i, found] of (await backend.getMany(keys)).entries()) {
      assert.ok(found instanceof Uint8Array, 'getMany must answer with a Uint8Array')
      assert.ok(Buffer.from(found).equals(values[i]!), `the value of ${values[i]!.length} bytes must be the same`)
    }
  })

  await t.test('a value is replaced, by a shorter one too; of two in one call the later one stays', async () => {
    const key = newKey()
    await backend.setMany([entry(key, 'a long value')])
    await backend.setMany([entry(key, 'short')])
    assert.deepEqual(await get(key), ['short'])
    await backend.setMany([entry(key, 'first'), entry(key, 'second')])
    assert.deepEqual(await get(key), ['second'])
  })

  await t.test('what is deleted is gone, and nothing else; what is not there can be deleted', async () => {
    const [a, b, c] = [newKey(), newKey(), newKey()]
    await backend.setMany([entry(a, 'A'), entry(b, 'B'), entry(`${a}b`, 'AB')])
    await backend.deleteMany([a, c, a])
    assert.deepEqual(await get(a, b, `${a}b`), [undefined, 'B', 'AB'])
    await backend.deleteMany([a])
  })

  await t.test('a value is gone when its ttl is over, and not before', async () => {
    const [short, replaced, shortened, kept, month, decade] = [newKey(), newKey(), newKey(), newKey(), newKey(), newKey()]
    await backend.setMany([entry(short, 'v', 1000), entry(replaced, 'v', 1000), entry(shortened, 'v', minute), entry(kept, 'v', minute), entry(month, 'v', 45 * day), entry(decade, 'v', 3653 * day)])
    await backend.setMany([entry(replaced, 'w', minute), entry(shortened, 'w', 1)])
    await eventually(async () => (await get(short, shortened)).every(value => value === undefined), 'a value must be gone after its ttl')
    assert.deepEqual(await get(replaced, kept, month, decade), ['w', 'v', 'v', 'v'])
  })

  await t.test('keys of any characters and any length are told apart', async () => {
    const base = newKey()
    const keys = hostileKeys.map(key => base + key)
    // Most end differently; a backend must tell those apart too that begin so.
    const bare = hostileKeys.map(key => key + base)
    const all = [...keys, ...bare]
    await backend.setMany(all.map((key, i) => entry(key, `value ${i}`)))
    assert.deepEqual(await get(...all), all.map((_, i) => `value ${i}`))
    for (const [i, key] of all.entries()) {
      assert.deepEqual(await get(key), [`value ${i}`], `the key ${show(key)} alone`)
      await backend.deleteMany([key])
      assert.deepEqual(await get(key, ...all.slice(i + 1, i + 2)), [undefined, ...all.slice(i + 1, i + 2).map(() => `value ${i + 1}`)], `deleting ${show(key)}`)
    }
    assert.deepEqual(await get(...all), all.map(() => undefined))
  })

  await t.test('a key that is only a hostile name is like any other', async () => {
    const names = ['__proto__', 'constructor', 'toString', 'value', 'then', '', ' ', '\0', '\r\n', '{}']
    await backend.deleteMany(names)
    assert.deepEqual(await get(...names), names.map(() => undefined))
    await backend.setMany(names.map(name => entry(name, name)))
    assert.deepEqual(await get(...names), names)
    await backend.deleteMany(names)
    assert.deepEqual(await get(...names), names.map(() => undefined))
  })

  await t.test('two thousand keys go in one call', async () => {
    const keys = Array.from({ length: 2000 }, newKey)
    await backend.setMany(keys.map(key => entry(key, key)))
    assert.deepEqual(await get(...keys.toReversed()), keys.toReversed())
    await backend.deleteMany(keys.slice(1))
    assert.deepEqual(await get(...keys), [keys[0], ...keys.slice(1).map(() => undefined)])
  })

  await t.test('calls at the same moment do not disturb each other', async () => {
    const keys = Array.from({ length: 50 }, newKey)
    await Promise.all(keys.map(async key => {
      await backend.setMany([entry(key, key), entry(`${key}2`, `${key}2`)])
      assert.deepEqual(await get(`${key}2`, key), [`${key}2`, key])
      await backend.deleteMany([key])
      assert.deepEqual(await get(key, `${key}2`), [undefined, `${key}2`])
    }))
    // The same keys in any order, from many at once: locks taken one by one would wait for each other in a circle.
    await Promise.all(Array.from({ length: 10 }, async (_, i) => {
      const order = i % 2 === 0 ? keys : keys.toReversed()
      await backend.setMany(order.map(key => entry(key, 'same')))
      if (i % 3 === 0) await backend.deleteMany(order.toReversed())
    }))
  })

  await t.test('bytes belong to whoever gave or got them: changing them changes nothing here', async () => {
    const key = newKey()
    const given = Buffer.from('value')
    await backend.setMany([{ key, value: given, ttl: minute }])
    given.fill('x')
    const [got] = await backend.getMany([key])
    assert.equal(text(got), 'value', 'changing what was given')
    got!.fill(0)
    assert.deepEqual(await get(key), ['value'], 'changing what was got')
  })
}

// ─── what a backend may do besides: fills that are refused when they come too late ───────────────

async function testLeases (t: TestRunner, backend: LeasingBackend, { flush }: TestBackendOptions): Promise<void> {
  const stampKey = `{${newKey()}}:stamp`

  async function lease (keys: readonly string[], { takeOver = false, ttl = minute, at = stampKey } = {}) {
    const mark = newMark()
    const [stampBytes, ...held] = await backend.leaseMany(at, keys, { mark, ttl, stamp: formatStamp(newStamp()), takeOver })
    assert.equal(held.length, keys.length, 'leaseMany must answer a stamp, and one value for each key')
    const stamp = parseStamp(text(stampBytes)!)
    assert.ok(stamp, `leaseMany must answer the stamp first, got ${show(text(stampBytes)!)}`)
    return { mark, held, stamp }
  }
  const fill = async (key: string, held: Uint8Array | undefined, value: Uint8Array) =>
    (await backend.fillMany([{ key, lease: held!, value, ttl: minute }]))[0]
  const stampNow = async (at = stampKey) => parseStamp(String(text((await backend.getMany([at]))[0])))
  const forget = async (...keys: string[]) => await backend.forgetMany(stampKey, formatStamp(newStamp()), keys)

  await t.test('what is leased gets a mark, and whoever comes next shares it', async () => {
    const [a, b] = [newKey(), newKey()]
    const first = await lease([a, b])
    const second = await lease([b, a])
    assert.deepEqual(first.held.map(text), [text(first.mark), text(first.mark)])
    assert.deepEqual(second.held.map(text), [text(first.mark), text(first.mark)])
    assert.deepEqual(second.stamp, first.stamp, 'there is one stamp')
  })

  await t.test('a fill replaces a mark, once', async () => {
    const [a, b] = [newKey(), newKey()]
    const { held } = await lease([a, b])
    const { held: others } = await lease([a, b])
    const [value, late] = [newValue(), newValue()]
    assert.deepEqual(await backend.fillMany([{ key: b, lease: held[1]!, value, ttl: minute }, { key: a, lease: held[0]!, value, ttl: minute }]), [true, true])
    assert.equal(await fill(a, others[0], late), false, 'somebody was faster')
    assert.deepEqual((await backend.getMany([a, b])).map(text), [text(value), text(value)])
    assert.deepEqual(await backend.fillMany([]), [])
  })

  await t.test('what stands there is answered, and can be replaced by whoever leased it', async () => {
    const key = newKey()
    const [old, next] = [newValue(), newValue()]
    await backend.setMany([{ key, value: old, ttl: minute }])
    const { held } = await lease([key])
    assert.equal(text(held[0]), text(old))
    assert.equal(await fill(key, held[0], next), true)
    assert.equal(text((await backend.getMany([key]))[0]), text(next))
  })

  const revocations: Record<string, (key: string) => unknown> = {
    'is deleted': async key => await backend.deleteMany([key]),
    'is forgotten': async key => await forget(key),
    'is replaced': async key => await backend.setMany([{ key, value: newValue(), ttl: minute }]),
    'is taken over': async key => await lease([key], { takeOver: true }),
    'is forgotten and leased by another': async key => {
      await forget(key)
      await lease([key])
    },
    'is forgotten and filled by another': async key => {
      await forget(key)
      await fill(key, (await lease([key])).held[0], newValue())
    },
    ...flush === undefined ? {} : { 'is flushed': flush, 'is flushed and leased by another': async key => { await flush(); await lease([key]) } }
  }
  for (const [what, revoke] of Object.entries(revocations)) {
    await t.test(`a fill is refused where a mark, or an older value, ${what}`, async () => {
      for (const old of [undefined, newValue()]) {
        const key = newKey()
        if (old !== undefined) await backend.setMany([{ key, value: old, ttl: minute }])
        const { held } = await lease([key])
        const late = newValue()
        await revoke(key)
        assert.equal(await fill(key, held[0], late), false)
        assert.notEqual(text((await backend.getMany([key]))[0]), text(late))
      }
    })
  }

  await t.test('a mark ends after its time, and a fill comes too late then', async () => {
    const key = newKey()
    const { held } = await lease([key], { ttl: 500 })
    await eventually(async () => (await backend.getMany([key]))[0] === undefined, 'a mark must end')
    assert.equal(await fill(key, held[0], newValue()), false)
  })

  await t.test('whoever takes over may fill, and what is there can be read until then', async () => {
    const [key, missing] = [newKey(), newKey()]
    const payload = newValue()
    await backend.setMany([{ key, value: payload, ttl: minute }])
    const { held } = await lease([key, missing], { takeOver: true })
    assert.equal(text((await backend.getMany([key]))[0])!.slice(-36), text(payload)!.slice(-36))
    const value = newValue()
    assert.deepEqual(await backend.fillMany([key, missing].map((one, i) => ({ key: one, lease: held[i]!, value, ttl: minute }))), [true, true])
    assert.deepEqual((await backend.getMany([key, missing])).map(text), [text(value), text(value)])
  })

  if (backend.fillUnchanged !== undefined) {
    await t.test('what was seen can be filled without a mark, as long as nothing has changed', async () => {
      const [a, b] = [newKey(), newKey()]
      const old = newValue()
      await backend.setMany([{ key: b, value: old, ttl: minute }])
      const { stamp: since } = await lease([])
      const held = await backend.getMany([a, b])
      const fillSeen = async (...values: Uint8Array[]) =>
        await backend.fillUnchanged!(stampKey, since, [a, b].map((key, i) => ({ key, held: held[i], value: values[i]!, ttl: minute })))
      const [one, two, late] = [newValue(), newValue(), newValue()]
      assert.deepEqual(await fillSeen(one, two), [true, true])
      assert.deepEqual(await fillSeen(late, late), [false, false], 'somebody was faster')
      assert.deepEqual((await backend.getMany([a, b])).map(text), [text(one), text(two)])

      const changes = { 'a key was forgotten': async () => await forget(newKey()), 'somebody has taken over': async () => { await lease([newKey()], { takeOver: true }) } }
      for (const [what, change] of Object.entries(changes)) {
        const since = (await stampNow())!
        const key = newKey()
        await change()
        assert.equal(await backend.fillUnchanged!(stampKey, since, [{ key, held: undefined, value: late, ttl: minute }]), undefined, what)
        assert.equal((await backend.getMany([key]))[0], undefined, what)
      }
    })
  }

  await t.test('keys of any characters can be leased, filled and forgotten', async () => {
    const base = newKey()
    const keys = hostileKeys.map(key => base + key)
    const { held } = await lease(keys)
    const values = keys.map(newValue)
    assert.ok((await backend.fillMany(keys.map((key, i) => ({ key, lease: held[i]!, value: values[i]!, ttl: minute })))).every(filled => filled === true))
    assert.deepEqual((await backend.getMany(keys)).map(text), values.map(text))
    await forget(...keys)
    assert.deepEqual(await backend.getMany(keys), keys.map(() => undefined))
  })

  await t.test('a stamp is raised by each revision, and never lowered', async () => {
    const at = `{${newKey()}}:stamp`
    const stamp = () => formatStamp(newStamp())
    const { stamp: first } = await lease([], { at })
    await backend.forgetMany(at, stamp(), [newKey()])
    assert.deepEqual(await stampNow(at), { ...first, deleted: first.deleted + 1 })
    await backend.revise(at, { kind: 'soft', stamp: stamp() })
    await backend.revise(at, { kind: 'tags', stamp: stamp(), tagKeys: [`${at}:tag`] })
    assert.deepEqual(await stampNow(at), { ...first, softened: 1, tagged: 1, deleted: 1 })
    const fresh = newStamp()
    await backend.revise(at, { kind: 'hard', stamp: formatStamp(fresh) })
    assert.equal((await stampNow(at))?.epoch, fresh.epoch)

    const before = (await stampNow(at))!
    await Promise.all(Array.from({ length: 60 }, async (_, i) => {
      const seen = (await stampNow(at))!
      if (i % 3 === 0) await backend.forgetMany(at, stamp(), [newKey()])
      else if (i % 3 === 1) await backend.revise(at, { kind: 'soft', stamp: stamp() })
      else await backend.revise(at, { kind: 'tags', stamp: stamp(), tagKeys: [] })
      const now = (await stampNow(at))!
      const counter = (['deleted', 'softened', 'tagged'] as const)[i % 3]!
      assert.ok(now[counter] > seen[counter], `${counter} must be higher when a revision resolves than when it began`)
    }))
    const after = (await stampNow(at))!
    assert.equal(after.epoch, before.epoch)
  })

  await t.test('a stamp that was lost is replaced by another one', async () => {
    const at = `{${newKey()}}:stamp`
    const { stamp: first } = await lease([], { at })
    await backend.deleteMany([at])
    const { stamp: second } = await lease([], { at })
    assert.notEqual(second.epoch, first.epoch)
    await backend.deleteMany([at])
    await backend.revise(at, { kind: 'soft', stamp: formatStamp(newStamp()) })
    assert.ok(![undefined, first.epoch, second.epoch].includes((await stampNow(at))?.epoch))
  })

  await t.test('a stamp that is none is put right', async () => {
    const at = `{${newKey()}}:stamp`
    await backend.setMany([entry(at, 'garbage')])
    const { stamp } = await lease([], { at })
    assert.deepEqual(await stampNow(at), stamp)
  })

  await t.test('a tag has a version while somebody holds it, that tells of its invalidations', async () => {
    const at = `{${newKey()}}:stamp`
    const [tag, other] = [`${at}:tag:a`, `${at}:tag:b`]
    // A version is `epoch|tagged`. Without one a tag counts as invalidated just now.
    const version = async (key: string) => {
      const [, epoch, tagged] = /^(\d+)\|(\d+)/.exec(text((await backend.getMany([key]))[0]) ?? '') ?? []
      return epoch === undefined ? undefined : { epoch: Number(epoch), tagged: Number(tagged) }
    }
    const { stamp: { epoch } } = await lease([], { at })
    await backend.holdTags(at, [{ key: tag, ttl: minute }, { key: other, ttl: minute }])
    assert.deepEqual(await version(tag), { epoch, tagged: 0 })
    await backend.revise(at, { kind: 'tags', stamp: formatStamp(newStamp()), tagKeys: [tag] })
    assert.ok(((await version(tag))?.tagged ?? Infinity) >= 1, 'its version is higher, or gone')
    assert.deepEqual(await version(other), { epoch, tagged: 0 }, 'another one has nothing to do with it')
    await backend.holdTags(at, [{ key: tag, ttl: minute }, { key: other, ttl: 45 * day }])
    assert.deepEqual(await version(tag), { epoch, tagged: 1 })
    assert.deepEqual(await version(other), { epoch, tagged: 0 }, 'being held for longer is no invalidation')

    await backend.deleteMany([at, tag])
    await backend.holdTags(at, [{ key: tag, ttl: minute }])
    assert.equal(await version(tag), undefined, 'where the stamp was lost a version would mean nothing')
  })

  const { line } = backend
  if (line !== undefined) {
    await t.test('a message reaches all who listen to its channel by then, in its order', async () => {
      const channel = newKey()
      const heard: string[][] = [[], []]
      const stops = await Promise.all(heard.map(async messages => await line.listen(channel, message => { messages.push(message) })))
      for (const message of ['one', 'two', 'three']) await line.publish(channel, message)
      await eventually(() => heard.every(messages => messages.length === 3), 'every message must be heard')
      assert.deepEqual(heard, [['one', 'two', 'three'], ['one', 'two', 'three']])
      for (const stop of stops) stop()
    })
  }
}

// ─── helpers ─────────────────────────────────────────────────────────────────────────────────────

const newKey = (): string => `test-${randomUUID()}`
const entry = (key: string, value: string, ttl = minute) => ({ key, value: Buffer.from(value), ttl })
/** As entries do, it begins with bytes that nothing else begins with. */
const newValue = (): Buffer => Buffer.concat([newMark(), Buffer.from(randomUUID())])
const text = (bytes: Uint8Array | undefined): string | undefined => bytes === undefined ? undefined : Buffer.from(bytes).toString('latin1')
const show = (value: string): string => JSON.stringify(value.length > 60 ? `${value.slice(0, 60)}…` : value)

async function eventually (condition: () => unknown, message: string): Promise<void> {
  const end = performance.now() + 5_000
  while (await condition() !== true) {
    assert.ok(performance.now() < end, message)
    await pause(20)
  }
}
