import { formatOf } from '../../../src/tensor/format.ts'
import { roundingModules } from './conversion.ts'
import { foldGrid, type KernelRule } from './rule.ts'

const WORKGROUP = 64

export const kv_write: KernelRule = ({ attrs, inputs }) => {
  const { heads, kv_heads, head_dim } = attrs
  const format = inputs.k_pool!.format
  const words = (inputs.qkv!.shape[0]! * kv_heads * head_dim * formatOf(format).blockBytes) / 4
  const { workgroups, gridX } = foldGrid(Math.ceil(words / WORKGROUP))
  return {
    launches: [
      {
        variant: `kv_write_${format}`,
        modules: ['kv_write', `lib/kv_word_${format}`, ...roundingModules[format]!],
        constants: {
          HEADS: heads,
          KV_HEADS: kv_heads,
          HEAD_DIM: head_dim,
          PAGES: inputs.page_table!.shape[1]!,
          WORDS: words,
          GRID_X: gridX,
          WORKGROUP,
        },
        workgroups,
        bindings: [
          { port: 'qkv', access: 'read' },
          { port: 'k_pool', access: 'read_write' },
          { port: 'v_pool', access: 'read_write' },
          { port: 'page_table', access: 'read' },
          { port: 'sequence', access: 'read' },
          { port: 'position', access: 'read' },
        ],
      },
    ],
  }
}
