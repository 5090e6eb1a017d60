import { byNan, type Fault, fails, inFile } from './fault.ts'

/** Faults with what threads store to tensor memory. */
export const tmemStoreFaults: Fault[] = inFile(
  'tmem_store',
  (
    [
      [
        'store_not_waited_for',
        fails(/thread 128: a product reads columns that thread 0 stores and has not waited/),
      ],
      ['store_never_waited_for', fails(/thread 0 ended without a tmem_wait_stores for its tmem_store/)],
      [
        'no_fence_before_stores_are_told',
        fails(/thread 128: .*reads columns that thread 0 has stored without a tcgen05_fence_before since/),
      ],
      [
        'no_fence_after_stores',
        fails(/thread 128: .*reads columns that others have stored, without a tcgen05_fence_after/),
      ],
      [
        'no_commit_of_product',
        fails(/tmem_store to columns that a tcgen05 operation under way uses: nobody has waited/),
      ],
      ['no_fence_after_product', fails(/tmem_store without a tcgen05_fence_after behind the wait/)],
      [
        'store_to_lanes_of_another_warp',
        fails(/the warp reaches lanes 0 to 31 only, not from lane 32 on \(tmem_store\.cu:\d+\)/),
      ],
      ['store_to_columns_not_taken', fails(/columns 256 to 271 of tensor memory were not taken/)],
      ['store_to_loaded_columns', fails(/tmem_store to columns that the thread loads and has not waited/)],
      ['left_operand_not_stored', byNan],
      ['left_operand_in_another_lane', fails(/the left operand starts in lane 32, not 0/)],
    ] as const
  ).map(([kernel, caught]) => ({ kernel, threads: 160, elements: 128 * 128, shared: 16416, caught })),
)
