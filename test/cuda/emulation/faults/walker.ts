import { byOrder, type Fault, fails, inFile } from './fault.ts'

/** Faults in what a walker (lib/walker.h) is made of. */
export const walkerFaults: Fault[] = inFile('walker', [
  { kernel: 'no_wait_for_progress', grid: 2, threads: 32, caught: byOrder },
  {
    kernel: 'no_progress',
    grid: 2,
    threads: 32,
    caught: fails(
      /deadlock: every thread of the launch waits; .*thread 0 at a change of memory \(walker\.cu:\d+\)/,
    ),
  },
  {
    kernel: 'barrier_of_half',
    threads: 96,
    caught: fails(/threads 0-31 at a barrier of some threads \(walker\.cu:\d+\); threads 32-95 exited/),
  },
  {
    kernel: 'barrier_of_two_sizes',
    threads: 96,
    caught: fails(/barrier 1 is waited at by (64 threads and by 96|96 threads and by 64) \(walker\.cu:\d+\)/),
  },
  {
    kernel: 'barrier_over_another',
    threads: 128,
    elements: 128 * 128,
    shared: 1024,
    caught: fails(/the mbarrier is initialised already \(walker\.cu:\d+\)/),
  },
])
