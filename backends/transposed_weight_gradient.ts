import type { OpCall } from '../src/ops/contract.ts'
import { tensorType } from '../src/tensor/type.ts'
import type { KernelChoice } from './backend.ts'
import { inOrder } from './compose.ts'

/**
 * matmul_backward_weight of transposed operands where no kernel adds to what is there: the product of both, which is that
 * of matmul, and a launch that adds it to the accumulator.
 */
export function transposedWeightGradient(
  { inputs }: OpCall,
  choose: (call: OpCall) => KernelChoice,
): KernelChoice {
  const { accumulator, dy, x } = inputs
  const sum = tensorType('f32', ...accumulator!.shape)
  const product: OpCall = {
    op: 'matmul',
    attrs: { activation: 'none' },
    inputs: { x: dy!, w: x! },
    outputs: { y: sum },
  }
  const addition: OpCall = {
    op: 'accumulate',
    attrs: {},
    inputs: { accumulator: accumulator!, x: sum },
    outputs: { y: accumulator! },
  }
  return inOrder(
    [
      { choice: choose(product), places: { x: 'dy', w: 'x', y: 'sum' } },
      { choice: choose(addition), places: { x: 'sum' } },
    ],
    { sum },
  )
}
