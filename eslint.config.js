import neostandard, { plugins } from 'neostandard'

export default [
  { ignores: ['**/dist/', '**/node_modules/', '.tap/'] },

  ...neostandard({ ts: true }),

  // What only types can tell: above all, a promise that nobody waits for. `void promise` says that it is meant so.
  {
    files: ['bench/**/*.ts', 'example-server/**/*.ts', 'lib/**/*.ts', 'plugin/**/*.ts', 'test/**/*.ts'],
    languageOptions: { parserOptions: { projectService: true, tsconfigRootDir: import.meta.dirname } },
    plugins: { '@typescript-eslint': plugins['typescript-eslint'].plugin },
    rules: {
      '@typescript-eslint/await-thenable': 'error',
      '@typescript-eslint/consistent-type-imports': 'error',
      '@typescript-eslint/no-floating-promises': ['error', {
        // `t.test()` at the top of a file: the runner waits for it.
        allowForKnownSafePromises: [{ from: 'package', name: 'PromiseWithSubtest', package: '@tapjs/core' }]
      }],
      '@typescript-eslint/no-misused-promises': ['error', { checksVoidReturn: false }],
      'no-void': ['error', { allowAsStatement: true }]
    }
  }
]
