import { defineConfig } from 'vitest/config'

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    reporters: [process.env.CI ? 'dot' : 'default', './test/reporter.ts'],
    testTimeout: 60_000,
    hookTimeout: 60_000,
    // Software drivers use all cores themselves: one worker at a time is faster and steadier.
    maxWorkers: 1,
    isolate: true,
    pool: 'forks',
  },
})
