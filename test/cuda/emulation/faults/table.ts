import { asyncFaults } from './async.ts'
import {
  address,
  byNan,
  byOrder,
  type Fault,
  fails,
  ILLEGAL_ADDRESS,
  inFile,
  LAUNCH_TIMEOUT,
  undefinedBehaviour,
} from './fault.ts'
import { pairFaults } from './pair.ts'
import { tcgen05Faults } from './tcgen05.ts'
import { tmemStoreFaults } from './tmem_store.ts'
import { walkerFaults } from './walker.ts'

export const faults: Fault[] = [
  ...inFile('barriers', [
    { kernel: 'no_barrier_before_read', grid: 2, threads: 64, caught: byOrder },
    { kernel: 'no_barrier_after_read', threads: 64, elements: 192, caught: byOrder },
    {
      kernel: 'barrier_in_branch',
      threads: 64,
      caught: fails(
        /divergent barrier: threads 0-31 at __syncthreads \(barriers\.cu:\d+\); threads 32-63 exited/,
      ),
    },
    {
      kernel: 'two_barriers',
      threads: 64,
      caught: fails(/divergent barrier: threads 0-31 at __syncthreads .*; threads 32-63 at __syncthreads/),
    },
    {
      kernel: 'return_before_barrier',
      threads: 64,
      caught: fails(/'return_before_barrier', block 0: divergent barrier: .*threads 40-63 exited/),
    },
    {
      kernel: 'barrier_in_uneven_loop',
      threads: 64,
      elements: 96,
      caught: fails(/divergent barrier: threads 0-31 at .*; threads 32-63 exited/),
    },
    { kernel: 'syncwarp_for_syncthreads', threads: 128, caught: byOrder },
  ]),
  ...inFile('warps', [
    {
      kernel: 'mask_without_caller',
      threads: 32,
      caught: fails(/thread 16: the lane mask does not contain the calling lane/),
    },
    {
      kernel: 'mask_of_absent_lanes',
      threads: 64,
      caught: fails(
        /threads 0-15, 32-47 at a shuffle of lanes 0xffffffff \(warps\.cu:\d+\); threads 16-31, 48-63 at __syncthreads/,
      ),
    },
    {
      kernel: 'shuffle_from_exited',
      threads: 32,
      caught: fails(/a shuffle of lanes 0xffffffff .*threads 20-31 exited/),
    },
    {
      kernel: 'shuffle_outside_mask',
      threads: 32,
      caught: fails(/lane 0 shuffles from lane 16, which takes no part/),
    },
    {
      kernel: 'partial_warp_reduction',
      threads: 48,
      caught: fails(/lane 0 shuffles from lane 16, which takes no part/),
    },
    {
      kernel: 'mixed_functions',
      threads: 32,
      caught: fails(/lanes call different warp functions under one mask/),
    },
    { kernel: 'warp_in_step', threads: 32, caught: byOrder },
    {
      kernel: 'odd_shuffle_width',
      threads: 32,
      caught: fails(/width is not a power of two up to 32 \(warps\.cu:\d+\)/),
    },
  ]),
  ...inFile('memory', [
    {
      kernel: 'read_past_end',
      grid: 16,
      threads: 64,
      caught: fails(
        /block 15, thread 63: read of address 0x\w+, 0 bytes past the end of a device allocation of 4096/,
        ILLEGAL_ADDRESS,
      ),
    },
    {
      kernel: 'write_past_end',
      grid: 2,
      threads: 64,
      caught: fails(
        /block 1, thread 63: write to address 0x\w+, 0 bytes past the end of a device allocation of 512/,
        ILLEGAL_ADDRESS,
      ),
    },
    {
      kernel: 'write_past_end',
      threads: 60,
      elements: 60,
      caught: fails(/'write_past_end' wrote just past a device allocation of 240 bytes/, ILLEGAL_ADDRESS),
    },
    {
      kernel: 'read_far_before_start',
      threads: 64,
      caught: fails(
        /thread 0: read of address 0x\w+, 4096 bytes before a device allocation/,
        ILLEGAL_ADDRESS,
      ),
    },
    { kernel: 'read_before_start', grid: 2, threads: 64, caught: byNan },
    {
      kernel: 'read_before_start',
      grid: 2,
      threads: 64,
      caught: address(/use-after-poison[\s\S]*READ of size 4[\s\S]*read_before_start/),
    },
    {
      kernel: 'write_before_start',
      grid: 2,
      threads: 64,
      caught: fails(
        /'write_before_start' wrote just before a device allocation of 512 bytes/,
        ILLEGAL_ADDRESS,
      ),
    },
    {
      kernel: 'read_past_end',
      threads: 60,
      elements: 60,
      caught: address(/use-after-poison[\s\S]*READ of size 4[\s\S]*read_past_end/),
    },
    { kernel: 'shared_past_end', threads: 64, caught: byNan },
    {
      kernel: 'shared_past_end',
      threads: 64,
      caught: address(/use-after-poison[\s\S]*READ of size 4[\s\S]*shared_past_end/),
    },
    {
      kernel: 'shared_write_past_end',
      threads: 64,
      caught: address(/use-after-poison[\s\S]*WRITE of size 4/),
    },
    {
      kernel: 'shared_write_past_end',
      threads: 64,
      caught: fails(/wrote outside the shared array 'tile'/, ILLEGAL_ADDRESS),
    },
    {
      kernel: 'too_much_shared',
      threads: 64,
      caught: fails(/with 'more', exceed the 48 KB of static shared memory/),
    },
    {
      kernel: 'misaligned_vector',
      threads: 16,
      elements: 64,
      caught: undefinedBehaviour(/misaligned address .* for type 'const struct float4'/),
    },
    { kernel: 'uninitialised_shared', threads: 64, caught: byNan },
    { kernel: 'uninitialised_global', threads: 64, caught: byNan },
    {
      kernel: 'offset_by_a_tensor',
      grid: 4,
      threads: 64,
      caught: fails(/block 0, thread 0: read of address 0x\w+, 0 bytes past the end/, ILLEGAL_ADDRESS),
    },
    {
      kernel: 'signed_overflow',
      threads: 64,
      caught: undefinedBehaviour(/signed integer overflow: 22 \* 100000000/),
    },
    { kernel: 'shift_too_far', threads: 64, caught: undefinedBehaviour(/shift exponent 32 is too large/) },
    { kernel: 'division_by_zero', threads: 64, caught: fails(/thread 5: integer division by zero/) },
  ]),
  ...inFile('ordering', [
    { kernel: 'race_between_blocks', grid: 8, threads: 32, caught: byOrder },
    { kernel: 'read_of_other_block', grid: 8, threads: 32, caught: byOrder },
    { kernel: 'order_of_atomics', threads: 64, caught: byOrder },
    {
      kernel: 'flag_never_raised',
      threads: 32,
      caught: fails(
        /deadlock: .*thread 0 at a change of memory \(ordering\.cu:\d+\); threads 1-31 at __syncthreads/,
      ),
    },
    {
      kernel: 'waits_beyond_residency',
      grid: 10,
      threads: 1024,
      caught: fails(/deadlock: every thread of the launch waits/),
    },
    {
      kernel: 'endless_loop',
      threads: 32,
      env: { EXACTMAP_EMULATED_TIMEOUT: '2' },
      caught: fails(/thread 0: the launch took longer than 2 seconds/, LAUNCH_TIMEOUT),
    },
  ]),
  ...asyncFaults,
  ...tcgen05Faults,
  ...pairFaults,
  ...tmemStoreFaults,
  ...walkerFaults,
]
