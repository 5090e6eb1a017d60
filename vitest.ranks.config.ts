import { defineConfig } from 'vitest/config'
import shared from './vitest.config.ts'

// `npm run test:ranks`: ranks that mpirun starts. One file at a time: each has more processes than there are cores.
export default defineConfig({
  test: { ...shared.test, include: ['test/ranks/**/*.test.ts'], exclude: [], fileParallelism: false },
})
