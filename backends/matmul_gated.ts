import type { OpCall } from '../src/ops/contract.ts'
import { gateCall, sumsCall } from '../src/ops/matmul_gated.ts'
import type { KernelChoice } from './backend.ts'
import { inOrder } from './compose.ts'

/** matmul_gated as matmul, then swiglu or geglu, where no kernel does both. */
export function matmulThenGate(call: OpCall, choose: (call: OpCall) => KernelChoice): KernelChoice {
  const sums = sumsCall(call)
  return inOrder(
    [
      { choice: choose(sums), places: { y: 'sums' } },
      { choice: choose(gateCall(call)), places: { x: 'sums' } },
    ],
    { sums: sums.outputs.y! },
  )
}
