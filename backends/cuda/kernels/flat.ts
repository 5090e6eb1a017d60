import type { TensorType } from '../../../src/tensor/type.ts'
import type { LaunchPlan } from '../../backend.ts'
import { formatNumbers } from './matmul_epilogue.ts'
import { launch } from './rule.ts'

/** How many elements one access takes in a row of `width`: kernels named `<op>_1` and `<op>_4`. */
export const packOf = (width: number): 1 | 4 => (width % 4 === 0 ? 4 : 1)

/** A launch of blocks of 256 threads, so that there are at least `threads`. */
export const launchThreads = (
  module: string,
  kernel: string,
  threads: number,
  bindings: LaunchPlan['bindings'],
  constants: Readonly<Record<string, number>>,
): LaunchPlan => launch(module, kernel, Math.ceil(threads / 256), bindings, constants)

/** The number of a tensor's format, for with_format of kernels-cuda/lib/stored.h. */
export const formatNumber = ({ format }: TensorType): number => formatNumbers[format]!
