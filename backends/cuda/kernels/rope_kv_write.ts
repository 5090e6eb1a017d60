import type { OpCall } from '../../../src/ops/contract.ts'
import type { KernelChoice } from '../../backend.ts'
import { ropeThenKvWrite } from '../../rope_kv_write.ts'
import { formatNumber, launchThreads } from './flat.ts'

/** One kernel where packs of four neither cross the halves of a rotation nor its end; else rope, then kv_write. */
export function ropeKvWrite(call: OpCall, choose: (call: OpCall) => KernelChoice): KernelChoice {
  const { attrs, inputs } = call
  const half = inputs.table!.shape[1]! / 2
  const interleaved = attrs.layout === 'interleaved'
  if (half % (interleaved ? 2 : 4) !== 0) return ropeThenKvWrite(call, choose)
  const [rows, width] = inputs.qkv!.shape as [number, number]
  return {
    launches: [
      launchThreads(
        'rope_kv_write',
        `rope_kv_write_${inputs.k_pool!.format}`,
        (rows * width) / 4,
        [
          { port: 'qkv', access: 'read_write' },
          { port: 'table', access: 'read' },
          { port: 'k_pool', access: 'read_write' },
          { port: 'v_pool', access: 'read_write' },
          { port: 'page_table', access: 'read' },
          { port: 'sequence', access: 'read' },
          { port: 'position', access: 'read' },
        ],
        {
          format: formatNumber(inputs.qkv!),
          rows,
          heads: attrs.heads,
          kv_heads: attrs.kv_heads,
          head_packs: attrs.head_dim / 4,
          pages: inputs.page_table!.shape[1]!,
          half,
          interleaved: Number(interleaved),
        },
      ),
    ],
  }
}
