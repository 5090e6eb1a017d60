import type { OpCall } from '../../../src/ops/contract.ts'
import type { KernelChoice } from '../../backend.ts'
import { ropeThenKvWrite } from '../../rope_kv_write.ts'
import { roundingModules } from './conversion.ts'
import { foldGrid, type KernelRule } from './rule.ts'

const WORKGROUP = 64

/** Modules and constants of a kernel that writes to a cache, with `count` invocations. */
function cacheKernel(kernel: string, { attrs, inputs }: OpCall, count: number) {
  const format = inputs.k_pool!.format
  const { workgroups, gridX } = foldGrid(Math.ceil(count / WORKGROUP))
  return {
    variant: `${kernel}_${format}`,
    modules: [kernel, `lib/cache_words_${format}`, ...roundingModules[format]!],
    constants: {
      HEADS: attrs.heads,
      KV_HEADS: attrs.kv_heads,
      HEAD: attrs.head_dim / 4,
      PAGES: inputs.page_table!.shape[1]!,
      COUNT: count,
      GRID_X: gridX,
      WORKGROUP,
    },
    workgroups,
  }
}

const places = [
  { port: 'k_pool', access: 'read_write' },
  { port: 'v_pool', access: 'read_write' },
  { port: 'page_table', access: 'read' },
  { port: 'sequence', access: 'read' },
  { port: 'position', access: 'read' },
] as const

export const kv_write: KernelRule = (call) => {
  const { kv_heads, head_dim } = call.attrs
  const count = (call.inputs.qkv!.shape[0]! * kv_heads * head_dim) / 4
  return {
    launches: [
      {
        ...cacheKernel('kv_write', call, count),
        bindings: [{ port: 'qkv', access: 'read' }, ...places],
      },
    ],
  }
}

/**
 * One kernel where fours neither cross the halves of a rotation nor its end; else rope, then kv_write.
 *
 * @param choose the backend's kernels of another call
 */
export const ropeKvWrite =
  (choose: (call: OpCall, traits: Parameters<KernelRule>[1]) => KernelChoice): KernelRule =>
  (call, traits) => {
    const { attrs, inputs } = call
    const pairs = inputs.table!.shape[1]! / 2
    const interleaved = attrs.layout === 'interleaved'
    if (pairs % (interleaved ? 2 : 4) !== 0) return ropeThenKvWrite(call, (part) => choose(part, traits))
    const [rows, width] = inputs.qkv!.shape as [number, number]
    const kernel = cacheKernel('rope_kv_write', call, (rows * width) / 4)
    return {
      launches: [
        {
          ...kernel,
          constants: { ...kernel.constants, PAIRS: pairs, INTERLEAVED: Number(interleaved) },
          bindings: [{ port: 'qkv', access: 'read_write' }, { port: 'table', access: 'read' }, ...places],
        },
      ],
    }
  }
