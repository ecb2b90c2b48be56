/**
 * What every loader gets as its first argument: the manager's `context`. Applications add to it by declaration merging:
 *
 *     declare module 'fastify-caching-api' {
 *       interface LoaderContext { db: Pool }
 *     }
 */
export interface LoaderContext {}
