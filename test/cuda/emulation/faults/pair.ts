import { type Fault, fails, inFile } from './fault.ts'

/** Faults of two blocks that multiply together. */
export const pairFaults: Fault[] = inFile(
  'pair',
  (
    [
      ['columns_before_both_started', fails(/a pair takes columns ahead of a cluster_sync/)],
      [
        'one_block_takes_columns',
        fails(/in the second block of the pair: columns 0 to 127 of tensor memory were not taken/),
      ],
      ['columns_for_one_block', fails(/cta_group::1 and cta_group::2 in one kernel/)],
      ['issued_by_second_block', fails(/what a pair does is issued by its first block/)],
      ['commit_to_one_block', fails(/cta_group::1 and cta_group::2 in one kernel/)],
      [
        'second_block_not_waited_for',
        fails(/in the second block of the pair: row 0 of an operand (is still being copied|was not written)/),
      ],
      ['half_not_brought', fails(/in the second block of the pair: row 0 of an operand was not written/)],
      ['bytes_for_own_barrier', fails(/deadlock: .*thread 128 at a change of memory/)],
      [
        'second_block_still_stores',
        fails(/a product writes columns that|under way writes|tmem_load without a tcgen05_fence_after/),
      ],
      ['rows_of_one_block', fails(/knows products of 256 rows, not 128/)],
      ['columns_of_one_block', fails(/a product has 32, 64 to 256 columns, not 48/)],
      ['pair_of_one', fails(/cta_group::2 in a block that has no other beside it/)],
    ] as const
  ).map(([kernel, caught]) => ({
    kernel,
    grid: 2,
    threads: 192,
    elements: 2 * 128 * 128,
    shared: 65592,
    caught,
  })),
)
