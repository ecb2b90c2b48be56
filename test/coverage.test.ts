import { readdir } from 'node:fs/promises'
import t from 'tap'

const root = new URL('../', import.meta.url)

/** Loaded here, a source file is in the coverage report, whether or not any test uses it. */
t.test('every source file is measured', async t => {
  for (const folder of ['lib/', 'plugin/']) {
    const files = (await readdir(new URL(folder, root), { recursive: true })).filter(file => file.endsWith('.ts'))
    t.not(files.length, 0)
    for (const file of files) await import(new URL(folder + file.replace(/\.ts$/, '.js'), root).href)
  }
})
