import { defineConfig } from 'vitest/config'
import LongestFirst from './test/sequencer.ts'

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    reporters: [process.env.CI ? 'dot' : 'default', './test/reporter.ts'],
    testTimeout: 60_000,
    hookTimeout: 60_000,
    // Most of the time goes into compiling kernels, which a software driver does on one core.
    maxWorkers: 2,
    sequence: { sequencer: LongestFirst },
    isolate: true,
    pool: 'forks',
  },
})
