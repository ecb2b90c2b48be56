import { InvalidOptionsError, show } from '../errors.js'

/** As much of ioredis' `Redis` and `Cluster` as is called here. */
export interface RedisLike {
  readonly isCluster: boolean
  readonly options: {
    readonly db?: number | undefined
    readonly keyPrefix?: string | undefined
    readonly reconnectOnError?: unknown
    readonly enableAutoPipelining?: boolean | undefined
  }
  readonly status: string
  mgetBuffer (keys: string[]): Promise<(Buffer | null)[]>
  set (key: string, value: Buffer, px: 'PX', milliseconds: number): Promise<unknown>
  unlink (...keys: string[]): Promise<number>
  eval (script: string, keys: number, ...args: (string | Buffer | number)[]): Promise<unknown>
  publish (channel: string, message: string): Promise<number>
  on (event: 'ready', listener: () => void): unknown
}

interface ClusterLike extends RedisLike {
  nodes (): Node[]
  on (event: 'ready', listener: () => void): unknown
  on (event: '+node', listener: (node: Node) => void): unknown
}

/** A connection to one node. */
interface Node { asking (...args: unknown[]): Promise<unknown> }

const methods = ['mgetBuffer', 'set', 'unlink', 'eval', 'evalBuffer', 'publish', 'duplicate', 'on'] as const
const inUse = new WeakSet<RedisLike>()

/** The client that was handed in. @throws InvalidOptionsError for anything else */
export function useRedis (client: unknown, path: string): RedisLike {
  const candidate = client as Record<string, unknown> | null | undefined
  if (typeof candidate !== 'object' || candidate === null || methods.some(name => typeof candidate[name] !== 'function')) {
    throw new InvalidOptionsError(path, "an ioredis client: a Redis or a Cluster (app.redis of '@fastify/redis' is one, or app.redis.name with a namespace)", show(client))
  }
  const redis = client as RedisLike
  if (redis.isCluster && !inUse.has(redis)) {
    inUse.add(redis)
    handleLostAsking(redis as ClusterLike)
  }
  return redis
}

/**
 * While a slot moves, ioredis sends ASKING ahead of a command and drops its promise: a connection that is lost just then
 * would end the process by a rejection that nobody can handle. The command itself is tried again by ioredis.
 */
function handleLostAsking (cluster: ClusterLike): void {
  const handle = (node: Node): void => {
    const { asking } = node
    node.asking = (...args) => {
      const asked = asking.apply(node, args)
      asked.catch(() => {})
      return asked
    }
  }
  cluster.nodes().forEach(handle)
  cluster.on('+node', handle)
}

/** A client without a connection would keep commands for later; a cache has no use for an answer then. */
export function assertConnected ({ status }: { readonly status: string }): void {
  if (status === 'reconnecting' || status === 'close' || status === 'end' || status === 'disconnecting') throw new Error(`the connection is in status '${status}'`)
}

/**
 * The client, if its commands are carried out in the order in which they are called. Some that `reconnectOnError` is to send
 * again come after later ones; and auto-pipelining may leave some out.
 */
export function inOrder (client: RedisLike): RedisLike | undefined {
  const { isCluster, options: { reconnectOnError, enableAutoPipelining } } = client
  return isCluster || typeof reconnectOnError === 'function' || enableAutoPipelining === true ? undefined : client
}

/** Of a script's answer: a client may be set to give numbers as strings. */
export const isOne = (answer: unknown): boolean => Number(answer) === 1
