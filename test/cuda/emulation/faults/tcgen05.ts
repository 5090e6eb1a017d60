import { byNan, type Fault, fails, inFile } from './fault.ts'

/** Faults with tensor memory and tcgen05. */
export const tcgen05Faults: Fault[] = inFile(
  'tcgen05',
  (
    [
      ['no_wait_for_copy', fails(/thread 128: row 0 of an operand (is still being copied|was not written)/)],
      [
        'arrival_for_commit',
        fails(/thread 160: the copy overwrites an operand of a tcgen05 operation of thread 128/),
      ],
      ['no_commit_of_stages', fails(/deadlock: .*thread 160 at a change of memory/)],
      ['no_wait_for_sums', fails(/under way writes|a product writes columns that others have used/)],
      ['no_fence_after_sums', fails(/tmem_load without a tcgen05_fence_after behind the wait/)],
      ['load_not_waited_for', fails(/a product writes columns that thread 0 loads and has not waited for/)],
      ['loaded_read_early', byNan],
      [
        'lanes_of_another_warp',
        fails(/the warp reaches lanes 0 to 31 only, not from lane 32 on \(tcgen05\.cu:\d+\)/),
      ],
      ['columns_not_taken', fails(/columns 64 to 191 of tensor memory were not taken/)],
      ['columns_not_freed', fails(/the block ended without freeing 128 columns of tensor memory/)],
      ['columns_freed_early', fails(/columns 0 to 31 of tensor memory were not taken/)],
      ['columns_no_power_of_two', fails(/taken in powers of two from 32 to 512, not 96/)],
      ['columns_taken_late', fails(/tmem_alloc after tmem_relinquish/)],
      [
        'columns_taken_by_a_lane',
        fails(/(divergent barrier|warp function without all its lanes).*thread 128 at/),
      ],
      ['no_wait_for_storing', fails(/under way writes|a product writes columns that thread \d+ loads/)],
      [
        'no_fence_before_storing_is_told',
        fails(/thread 128: .*that thread 0 has loaded without a tcgen05_fence_before since/),
      ],
      ['no_fence_after_storing', fails(/thread 128: .*others have used, without a tcgen05_fence_after/)],
      ['product_left_under_way', fails(/the block ended while 1 tcgen05 operations were under way/)],
      ['descriptor_of_another_format', fails(/the instruction descriptor's formats are not the product's/)],
      ['descriptor_of_64_rows', fails(/knows products of 128 rows, not 64/)],
      ['operand_off_the_pattern', fails(/starts at address \d+, not in the first row of a pattern/)],
      ['rows_as_columns', fails(/an operand's 64 columns are 16 bytes apart, no multiple of 1024/)],
      ['operand_without_swizzle', fails(/knows operands with the swizzle of 128 bytes/)],
      ['scales_without_fence', fails(/row 0 of an operand holds stores without a fence_proxy_async since/)],
    ] as const
  ).map(([kernel, caught]) => ({ kernel, threads: 192, elements: 128 * 128, shared: 33336, caught })),
)
