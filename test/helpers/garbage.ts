import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'

setFlagsFromString('--expose-gc')

/** Collects at once what nobody holds any more. Finalizers run in a later task. */
export const collectGarbage: () => void = runInNewContext('gc')
