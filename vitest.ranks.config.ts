import { defineConfig } from 'vitest/config'
import shared from './vitest.config.ts'

const { reporters, ...each } = shared.test!

const all = ['test/ranks/**/*.test.ts']
const started = ['bubble', 'mpi', 'run', 'train'].map((name) => `test/ranks/${name}.test.ts`)

/** Files that are run `maxWorkers` at a time, after those of lower order. */
const group = (name: string, include: string[], exclude: string[], groupOrder: number, maxWorkers: number) => ({
  test: { ...each, name, include, exclude, maxWorkers, sequence: { ...each.sequence, groupOrder } },
})

// `npm run test:ranks`. Ranks of one process share a core; those that mpirun starts are more processes than there are cores,
// and some are timed: one file at a time, with nothing beside it.
export default defineConfig({
  test: {
    reporters,
    sequence: { sequencer: each.sequence!.sequencer },
    projects: [group('one process', all, started, 0, 2), group('mpirun', started, [], 1, 1)],
  },
})
