/**
 * Resolves to what `promise` resolves to, if it does so in time. What it does later is ignored.
 *
 * Answers that already lie in a socket are still read: after the event loop was blocked for longer than `ms`, its timers come
 * first, and a server that has answered in time would seem to be away.
 * @throws an Error that names `what` after `ms` milliseconds
 */
export function withTimeout<T> (ms: number, promise: Promise<T>, what: string): Promise<T> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => setImmediate(() => reject(new Error(`${what} did not answer within ${ms} ms`))), ms)
    promise.then(
      value => { clearTimeout(timer); resolve(value) },
      error => { clearTimeout(timer); reject(error) }
    )
  })
}
