import { readdir } from 'node:fs/promises'
import t from 'tap'

const root = new URL('../', import.meta.url)

async function filesIn (folder: string, ending: string): Promise<string[]> {
  const files = await readdir(new URL(folder, root), { recursive: true })
  return files.filter(file => file.endsWith(ending)).map(file => folder + file)
}

t.test('every source file with anything to run has tests of its own', async t => {
  const { default: coveredBy } = await import(new URL('tap.config.js', root).href)
  const covered = new Set((await filesIn('test/', '.test.ts')).map(coveredBy))
  const uncovered: string[] = []
  for (const file of [...await filesIn('lib/', '.ts'), ...await filesIn('plugin/', '.ts')]) {
    // Loaded here, it is in the report, whether or not a test loads it. Types alone leave nothing to load.
    const exported = await import(new URL(file.replace(/\.ts$/, '.js'), root).href)
    if (Object.keys(exported).length > 0 && !covered.has(file)) uncovered.push(file)
  }
  t.strictSame(uncovered, [])
})
