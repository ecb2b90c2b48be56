import assert from 'node:assert/strict'
import { newMark } from '../entry-format.js'
import { formatStamp, newStamp, parseStamp, type Stamp } from '../stamp.js'
import type { LeasingBackend } from '../backends/backend.js'
import { newKey } from './keys.js'
import { minute, show, text } from './values.js'

/** What `leaseMany` has answered. */
interface Leased { readonly mark: Uint8Array, readonly held: readonly Uint8Array[], readonly stamp: Stamp }

/** A region that nobody else has, on a backend that leases: the stamp of the keys that it is asked for. */
export class TestRegion {
  readonly stampKey = `{${newKey()}}:stamp`
  readonly #backend: LeasingBackend

  constructor (backend: LeasingBackend) {
    this.#backend = backend
  }

  async lease (keys: readonly string[], { takeOver = false, ttl = minute } = {}): Promise<Leased> {
    const mark = newMark()
    const [stampBytes, ...held] = await this.#backend.leaseMany(this.stampKey, keys, { mark, ttl, stamp: formatStamp(newStamp()), takeOver })
    assert.equal(held.length, keys.length, 'leaseMany must answer a stamp, and one value for each key')
    const stamp = parseStamp(text(stampBytes)!)
    assert.ok(stamp, `leaseMany must answer the stamp first, got ${show(text(stampBytes)!)}`)
    return { mark, held, stamp }
  }

  /** Resolves to what `fillMany` says of this one key. */
  async fill (key: string, held: Uint8Array | undefined, value: Uint8Array): Promise<boolean | Error | undefined> {
    return (await this.#backend.fillMany([{ key, lease: held!, value, ttl: minute }]))[0]
  }

  async forget (...keys: string[]): Promise<void> {
    await this.#backend.forgetMany(this.stampKey, formatStamp(newStamp()), keys)
  }

  async forgetTags (...tagKeys: string[]): Promise<void> {
    await this.#backend.revise(this.stampKey, { kind: 'tags', stamp: formatStamp(newStamp()), tagKeys })
  }

  async soften (): Promise<void> {
    await this.#backend.revise(this.stampKey, { kind: 'soft', stamp: formatStamp(newStamp()) })
  }

  /** The stamp as it is now. Undefined where there is none. */
  async stamp (): Promise<Stamp | undefined> {
    return parseStamp(String(text((await this.#backend.getMany([this.stampKey]))[0])))
  }
}
