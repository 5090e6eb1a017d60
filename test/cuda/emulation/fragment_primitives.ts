import {
  bf16FromNumber,
  bf16ToNumber,
  f16FromNumber,
  f16ToNumber,
  formatOf,
} from '../../../src/tensor/format.ts'
import { bytesOf, type Primitive, range, unwritten } from './primitive.ts'

/** 16 x 16 by 16 x 8, the right one column by column; whole numbers, so that sums are exact. */
function fragments(): Primitive {
  const a = range(16 * 16).map((i) => ((i * 29) % 13) - 6)
  const b = range(8 * 16).map((i) => ((i * 31) % 11) - 5)
  const encoded = (values: number[]): Uint8Array => bytesOf(Uint16Array.from(values, bf16FromNumber))
  return {
    file: 'fragments',
    kernel: 'multiply_fragments',
    name: 'multiply_fragments',
    buffers: { a: encoded(a), b: encoded(b), y: unwritten(16 * 8) },
    given: { a: 'a', b: 'b', y: 'y' },
    expected: {
      y: Float32Array.from({ length: 16 * 8 }, (_, i) => {
        const [m, n] = [Math.floor(i / 8), i % 8]
        return range(16).reduce((sum, k) => sum + a[m * 16 + k]! * b[n * 16 + k]!, 0)
      }),
    },
  }
}

const e4m3 = formatOf('e4m3')

/** All positive numbers of 16 bits that are finite in f16, and their bytes in e4m3. */
function decoded(): Primitive {
  const count = 0x7c00
  const all = [...e4m3.decode(Uint8Array.from(range(0x7f)), 0x7f)]
  return {
    file: 'fragments',
    kernel: 'decode_numbers',
    name: 'decode_numbers',
    grid: count / 256,
    buffers: { f16: unwritten(count), bf16: unwritten(count), e4m3: unwritten(count) },
    given: { f16: 'f16', bf16: 'bf16', e4m3: 'e4m3' },
    expected: {
      f16: Float32Array.from({ length: count }, (_, i) => f16ToNumber(i)),
      bf16: Float32Array.from({ length: count }, (_, i) => bf16ToNumber(i)),
      e4m3: Float32Array.from({ length: count }, (_, i) => all[i < 0x7f ? i : i >> 8]!),
    },
  }
}

/** Numbers of all sizes, halfway ones among them. */
function encoded(): Primitive {
  const pairs = 512
  const x = Float32Array.from({ length: 2 * pairs }, (_, i) => {
    const value = (1 + (i % 37) / 32 + (i % 3) / 4096) * 2 ** ((i % 41) - 24)
    return i % 2 === 0 ? value : -value
  })
  const pair = (encode: (x: number) => number, bits: number): Uint32Array =>
    Uint32Array.from({ length: pairs }, (_, i) => (encode(x[2 * i]!) | (encode(x[2 * i + 1]!) << bits)) >>> 0)
  return {
    file: 'fragments',
    kernel: 'encode_numbers',
    name: 'encode_numbers',
    grid: 2,
    buffers: { x: bytesOf(x), f16: unwritten(pairs), bf16: unwritten(pairs), e4m3: unwritten(pairs) },
    given: { x: 'x', f16: 'f16', bf16: 'bf16', e4m3: 'e4m3', pairs },
    expected: {
      f16: pair(f16FromNumber, 16),
      bf16: pair(bf16FromNumber, 16),
      e4m3: pair((v) => e4m3.encode(Float32Array.of(v))[0]!, 8),
    },
  }
}

export const fragmentPrimitives: readonly Primitive[] = [fragments(), decoded(), encoded()]
