/** What every loader gets as its first argument. Applications extend it by declaration merging: `{ db: Pool }`. */
export interface LoaderContext {}
