import type { FastifyReply } from 'fastify'

/** What was added to each reply's header. Fastify sends twice where a later hook fails. */
const additions = new WeakMap<FastifyReply, string>()

/** Adds metrics to the `Server-Timing` header, after those of others and in the place of what was added here before. */
export function addServerTiming (reply: FastifyReply, metrics: string): void {
  const header = reply.getHeader('server-timing') ?? ''
  const sent = Array.isArray(header) ? header.join(', ') : String(header)
  const added = additions.get(reply)
  const others = added === undefined ? sent : sent.replace(added, '').replace(/^, /, '')
  const addition = others === '' ? metrics : `, ${metrics}`
  additions.set(reply, addition)
  reply.header('server-timing', others + addition)
}
