import { setTimeout as pause } from 'node:timers/promises'
import { now } from './clock.js'
import type { FaultKind } from './options.js'
import type { Fault } from './schedule.js'
import type { World } from './world.js'

/** What faults need of a process. */
export interface Victim {
  pause (): void
  resume (): void
  kill (): Promise<void>
  /** As another one in its place. */
  start (): Promise<void>
}

/** A fault that was carried out, by the clock of the reads. */
export interface Happened { readonly kind: FaultKind, readonly what: string, readonly began: number, readonly ended: number, readonly worker?: number }

export interface FaultSummary {
  readonly byKind: Readonly<Partial<Record<FaultKind, number>>>
  /** Those that came while their victim was still hurt. */
  readonly skipped: number
  /** Those that could not be carried out. */
  readonly failed: readonly string[]
}

export interface FaultsOptions {
  world: World
  victims: readonly Victim[]
  /** Slots of a Cluster that are worth moving. */
  slots: readonly number[]
}

/** Carries out a schedule. What is hurt already is not hurt a second time until it is well again. */
export class Faults {
  readonly happened: Happened[] = []
  readonly #failed: string[] = []
  #skipped = 0
  readonly #world: World
  readonly #victims: readonly Victim[]
  readonly #slots: readonly number[]
  readonly #hurt = new Set<string>()
  readonly #underWay = new Set<Promise<void>>()

  constructor ({ world, victims, slots }: FaultsOptions) {
    this.#world = world
    this.#victims = victims
    this.#slots = slots
  }

  /** Resolves when all is well again. */
  async run (schedule: readonly Fault[], signal: AbortSignal): Promise<void> {
    const began = performance.now()
    for (const fault of schedule) {
      await pause(Math.max(0, began + fault.at - performance.now()), undefined, { signal }).catch(() => {})
      if (signal.aborted) break
      this.#start(fault)
    }
    await Promise.all(this.#underWay)
    await this.#world.cluster?.settled().catch((error: Error) => { this.#failed.push(error.message) })
  }

  get summary (): FaultSummary {
    const byKind: Partial<Record<FaultKind, number>> = {}
    for (const { kind } of this.happened) byKind[kind] = (byKind[kind] ?? 0) + 1
    return { byKind, skipped: this.#skipped, failed: this.#failed }
  }

  #start (planned: Fault): void {
    // Of a Cluster's nodes the masters count, which are others after a failover.
    const fault = 'server' in planned && this.#world.cluster !== undefined
      ? { ...planned, server: this.#world.cluster.masters[planned.server]! }
      : planned
    const hurt = this.#hurtBy(fault)
    if (hurt.some(one => this.#hurt.has(one))) {
      this.#skipped++
      return
    }
    for (const one of hurt) this.#hurt.add(one)
    const began = now()
    const done = this.#carryOut(fault)
      .catch((error: Error) => { this.#failed.push(`${fault.kind}: ${error.message}`) })
      .finally(() => {
        for (const one of hurt) this.#hurt.delete(one)
        this.#underWay.delete(done)
        this.happened.push({ kind: fault.kind, what: this.#describe(fault), began, ended: now(), ...('worker' in fault && { worker: fault.worker }) })
      })
    this.#underWay.add(done)
  }

  async #carryOut (fault: Fault): Promise<void> {
    switch (fault.kind) {
      case 'kill': {
        const { server } = this.#world.places[fault.server]!
        await server.kill()
        await pause(fault.lasts)
        return await server.start()
      }
      case 'stop': {
        const { server } = this.#world.places[fault.server]!
        server.pause()
        await pause(fault.lasts)
        return server.resume()
      }
      case 'flush':
        await this.#world.places[fault.server]!.flush()
        return
      case 'hold': case 'lose': {
        const proxy = this.#world.proxy(fault.worker, fault.server)
        proxy.hold()
        await pause(fault.lasts)
        if (fault.kind === 'lose') proxy.drop()
        return proxy.release()
      }
      case 'cut': {
        const proxy = this.#world.proxy(fault.worker, fault.server)
        proxy.cut()
        await pause(fault.lasts)
        return await proxy.restore()
      }
      case 'stall': {
        const goOn = this.#world.proxy(fault.worker, fault.server).stall(fault.lasts)
        await pause(fault.lasts)
        return goOn()
      }
      case 'freeze': {
        const victim = this.#victims[fault.worker]!
        victim.pause()
        await pause(fault.lasts)
        return victim.resume()
      }
      case 'crash': {
        const victim = this.#victims[fault.worker]!
        await victim.kill()
        await pause(fault.lasts)
        return await victim.start()
      }
      case 'move':
        return await this.#world.cluster!.move(this.#slots[fault.which % this.#slots.length]!, fault.lasts)
      case 'failover':
        return await this.#world.cluster!.failover(fault.server, fault.lasts, () => this.#silence(fault.server))
    }
  }

  /** Nobody hears of a server any more. What it has said and nobody has heard yet is lost. */
  #silence (server: number): () => void {
    const proxies = this.#world.proxiesTo(server)
    for (const proxy of proxies) proxy.hold()
    return () => {
      for (const proxy of proxies) {
        proxy.drop()
        proxy.release()
      }
    }
  }

  #hurtBy (fault: Fault): string[] {
    switch (fault.kind) {
      case 'kill': case 'stop': case 'flush': return [`server ${fault.server}`]
      case 'hold': case 'lose': case 'cut': case 'stall': return [`way ${fault.worker} ${fault.server}`]
      case 'freeze': case 'crash': return [`worker ${fault.worker}`]
      // Redis' own nodes need each other for these.
      case 'move': case 'failover': return this.#world.places.map((_, i) => `server ${i}`)
    }
  }

  #describe (fault: Fault): string {
    const lasting = fault.lasts > 0 ? `, ${fault.lasts} ms` : ''
    const server = 'server' in fault ? this.#world.places[fault.server]!.name : ''
    switch (fault.kind) {
      case 'kill': case 'stop': case 'flush': case 'failover': return `${fault.kind} ${server}${lasting}`
      case 'hold': case 'lose': case 'cut': return `${fault.kind} the way from process ${fault.worker} to ${server}${lasting}`
      case 'freeze': case 'crash': return `${fault.kind} process ${fault.worker}${lasting}`
      case 'stall': return `stall a connection of process ${fault.worker} to ${server}${lasting}`
      case 'move': return `move slot ${this.#slots[fault.which % this.#slots.length]}`
    }
  }
}
