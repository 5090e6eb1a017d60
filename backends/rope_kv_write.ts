import type { OpCall } from '../src/ops/contract.ts'
import { kvWriteCall, ropeCall } from '../src/ops/rope_kv_write.ts'
import type { KernelChoice } from './backend.ts'
import { inOrder } from './compose.ts'

/** rope_kv_write as rope, then kv_write, where no kernel does both. */
export const ropeThenKvWrite = (call: OpCall, choose: (call: OpCall) => KernelChoice): KernelChoice =>
  inOrder(
    [
      { choice: choose(ropeCall(call)), places: { x: 'qkv', positions: 'position' } },
      { choice: choose(kvWriteCall(call)), places: {} },
    ],
    {},
  )
