import { InvalidOptionsError, show } from '../errors.js'

/** The part of ioredis' `Redis` and `Cluster` that is called here. */
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
/** Clusters whose ASKING is handled. */
const handled = new WeakSet<RedisLike>()

/** The client that was handed in. @throws InvalidOptionsError for anything else */
export function useRedis (client: unknown, path: string): RedisLike {
  const candidate = client as Record<string, unknown> | null | undefined
  if (typeof candidate !== 'object' || candidate === null || methods.some(name => typeof candidate[name] !== 'function')) {
    throw new InvalidOptionsError(path, "an ioredis client: a Redis or a Cluster (app.redis of '@fastify/redis' is one, or app.redis.name with a namespace)", show(client))
  }
  const redis = client as RedisLike
  if (redis.isCluster && !handled.has(redis)) {
    handled.add(redis)
    handleLostAsking(redis as ClusterLike)
  }
  return redis
}

/**
 * While a slot moves, ioredis sends ASKING ahead of a command and drops its promise. If the connection is lost just then,
 * that rejection is unhandled and would end the process. The command itself is retried by ioredis.
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

/** Without a connection, a client queues commands; a cache has no use for an answer that late. */
export function assertConnected ({ status }: { readonly status: string }): void {
  if (status === 'reconnecting' || status === 'close' || status === 'end' || status === 'disconnecting') throw new Error(`the connection is in status '${status}'`)
}

/**
 * The client, if its commands are executed in the order in which they are called. What `reconnectOnError` sends again comes
 * after later commands, and auto-pipelining may let some overtake others.
 */
export function orderedConnection (client: RedisLike): RedisLike | undefined {
  const { isCluster, options: { reconnectOnError, enableAutoPipelining } } = client
  return isCluster || typeof reconnectOnError === 'function' || enableAutoPipelining === true ? undefined : client
}

/** A script's 1. A client may be configured to return numbers as strings. */
export const isOne = (answer: unknown): boolean => Number(answer) === 1
