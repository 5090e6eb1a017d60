import { formatOf } from '../../../src/tensor/format.ts'
import type { WeightFormat } from '../../suite/works.ts'
import type { Initializer, Node } from './onnx.ts'

/** Elements of a block that has a scale of its own. */
const BLOCK = 32

export interface Linear {
  readonly node: Node
  readonly initializers: Readonly<Record<string, Initializer>>
}

/** Matrix [rows, columns] to [columns, rows], by squares that stay in the cache. */
function transposed(from: Float32Array, rows: number, columns: number): Float32Array {
  const to = new Float32Array(from.length)
  const square = 32
  for (let top = 0; top < rows; top += square)
    for (let left = 0; left < columns; left += square)
      for (let r = top; r < Math.min(rows, top + square); r++)
        for (let c = left; c < Math.min(columns, left + square); c++)
          to[c * rows + r] = from[r * columns + c]!
  return to
}

/** What it computes with f32 inputs: f16 weights are widened, since its f16 MatMul sums in f16. */
export type LinearFormat = Exclude<WeightFormat, 'f16'>

/**
 * y = x w^T with w[columns, depth] as onnxruntime holds a linear layer: MatMul of [depth, columns], or MatMulNBits whose
 * values are those of the format. Accuracy level 4 lets it round activations to 8 bits, as its own model builder asks for
 * WebGPU.
 */
export function linear(
  x: string,
  y: string,
  format: LinearFormat,
  w: Float32Array,
  depth: number,
  columns: number,
): Linear {
  const name = `${y}.weight`
  if (format === 'f32') {
    const data = transposed(w, columns, depth)
    return {
      node: { op: 'MatMul', inputs: [x, name], outputs: [y] },
      initializers: { [name]: { type: 'float32', dims: [depth, columns], data } },
    }
  }
  const bits = format === 'q8_0' ? 8 : 4
  const { scales, quants } = blocksOf(format, bits, w)
  const blocks = depth / BLOCK
  return {
    node: {
      op: 'MatMulNBits',
      domain: 'com.microsoft',
      inputs: [x, name, `${y}.scales`],
      outputs: [y],
      attributes: { K: depth, N: columns, bits, block_size: BLOCK, accuracy_level: 4 },
    },
    initializers: {
      [name]: { type: 'uint8', dims: [columns, blocks, (BLOCK * bits) / 8], data: quants },
      [`${y}.scales`]: { type: 'float32', dims: [columns, blocks], data: scales },
    },
  }
}

/** Quants without sign, around 128 or 8, and scales. */
function blocksOf(
  format: 'q8_0' | 'q4_0',
  bits: 8 | 4,
  w: Float32Array,
): { quants: Uint8Array; scales: Float32Array } {
  const bytes = formatOf(format).encode(w)
  const count = (w.length * bits) / 8
  const quants = bytes.slice(0, count)
  if (bits === 8) for (let i = 0; i < count; i++) quants[i]! ^= 128
  return {
    quants,
    scales: Float32Array.from(formatOf('f16').decode(bytes.subarray(count), w.length / BLOCK)),
  }
}
