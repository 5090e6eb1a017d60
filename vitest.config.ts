import { defineConfig } from 'vitest/config'
import LongestFirst from './test/sequencer.ts'

// `npm test`. Tests of the CUDA backend need a C++ compiler, those of several ranks MPI: they have configurations of their own.
export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    exclude: ['test/cuda/**', 'test/ranks/**', '**/node_modules/**'],
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
