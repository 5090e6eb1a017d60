import { normal, uniform, values } from './cases.ts'
import type { Case } from './contract.ts'
import type { MatmulAttributes } from './matmul.ts'

const none: MatmulAttributes = { activation: 'none' }

/** Cases of matmul: every format, every kernel and the edges of its tiles. */
export const matmulCases: readonly Case<MatmulAttributes>[] = [
  { name: 'one', attrs: none, inputs: { x: normal([1, 1]), w: normal([1, 1]) } },
  {
    name: 'one_row_prime',
    attrs: none,
    inputs: { x: normal([1, 7]), w: normal([11, 7]), bias: normal([11]) },
  },
  {
    name: 'scalar_bias_residual',
    attrs: none,
    inputs: { x: normal([5, 13]), w: normal([7, 13]), bias: normal([7]), residual: normal([5, 7]) },
  },
  { name: 'scalar_past_tile', attrs: none, inputs: { x: normal([9, 37]), w: normal([67, 37]) } },
  {
    name: 'scalar_f16_odd_rows',
    attrs: { activation: 'silu' },
    inputs: { x: normal([3, 61]), w: normal([17, 61], 0.2, 'f16'), bias: normal([17], 1, 'bf16') },
  },
  {
    name: 'scalar_bf16_odd_rows',
    attrs: none,
    inputs: { x: normal([6, 51]), w: normal([13, 51], 1, 'bf16') },
  },
  // One row
  {
    name: 'vector_small',
    attrs: none,
    inputs: { x: normal([1, 12]), w: normal([9, 12]), bias: normal([9]) },
  },
  {
    name: 'vector_f32',
    attrs: { activation: 'gelu_tanh' },
    inputs: {
      x: normal([1, 192]),
      w: normal([37, 192], 0.1),
      bias: normal([37]),
      residual: normal([1, 37]),
    },
  },
  { name: 'vector_many_outputs', attrs: none, inputs: { x: normal([1, 32]), w: normal([1027, 32]) } },
  {
    name: 'vector_f16',
    attrs: { activation: 'silu' },
    inputs: { x: normal([1, 256]), w: normal([21, 256], 0.1, 'f16'), bias: normal([21], 1, 'f16') },
  },
  {
    name: 'vector_f16_half_chunk',
    attrs: none,
    inputs: { x: normal([1, 60]), w: normal([13, 60], 1, 'f16') },
  },
  {
    name: 'vector_f16_subnormal',
    attrs: none,
    inputs: { x: normal([1, 128]), w: normal([9, 128], 2e-6, 'f16') },
  },
  { name: 'vector_bf16', attrs: none, inputs: { x: normal([1, 264]), w: normal([10, 264], 1, 'bf16') } },
  { name: 'vector_q8_0', attrs: none, inputs: { x: normal([1, 1056]), w: normal([6, 1056], 1, 'q8_0') } },
  {
    name: 'vector_q8_0_short',
    attrs: none,
    inputs: { x: normal([1, 32]), w: normal([19, 32], 1, 'q8_0') },
  },
  {
    name: 'vector_q4_0',
    attrs: none,
    inputs: { x: normal([1, 2080]), w: normal([5, 2080], 1, 'q4_0'), residual: normal([1, 5]) },
  },
  { name: 'vector_q4_0_short', attrs: none, inputs: { x: normal([1, 96]), w: normal([7, 96], 1, 'q4_0') } },
  // A few rows
  {
    name: 'skinny_bf16',
    attrs: { activation: 'silu' },
    inputs: {
      x: normal([8, 840]),
      w: normal([37, 840], 0.1, 'bf16'),
      bias: normal([37]),
      residual: normal([8, 37]),
    },
  },
  {
    name: 'skinny_bf16_16_rows',
    attrs: none,
    inputs: { x: normal([13, 296]), w: normal([70, 296], 1, 'bf16') },
  },
  {
    name: 'skinny_bf16_32_rows',
    attrs: { activation: 'gelu_tanh' },
    inputs: { x: normal([29, 328]), w: normal([131, 328], 0.1, 'bf16'), residual: normal([29, 131]) },
  },
  {
    name: 'skinny_f16',
    attrs: none,
    inputs: { x: normal([9, 136]), w: normal([35, 136], 1, 'f16'), bias: normal([35], 1, 'f16') },
  },
  { name: 'skinny_q8_0', attrs: none, inputs: { x: normal([6, 1120]), w: normal([40, 1120], 1, 'q8_0') } },
  {
    name: 'skinny_q8_0_32_rows',
    attrs: none,
    inputs: { x: normal([32, 96]), w: normal([129, 96], 1, 'q8_0') },
  },
  {
    name: 'skinny_q4_0',
    attrs: { activation: 'silu' },
    inputs: { x: normal([8, 1184]), w: normal([33, 1184], 0.1, 'q4_0'), residual: normal([8, 33]) },
  },
  {
    name: 'skinny_q4_0_16_rows',
    attrs: none,
    inputs: { x: normal([16, 160]), w: normal([65, 160], 1, 'q4_0') },
  },
  {
    name: 'skinny_e4m3_128',
    attrs: none,
    inputs: { x: normal([7, 1152]), w: normal([33, 1152], 1, 'e4m3_128'), bias: normal([33]) },
  },
  {
    name: 'skinny_q4_0_three_rows',
    attrs: none,
    inputs: { x: normal([3, 288]), w: normal([17, 288], 1, 'q4_0') },
  },
  // Two rows and more
  {
    name: 'tile_small',
    attrs: none,
    inputs: { x: normal([2, 3, 8]), w: normal([9, 8]), bias: normal([9]), residual: normal([2, 3, 9]) },
  },
  { name: 'tile_two_rows', attrs: none, inputs: { x: normal([2, 64]), w: normal([33, 64]) } },
  {
    name: 'tile_past_edges',
    attrs: { activation: 'gelu_tanh' },
    inputs: {
      x: normal([17, 68]),
      w: normal([131, 68], 0.2),
      bias: normal([131]),
      residual: normal([17, 131]),
    },
  },
  { name: 'tile_full', attrs: none, inputs: { x: normal([68, 128]), w: normal([256, 128]) } },
  {
    name: 'tile_full_past_edges',
    attrs: { activation: 'silu' },
    inputs: { x: normal([65, 256]), w: normal([131, 256], 0.1, 'q4_0'), residual: normal([65, 131]) },
  },
  {
    name: 'tile_f16',
    attrs: { activation: 'silu' },
    inputs: { x: normal([19, 52]), w: normal([67, 52], 0.2, 'f16'), bias: normal([67]) },
  },
  { name: 'tile_bf16', attrs: none, inputs: { x: normal([35, 192]), w: normal([65, 192], 1, 'bf16') } },
  {
    name: 'tile_q8_0',
    attrs: none,
    inputs: { x: normal([7, 96]), w: normal([65, 96], 1, 'q8_0'), residual: normal([7, 65]) },
  },
  { name: 'tile_q8_0_many', attrs: none, inputs: { x: normal([35, 96]), w: normal([67, 96], 1, 'q8_0') } },
  { name: 'tile_q4_0', attrs: none, inputs: { x: normal([18, 160]), w: normal([37, 160], 1, 'q4_0') } },
  { name: 'large_magnitude', attrs: none, inputs: { x: normal([5, 128], 1e6), w: normal([40, 128], 1e6) } },
  {
    name: 'activation_saturated',
    attrs: { activation: 'gelu_tanh' },
    inputs: { x: normal([4, 128], 30), w: normal([16, 128], 30) },
  },
  {
    name: 'silu_saturated',
    attrs: { activation: 'silu' },
    inputs: { x: uniform([4, 128], 0, 10), w: normal([16, 128], 10) },
  },
  { name: 'zeros', attrs: none, inputs: { x: values([3, 32], [0]), w: values([16, 32], [0], 'q4_0') } },
  // Weights in blocks of small floats
  {
    name: 'vector_e4m3_128',
    attrs: none,
    inputs: { x: normal([1, 256]), w: normal([7, 256], 1, 'e4m3_128'), bias: normal([7]) },
  },
  { name: 'vector_mxfp8', attrs: none, inputs: { x: normal([1, 608]), w: normal([6, 608], 1, 'mxfp8') } },
  {
    name: 'vector_nvfp4',
    attrs: { activation: 'silu' },
    inputs: { x: normal([1, 144]), w: normal([9, 144], 0.2, 'nvfp4'), residual: normal([1, 9]) },
  },
  {
    name: 'tile_e4m3_128',
    attrs: none,
    inputs: { x: normal([9, 256]), w: normal([37, 256], 1, 'e4m3_128') },
  },
  {
    name: 'tile_e4m3_128_many',
    attrs: none,
    inputs: { x: normal([34, 128]), w: normal([35, 128], 1, 'e4m3_128') },
  },
  { name: 'tile_mxfp8', attrs: none, inputs: { x: normal([18, 96]), w: normal([65, 96], 1, 'mxfp8') } },
  {
    name: 'tile_nvfp4',
    attrs: none,
    inputs: { x: normal([7, 176]), w: normal([66, 176], 1, 'nvfp4'), residual: normal([7, 66]) },
  },
  // Both operands in blocks of e4m3
  {
    name: 'both_e4m3_128_one_row',
    attrs: { activation: 'none', output: 'bf16' },
    inputs: { x: normal([1, 256], 1, 'e4m3_128'), w: normal([18, 256], 0.2, 'e4m3_128') },
  },
  {
    name: 'both_e4m3_128_small',
    attrs: none,
    inputs: { x: normal([3, 128], 1, 'e4m3_128'), w: normal([9, 128], 1, 'e4m3_128'), bias: normal([9]) },
  },
  {
    name: 'both_e4m3_128_past_edges',
    attrs: { activation: 'gelu_tanh' },
    inputs: {
      x: normal([2, 67, 256], 1, 'e4m3_128'),
      w: normal([133, 256], 0.05, 'e4m3_128'),
      bias: normal([133], 1, 'bf16'),
      residual: normal([2, 67, 133]),
    },
  },
  {
    name: 'both_e4m3_128_deep',
    attrs: { activation: 'silu', output: 'bf16' },
    inputs: {
      x: normal([5, 1408], 1, 'e4m3_128'),
      w: normal([24, 1408], 0.1, 'e4m3_128'),
      bias: normal([24]),
    },
  },
  {
    name: 'both_e4m3_128_wide',
    attrs: { activation: 'none', output: 'f16' },
    inputs: { x: normal([5, 128], 1, 'e4m3_128'), w: normal([390, 128], 1, 'e4m3_128') },
  },
  {
    name: 'both_e4m3_128_large_magnitude',
    attrs: none,
    inputs: { x: normal([6, 256], 1e6, 'e4m3_128'), w: normal([40, 256], 1e-6, 'e4m3_128') },
  },
  // Both operands in the block formats of Blackwell's tensor cores
  {
    name: 'both_mxfp8_past_edges',
    attrs: { activation: 'gelu_tanh', output: 'bf16' },
    inputs: {
      x: normal([67, 256], 1, 'mxfp8'),
      w: normal([198, 256], 0.1, 'mxfp8'),
      bias: normal([198], 1, 'bf16'),
    },
  },
  {
    name: 'both_mxfp8_deep',
    attrs: none,
    inputs: {
      x: normal([5, 1408], 1, 'mxfp8'),
      w: normal([18, 1408], 1, 'mxfp8'),
      residual: normal([5, 18]),
    },
  },
  {
    name: 'both_mxfp8_odd_depth',
    attrs: none,
    inputs: { x: normal([6, 96], 1, 'mxfp8'), w: normal([9, 96], 1, 'mxfp8'), bias: normal([9]) },
  },
  {
    name: 'both_mxfp8_one_row',
    attrs: { activation: 'silu', output: 'f16' },
    inputs: { x: normal([1, 160], 1, 'mxfp8'), w: normal([6, 160], 0.2, 'mxfp8') },
  },
  {
    name: 'both_nvfp4_two_rows',
    attrs: none,
    inputs: { x: normal([2, 176], 1, 'nvfp4'), w: normal([7, 176], 1, 'nvfp4'), bias: normal([7]) },
  },
  {
    name: 'both_nvfp4_past_edges',
    attrs: { activation: 'silu', output: 'bf16' },
    inputs: {
      x: normal([2, 67, 256], 1, 'nvfp4'),
      w: normal([198, 256], 0.1, 'nvfp4'),
      bias: normal([198]),
    },
  },
  {
    name: 'both_nvfp4_deep',
    attrs: none,
    inputs: {
      x: normal([5, 1536], 1, 'nvfp4'),
      w: normal([19, 1536], 1, 'nvfp4'),
      residual: normal([5, 19]),
    },
  },
  {
    name: 'both_nvfp4_odd_depth',
    attrs: none,
    inputs: { x: normal([6, 144], 1, 'nvfp4'), w: normal([9, 144], 1, 'nvfp4') },
  },
  {
    name: 'both_nvfp4_large_magnitude',
    attrs: none,
    inputs: { x: normal([5, 256], 1e6, 'nvfp4'), w: normal([40, 256], 1e-6, 'nvfp4') },
  },
  // Both operands in 16 bits
  {
    name: 'both_bf16_one_row',
    attrs: { activation: 'silu', output: 'bf16' },
    inputs: { x: normal([1, 72], 1, 'bf16'), w: normal([34, 72], 0.2, 'bf16'), bias: normal([34]) },
  },
  {
    name: 'both_f16_two_rows',
    attrs: none,
    inputs: { x: normal([2, 60], 1, 'f16'), w: normal([19, 60], 1, 'f16'), residual: normal([2, 19]) },
  },
  {
    name: 'both_bf16_odd_depth',
    attrs: { activation: 'none', output: 'bf16' },
    inputs: { x: normal([7, 51], 1, 'bf16'), w: normal([18, 51], 1, 'bf16') },
  },
  {
    name: 'both_f16_odd_depth',
    attrs: { activation: 'gelu_tanh', output: 'f16' },
    inputs: { x: normal([5, 37], 1, 'f16'), w: normal([66, 37], 0.2, 'f16') },
  },
  {
    name: 'both_bf16_half_chunk',
    attrs: { activation: 'none', output: 'bf16' },
    inputs: { x: normal([67, 76], 1, 'bf16'), w: normal([66, 76], 1, 'bf16'), residual: normal([67, 66]) },
  },
  {
    name: 'both_f16_half_chunk',
    attrs: { activation: 'silu' },
    inputs: {
      x: normal([19, 52], 1, 'f16'),
      w: normal([67, 52], 0.2, 'f16'),
      bias: normal([67], 1, 'f16'),
    },
  },
  {
    name: 'both_bf16_past_edges',
    attrs: { activation: 'gelu_tanh' },
    inputs: {
      x: normal([131, 200], 1, 'bf16'),
      w: normal([133, 200], 0.1, 'bf16'),
      bias: normal([133], 1, 'bf16'),
      residual: normal([131, 133]),
    },
  },
  {
    name: 'both_f16_past_edges',
    attrs: { activation: 'silu', output: 'f16' },
    inputs: { x: normal([2, 35, 136], 1, 'f16'), w: normal([130, 136], 0.1, 'f16'), bias: normal([130]) },
  },
  {
    name: 'both_bf16_deep',
    attrs: { activation: 'none', output: 'bf16' },
    inputs: {
      x: normal([5, 1304], 1, 'bf16'),
      w: normal([24, 1304], 1, 'bf16'),
      residual: normal([5, 24]),
    },
  },
  {
    name: 'both_bf16_wide',
    attrs: { activation: 'none', output: 'bf16' },
    inputs: { x: normal([5, 8], 1, 'bf16'), w: normal([17024, 8], 1, 'bf16') },
  },
  {
    name: 'both_f16_wide',
    attrs: { activation: 'none', output: 'f16' },
    inputs: {
      x: normal([5, 8], 1, 'f16'),
      w: normal([17024, 8], 1, 'f16'),
      bias: normal([17024], 1, 'f16'),
    },
  },
  {
    name: 'both_f16_subnormal',
    attrs: none,
    inputs: { x: normal([6, 64], 2e-6, 'f16'), w: normal([9, 64], 1, 'f16') },
  },
  {
    name: 'both_bf16_large_magnitude',
    attrs: none,
    inputs: { x: normal([5, 128], 1e6, 'bf16'), w: normal([40, 128], 1e6, 'bf16') },
  },
  // x in bf16, w in quants
  {
    name: 'bf16_q4_0_one_row',
    attrs: { activation: 'none', output: 'bf16' },
    inputs: { x: normal([1, 416], 1, 'bf16'), w: normal([34, 416], 1, 'q4_0'), bias: normal([34]) },
  },
  {
    name: 'bf16_q4_0_past_rows',
    attrs: none,
    inputs: { x: normal([67, 96], 1, 'bf16'), w: normal([131, 96], 1, 'q4_0'), residual: normal([67, 131]) },
  },
  {
    name: 'bf16_q8_0_deep',
    attrs: { activation: 'silu' },
    inputs: { x: normal([13, 1120], 1, 'bf16'), w: normal([7, 1120], 0.1, 'q8_0') },
  },
  {
    name: 'bf16_e4m3_128',
    attrs: { activation: 'none', output: 'bf16' },
    inputs: { x: normal([29, 128], 1, 'bf16'), w: normal([34, 128], 1, 'e4m3_128') },
  },
  {
    name: 'bf16_q4_0_64_rows',
    attrs: { activation: 'silu', output: 'bf16' },
    inputs: { x: normal([37, 256], 1, 'bf16'), w: normal([134, 256], 0.1, 'q4_0'), bias: normal([134]) },
  },
  {
    name: 'bf16_q4_0_ranges',
    attrs: none,
    inputs: { x: normal([33, 768], 1, 'bf16'), w: normal([19, 768], 1, 'q4_0'), residual: normal([33, 19]) },
  },
  {
    name: 'bf16_q8_0_row_tiles',
    attrs: none,
    inputs: { x: normal([2, 65, 128], 1, 'bf16'), w: normal([18, 128], 1, 'q8_0') },
  },
  {
    name: 'bf16_q8_0_64_rows',
    attrs: { activation: 'none', output: 'bf16' },
    inputs: { x: normal([64, 384], 1, 'bf16'), w: normal([18, 384], 1, 'q8_0') },
  },
  {
    name: 'bf16_e4m3_128_64_rows',
    attrs: none,
    inputs: {
      x: normal([35, 256], 1, 'bf16'),
      w: normal([70, 256], 1, 'e4m3_128'),
      residual: normal([35, 70]),
    },
  },
]
