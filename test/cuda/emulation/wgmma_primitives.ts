import { bf16FromNumber, f16FromNumber } from '../../../src/tensor/format.ts'
import { bytesOf, type Matrix, type Primitive, range, unwritten } from './primitive.ts'

type Major = 'k' | 'mn'
type Format = 'bf16' | 'f16' | 'e4m3'

/** Whole numbers up to 15 in e4m3: exponent with bias 7 and three bits behind the first. */
const e4m3 = (x: number): number => {
  if (x === 0) return 0
  const exponent = Math.floor(Math.log2(Math.abs(x)))
  return (x < 0 ? 128 : 0) | ((exponent + 7) << 3) | ((Math.abs(x) / 2 ** exponent - 1) * 8)
}

const encode: Readonly<Record<Format, (values: number[]) => Uint8Array>> = {
  bf16: (values) => bytesOf(Uint16Array.from(values, bf16FromNumber)),
  f16: (values) => bytesOf(Uint16Array.from(values, f16FromNumber)),
  e4m3: (values) => Uint8Array.from(values, e4m3),
}

// Small whole numbers: every product and sum is exact.
const left = (i: number): number => ((i * 29) % 13) - 6
const right = (i: number): number => ((i * 31) % 11) - 5

/** y[m][n] = twice the sum over k of a(m,k) b(n,k), where operands lie along k, or along m and n. */
function product(kernel: string, format: Format, aMajor: Major, bMajor: Major, columns: number): Primitive {
  const depth = format === 'e4m3' ? 128 : 64
  const operand = (rows: number, major: Major, value: (i: number) => number): Uint8Array =>
    encode[format](
      range(rows * depth).map((i) => value(major === 'k' ? i : (i % rows) * depth + Math.floor(i / rows))),
    )
  const matrix = (buffer: string, size: number, major: Major): Matrix =>
    major === 'k'
      ? { buffer, format, rows: size, width: depth, box: [size, depth] }
      : { buffer, format, rows: depth, width: size, box: [64, 64] }
  return {
    file: 'wgmma',
    kernel,
    name: kernel,
    buffers: {
      a: operand(64, aMajor, left),
      b: operand(columns, bMajor, right),
      y: unwritten(64 * columns),
    },
    given: { a: matrix('a', 64, aMajor), b: matrix('b', columns, bMajor), y: 'y' },
    expected: {
      y: Float32Array.from({ length: 64 * columns }, (_, i) => {
        const [m, n] = [Math.floor(i / columns), i % columns]
        return 2 * range(depth).reduce((sum, k) => sum + left(m * depth + k) * right(n * depth + k), 0)
      }),
    },
  }
}

/** The unit matrix, which threads have stored, times b^T. */
const stored: Primitive = {
  file: 'wgmma',
  kernel: 'stored_operand',
  name: 'stored_operand',
  buffers: { b: encode.bf16(range(64 * 64).map(right)), y: unwritten(64 * 64) },
  given: { b: { buffer: 'b', format: 'bf16', rows: 64, width: 64, box: [64, 64] }, y: 'y' },
  expected: {
    y: Float32Array.from({ length: 64 * 64 }, (_, i) => right((i % 64) * 64 + Math.floor(i / 64))),
  },
}

export const wgmmaPrimitives: readonly Primitive[] = [
  product('bf16_k_k_64', 'bf16', 'k', 'k', 64),
  product('bf16_k_k_128', 'bf16', 'k', 'k', 128),
  product('bf16_k_k_256', 'bf16', 'k', 'k', 256),
  product('bf16_k_mn_96', 'bf16', 'k', 'mn', 96),
  product('bf16_mn_k_64', 'bf16', 'mn', 'k', 64),
  product('bf16_mn_mn_192', 'bf16', 'mn', 'mn', 192),
  product('f16_mn_mn_256', 'f16', 'mn', 'mn', 256),
  product('bf16_registers_k_64', 'bf16', 'k', 'k', 64),
  product('bf16_registers_mn_128', 'bf16', 'k', 'mn', 128),
  product('e4m3_k_k_64', 'e4m3', 'k', 'k', 64),
  product('e4m3_k_k_192', 'e4m3', 'k', 'k', 192),
  stored,
]
