import type { HeadAttributes } from '../../../src/ops/attention_math.ts'
import { launchThreads } from './flat.ts'
import { formatNumbers } from './matmul_epilogue.ts'
import type { KernelRule } from './rule.ts'

export const kv_write: KernelRule = ({ attrs, inputs }) => {
  const { heads, kv_heads, head_dim } = attrs as HeadAttributes
  const rows = inputs.qkv!.shape[0]!
  return {
    launches: [
      launchThreads(
        'kv_write',
        `kv_write_${inputs.k_pool!.format}`,
        (rows * kv_heads * head_dim) / 4,
        [
          { port: 'qkv', access: 'read' },
          { port: 'k_pool', access: 'read_write' },
          { port: 'v_pool', access: 'read_write' },
          { port: 'page_table', access: 'read' },
          { port: 'sequence', access: 'read' },
          { port: 'position', access: 'read' },
        ],
        {
          qkv_format: formatNumbers[inputs.qkv!.format]!,
          rows,
          heads,
          kv_heads,
          head_packs: head_dim / 4,
          pages: inputs.page_table!.shape[1]!,
        },
      ),
    ],
  }
}
