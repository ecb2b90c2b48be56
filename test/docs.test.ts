import { existsSync } from 'node:fs'
import { readdir, readFile } from 'node:fs/promises'
import { basename } from 'node:path'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import ts from 'typescript'

const root = fileURLToPath(new URL('../', import.meta.url))

/** Page → what its reader has already, beyond what the page itself shows. */
const pages: Record<string, string> = {
  'README.md': `
    import type { FastifyRequest } from 'fastify'
    import { cacheObject, cachedObject, loadOne, property, type CachingApi } from 'fastify-caching-api'
    interface UserRow { id: number, name: string, photoId: number }
    declare function selectUsers (db: unknown, ids: readonly number[]): Promise<UserRow[]>
    declare function selectUserByName (db: unknown, name: string): Promise<UserRow | undefined>
    const Photo = cachedObject({ name: 'Photo', region: 'rows', methods: { getById: loadOne((_context, id: number) => ({ id, url: '' })) } })
    declare const request: FastifyRequest`,
  'docs/backends.md': `
    import type { FastifyInstance } from 'fastify'
    import type { Redis } from 'ioredis'
    declare const app: FastifyInstance, client: Redis`,
  'docs/cache-objects.md': `
    import type { FastifyInstance } from 'fastify'
    declare const app: FastifyInstance`
}

interface Block { readonly line: number, readonly text: string }

function blocksOf (page: string): Block[] {
  return Array.from(page.matchAll(/^```ts\n(.*?)^```$/gms), ({ index, 1: text }) => ({ line: page.slice(0, index).split('\n').length + 1, text: text! }))
}

interface Names {
  /** What the block declares, as another one would import it; and those of them that it exports itself. */
  readonly declared: Map<string, string>
  readonly exported: Set<string>
  /** Name → the import that brings it. */
  readonly imported: Map<string, string>
}

function namesOf (source: ts.SourceFile): Names {
  const [declared, exported, imported] = [new Map<string, string>(), new Set<string>(), new Map<string, string>()]
  for (const statement of source.statements) {
    if (ts.isImportDeclaration(statement)) {
      const { importClause: { name, namedBindings, isTypeOnly } = {}, moduleSpecifier } = statement
      const [type, from] = [isTypeOnly === true ? 'type ' : '', `from ${moduleSpecifier.getText(source)}`]
      if (name !== undefined) imported.set(name.text, `import ${type}${name.text} ${from}`)
      if (namedBindings !== undefined && ts.isNamedImports(namedBindings)) {
        for (const one of namedBindings.elements) imported.set(one.name.text, `import { ${type}${one.getText(source)} } ${from}`)
      }
      continue
    }
    const names = ts.isVariableStatement(statement)
      ? statement.declarationList.declarations.map(({ name }) => name.getText(source))
      : ts.isFunctionDeclaration(statement) || ts.isClassDeclaration(statement) || ts.isInterfaceDeclaration(statement) ? [statement.name!.text] : []
    for (const name of names) {
      declared.set(name, ts.isInterfaceDeclaration(statement) ? `type ${name}` : name)
      if (ts.canHaveModifiers(statement) && ts.getModifiers(statement)?.some(({ kind }) => kind === ts.SyntaxKind.ExportKeyword) === true) exported.add(name)
    }
  }
  return { declared, exported, imported }
}

/** Each block is a module that takes up what came before it on its page. */
function modulesOf (page: string, blocks: readonly Block[]): Map<string, string> {
  const modules = new Map<string, string>()
  const known = new Map<string, string>()
  for (const { line, text } of blocks) {
    const { declared, exported, imported } = namesOf(ts.createSourceFile('block.ts', text, ts.ScriptTarget.Latest))
    const taken = [...known].filter(([name]) => !declared.has(name) && !imported.has(name) && new RegExp(`\\b${name}\\b`).test(text))
    const given = [...declared].filter(([name]) => !exported.has(name)).map(([, how]) => how)
    // All on the first line, so that the others keep their numbers.
    modules.set(`${page}.${line}.ts`, `${taken.map(([, how]) => `${how}; `).join('')}${text}export { ${given.join(', ')} }\n`)
    for (const [name, how] of imported) known.set(name, how)
    for (const [name, how] of declared) known.set(name, `import { ${how} } from './${basename(page)}.${line}.js'`)
  }
  return modules
}

function complaintsAbout (modules: ReadonlyMap<string, string>): string[] {
  const { config } = ts.readConfigFile(`${root}tsconfig.json`, path => ts.sys.readFile(path)) as { config: object }
  const { options } = ts.parseJsonConfigFileContent(config, { ...ts.sys, readDirectory: () => [] }, root)
  options.paths = { ...options.paths, 'fastify-caching-api/testing': ['./lib/testing.ts'] }
  const host = ts.createCompilerHost(options)
  const { fileExists, readFile } = host
  const moduleAt = (path: string) => path.startsWith(root) ? modules.get(path.slice(root.length)) : undefined
  host.fileExists = path => moduleAt(path) !== undefined || fileExists(path)
  host.readFile = path => moduleAt(path) ?? readFile(path)
  const program = ts.createProgram([...modules.keys()].map(path => root + path), options, host)
  return [...modules.keys()].flatMap(path => {
    const source = program.getSourceFile(root + path)!
    const [, page, line] = /^(.*)\.(\d+)\.ts$/.exec(path)!
    return [...program.getSyntacticDiagnostics(source), ...program.getSemanticDiagnostics(source)].map(({ start, messageText }) =>
      `${page}:${Number(line) + source.getLineAndCharacterOfPosition(start!).line}: ${ts.flattenDiagnosticMessageText(messageText, '\n')}`)
  })
}

t.test('every example of the documentation compiles, in strict TypeScript', async t => {
  const modules = new Map<string, string>()
  for (const [page, given] of Object.entries(pages)) {
    const blocks = blocksOf(await readFile(root + page, 'utf8'))
    t.ok(blocks.length > 1, `${page} has examples`)
    for (const [path, text] of modulesOf(page, [{ line: 0, text: `${given}\n` }, ...blocks])) modules.set(path, text)
  }
  t.strictSame(complaintsAbout(modules), [])
})

/** In backticks, alone or within a command: `lib/errors.ts`, `npx tap test/lib/tiers/*.test.ts`. One that ends in a slash is a folder. */
const pathsOf = (page: string) => Array.from(page.matchAll(/`[^`\n]+`/g), ([quoted]) => quoted.match(/(?<![\w./-])(?:lib|plugin|test|bench|example-server)\/[\w./-]*/g) ?? []).flat()

t.test('every file that the documentation names is there', async t => {
  const pages = ['README.md', 'CONTRIBUTING.md', ...(await readdir(`${root}docs`)).filter(name => name.endsWith('.md')).map(name => `docs/${name}`)]
  const named = await Promise.all(pages.map(async page => pathsOf(await readFile(root + page, 'utf8')).map(path => ({ page, path }))))
  t.ok(named.flat().length > 20, `${named.flat().length} are named`)
  t.strictSame(named.flat().filter(({ path }) => !existsSync(root + path)), [])
})
