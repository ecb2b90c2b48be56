/** Carries invalidations and wake-ups between processes. */
export interface InvalidationBus {
  /** Ends the connection that listens: the client that was handed in stays open. Called when the last manager that has it is closed. */
  close (): Promise<void>
}

/** A bus as the regions use it: messages reach every listener of a channel, at most once, in their order. */
export interface Line extends InvalidationBus {
  publish (channel: string, message: string): Promise<void>
  /**
   * Resolves when every later message will be heard. Call what it resolves to, to stop listening. `interrupted` is
   * called whenever messages may have been missed.
   */
  listen (channel: string, listener: (message: string) => void, interrupted?: () => void): Promise<() => void>
  /** Listens over another connection, since this one has been silent for too long. */
  reconnect (): void
  /** Resolves when everything has been heard that was published before. @throws where something was missed, or may have been */
  catchUp (): Promise<void>
}

export const isLine = (bus: unknown): bus is Line =>
  typeof bus === 'object' && bus !== null && ['publish', 'listen', 'reconnect', 'catchUp', 'close'].every(name => name in bus)
