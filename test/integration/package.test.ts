import { execFile } from 'node:child_process'
import { cp, mkdir, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import t, { type Test } from 'tap'

const run = promisify(execFile)
const root = fileURLToPath(new URL('../..', import.meta.url))
const bin = (name: string) => join(root, 'node_modules', '.bin', name)
const notOfAClone = new Set(['node_modules', '.git', '.tap', 'dist'])

t.setTimeout(180_000)

/** What somebody has who installs the package: an application's folder, with the packed files in its node_modules. */
let app: string
let packed: string[]

t.before(async () => {
  const work = await mkdtemp(join(tmpdir(), 'caching-api-package-'))
  t.teardown(() => rm(work, { recursive: true }))
  const clone = join(work, 'clone')
  await cp(root, clone, { recursive: true, filter: source => !notOfAClone.has(basename(source)) })
  await symlink(join(root, 'node_modules'), join(clone, 'node_modules'))
  await run(bin('tsc'), ['-p', 'tsconfig.build.json'], { cwd: clone })
  const { stdout } = await run('npm', ['pack', '--json', '--ignore-scripts'], { cwd: clone })
  const [{ filename, files }] = JSON.parse(stdout) as [{ filename: string, files: Array<{ path: string }> }]
  packed = files.map(({ path }) => path)

  app = join(work, 'app')
  const installed = join(app, 'node_modules', 'fastify-caching-api')
  await mkdir(installed, { recursive: true })
  await run('tar', ['-xzf', join(clone, filename), '-C', installed, '--strip-components=1'])
  await writeFile(join(app, 'package.json'), '{ "name": "app", "private": true }')
  // Its dependencies, as npm would put them beside it.
  const { dependencies, peerDependencies } = JSON.parse(await readFile(join(installed, 'package.json'), 'utf8'))
  for (const name of Object.keys({ ...dependencies, ...peerDependencies, '@types/node': '' })) {
    await mkdir(join(app, 'node_modules', name, '..'), { recursive: true })
    await symlink(join(root, 'node_modules', name), join(app, 'node_modules', name))
  }
  await rm(clone, { recursive: true })
})

const routes = `
  const User = cachedObject({
    name: 'User',
    region: 'objects',
    methods: { getById: loadMany({ load: async (_context, ids) => ids.map(id => ({ id, name: 'user ' + id })), idOf: row => row.id }) }
  })
  app.get('/', async request => await request.cachingApi.get(User, 'getById', [1]))
  const { body } = await app.inject('/')
  await app.close()
  console.log(body)
`

async function outputOf (file: string, source: string): Promise<string> {
  await writeFile(join(app, file), source)
  const { stdout, stderr } = await run(process.execPath, [file], { cwd: app })
  t.equal(stderr, '', `${file} says nothing on stderr`)
  return stdout
}

t.test('the package has what a user needs, and nothing else', async t => {
  const [built, others] = [packed.filter(path => path.startsWith('dist/')), packed.filter(path => !path.startsWith('dist/'))]
  t.strictSame(others.toSorted(), ['CHANGELOG.md', 'LICENSE', 'README.md', 'package.json'])
  for (const path of built) t.match(path, /^dist\/(lib|plugin)\/.*\.(js|d\.ts)$/)
  t.ok(built.includes('dist/plugin/index.js') && built.includes('dist/plugin/index.d.ts'))
})

t.test('it is registered by import', async t => {
  t.equal(await outputOf('esm.mjs', `
    import Fastify from 'fastify'
    import cachingApi, { cachedObject, loadMany, memory } from 'fastify-caching-api'
    const app = Fastify()
    await app.register(cachingApi, { regions: { objects: { tiers: [memory()], ttl: '1m' } } })
    ${routes}
  `), '{"id":1,"name":"user 1"}\n')
})

for (const [how, required] of [['require()', "require('fastify-caching-api')"], ['require().default', "require('fastify-caching-api').default"]] as const) {
  t.test(`it is registered by ${how}, from a CommonJS file`, async t => {
    t.equal(await outputOf('commonjs.cjs', `
      const Fastify = require('fastify')
      const { cachedObject, loadMany, memory } = require('fastify-caching-api')
      async function main () {
        const app = Fastify()
        await app.register(${required}, { regions: { objects: { tiers: [memory()], ttl: '1m' } } })
        ${routes}
      }
      main()
    `), '{"id":1,"name":"user 1"}\n')
  })
}

t.test('import and require() give one and the same module', async t => {
  t.equal(await outputOf('both.mjs', `
    import { createRequire } from 'node:module'
    import * as imported from 'fastify-caching-api'
    console.log(createRequire(import.meta.url)('fastify-caching-api').CachingManager === imported.CachingManager)
  `), 'true\n')
})

t.test('nothing but its entry and its package.json can be imported', async t => {
  t.equal(await outputOf('deep.mjs', `
    console.log(await import('fastify-caching-api/dist/lib/region.js').catch(error => error.code))
    console.log((await import('fastify-caching-api/package.json', { with: { type: 'json' } })).default.name)
  `).catch(error => error.stdout ?? error), 'ERR_PACKAGE_PATH_NOT_EXPORTED\nfastify-caching-api\n')
})

t.test('an application compiles against its types, adds to LoaderContext, and sees what is wrong', async t => {
  await writeFile(join(app, 'app.mts'), `
    import Fastify from 'fastify'
    import cachingApi, { cachedObject, loadMany, memory } from 'fastify-caching-api'

    interface Database { query (ids: readonly number[]): Promise<{ id: number, name: string }[]> }
    declare module 'fastify-caching-api' {
      interface LoaderContext { db: Database }
    }
    declare const db: Database

    const User = cachedObject({
      name: 'User',
      region: 'objects',
      methods: { getById: loadMany({ load: ({ db }, ids: readonly number[]) => db.query(ids), idOf: user => user.id }) }
    })
    const app = Fastify()
    await app.register(cachingApi, { regions: { objects: { tiers: [memory()], ttl: '1m' } }, context: () => ({ db }) })
    app.get('/', async request => {
      const user = await request.cachingApi.get(User, 'getById', [1])
      const name: string | undefined = user?.name
      // @ts-expect-error
      const wrong: number | undefined = user?.name
      // @ts-expect-error
      await request.cachingApi.get(User, 'getById', ['1'])
      // @ts-expect-error
      user.name
      return [name, wrong, app.cachingManager.regions.size]
    })
  `)
  await typechecks(t, 'app.mts', '--module', 'nodenext')
})

t.test('its types are the same however an application resolves modules', async t => {
  await writeFile(join(app, 'any.ts'), `
    import { BackendFailedError, InvalidationPendingError, memory } from 'fastify-caching-api'
    const error = new InvalidationPendingError('a', 'b')
    const code: string = error.code
    // @ts-expect-error
    const wrong: number = error
    export function codeOf (error: unknown): string | undefined {
      return error instanceof BackendFailedError ? error.code + error.properties.join() : undefined
    }
    export default [memory(), code, wrong]
  `)
  for (const module of [['nodenext'], ['preserve'], ['esnext', '--moduleResolution', 'bundler']]) await typechecks(t, 'any.ts', '--module', ...module)
})

async function typechecks (t: Test, file: string, ...options: string[]): Promise<void> {
  const args = ['--noEmit', '--strict', '--exactOptionalPropertyTypes', '--target', 'es2023', ...options, '--types', 'node', file]
  const { stdout } = await run(bin('tsc'), args, { cwd: app }).catch(error => error as { stdout: string })
  t.strictSame(stdout.split('\n').filter(line => line !== '' && !line.startsWith('node_modules/') && !line.startsWith('../')), [], options.join(' '))
  t.notOk(stdout.includes('fastify-caching-api/'), 'nor is there an error in its own types')
}
