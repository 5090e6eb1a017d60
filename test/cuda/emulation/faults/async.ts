import { byNan, type Fault, fails, ILLEGAL_ADDRESS, inFile } from './fault.ts'

/** Faults with copies, mbarriers, wgmma, stores, clusters and registers. */
export const asyncFaults: Fault[] = [
  ...inFile(
    'async',
    (
      [
        [
          'no_wait_for_copy',
          fails(
            /thread \d+: row 0 of an operand is still being copied: no thread has waited .* \(async\.cu:\d+\)/,
          ),
        ],
        ['wrong_parity_of_full', fails(/row 0 of an operand (is still being copied|was not written)/)],
        ['wrong_parity_of_empty', fails(/deadlock: .*thread 0 at a change of memory \(async\.cu:\d+\)/)],
        ['no_wait_for_empty', fails(/more threads arrive than the 1 the mbarrier counts/)],
        [
          'release_before_wait',
          fails(/the copy overwrites an operand of a wgmma that thread 1\d\d has not waited for/),
        ],
        ['no_bytes_expected', fails(/row 0 of an operand is still being copied/)],
        ['bytes_past_the_copies', fails(/deadlock: .*threads 128-255 at a change of memory/)],
        ['bytes_past_the_count', fails(/an mbarrier counts up to 1048575 bytes, not 1048576/)],
        ['arrival_too_many', fails(/more threads arrive than the 1 the mbarrier counts/)],
        ['no_initialised_barrier', fails(/the mbarrier is not initialised/)],
        ['no_fence_of_barriers', fails(/initialised without mbarrier_fence_init/)],
        [
          'copy_off_the_pattern',
          fails(/the copy goes to offset 512, no multiple of the swizzle's 1024 bytes/),
        ],
        ['copy_past_the_end', fails(/the copy of 16384 bytes leaves the dynamic shared memory/)],
        ['copy_left_under_way', fails(/the block ended while 1 copies to its shared memory were under way/)],
        [
          'operand_off_the_pattern',
          fails(/an operand starts at address \d+, not in the first row of a pattern/),
        ],
        ['operand_without_swizzle', fails(/knows operands with the swizzle of 128 bytes/)],
        ['operand_by_stores', fails(/row 0 of an operand holds stores without a fence_proxy_async since/)],
        ['store_over_an_operand', fails(/row 3 of an operand holds stores .* has not been waited for/)],
        ['other_major', fails(/a K-major operand has the leading offset 8192 of an MN-major one/)],
        ['k_major_as_other', fails(/an MN-major operand's 64 columns are 16 bytes apart/)],
        ['other_operands', fails(/thread 130: the threads of a warpgroup issue different wgmma/)],
        ['no_wgmma_fence', fails(/wgmma without a wgmma_fence since its registers were free/)],
        ['sums_read_early', byNan],
        ['sums_written_early', fails(/the sums of a wgmma were written before it was waited for/)],
        [
          'fragment_written_early',
          fails(/the registers of A were written before their wgmma was waited for/),
        ],
        ['sums_not_waited_for', fails(/thread 128 ended without waiting for its wgmma/)],
        [
          'store_past_the_end',
          fails(/wrote outside the shared array 'dynamic shared memory'/, ILLEGAL_ADDRESS),
        ],
      ] as const
    ).map(([kernel, caught]) => ({ kernel, threads: 256, elements: 128 * 128, shared: 32800, caught })),
  ),
  ...inFile(
    'stores',
    (
      [
        ['no_fence_of_stores', fails(/row 0 of the box holds stores without a fence_proxy_async since/)],
        ['box_filled_too_early', fails(/a box was written before its store had read it/)],
        ['box_copied_over', fails(/the copy overwrites a box that is being stored/)],
        ['box_off_the_pattern', fails(/the box is at offset 512, no multiple of the swizzle's 1024/)],
        ['stores_not_waited_for', fails(/the block ended while thread 0 was storing boxes/)],
        ['stores_not_committed', fails(/the block ended while thread 0 was storing boxes/)],
      ] as const
    ).map(([kernel, caught]) => ({
      kernel,
      threads: 32,
      elements: 128 * 128,
      shared: 4104,
      boxRows: 16,
      caught,
    })),
  ),
  ...inFile(
    'cluster',
    (
      [
        ['no_sync_before', fails(/block 0, thread 0: the mbarrier is not initialised/)],
        ['no_sync_after', fails(/block \d of the cluster has ended/)],
        [
          'released_to_oneself_only',
          fails(/the copy overwrites an operand of a wgmma|another copy to the same bytes/),
        ],
        ['copy_by_one_block_only', fails(/deadlock: every thread of the launch waits/)],
        ['block_outside_the_cluster', fails(/the cluster has 2 blocks, no block 2/)],
      ] as const
    ).map(([kernel, caught]) => ({
      kernel,
      grid: 2,
      threads: 256,
      elements: 128 * 128,
      shared: 32800,
      boxRows: 64,
      caught,
    })),
  ),
  ...inFile(
    'registers',
    (
      [
        ['more_registers_than_there_are', fails(/deadlock: .*a change of memory \(registers\.cu:\d+\)/)],
        ['registers_of_some_warps', fails(/threads 0 and 32 of a warpgroup have 168 and 40 registers/)],
        ['fewer_registers_than_given', fails(/a thread with 168 registers keeps 176/)],
      ] as const
    ).map(([kernel, caught]) => ({ kernel, threads: 384, elements: 128 * 128, shared: 1024, caught })),
  ),
]
