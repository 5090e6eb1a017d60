import { ExactmapError } from '../errors.ts'
import { e4m3_128, mxfp8, nvfp4, q4_0, q8_0 } from './block_format.ts'
import {
  bf16FromNumber,
  bf16ToNumber,
  e4m3FromNumber,
  e4m3ToNumber,
  f16FromNumber,
  f16ToNumber,
} from './float_bits.ts'

export { bf16FromNumber, bf16ToNumber, f16FromNumber, f16ToNumber, roundEven } from './float_bits.ts'

/**
 * Storage formats: how the elements of a tensor lie in memory. Formats are types: the planner only asks for
 * `bytes`, kernels pick a `lib/weight_<format>.wgsl` module, and everything else goes through encode/decode.
 *
 * - f32, i32, u32: 4 bytes an element, little endian.
 * - f16, bf16: 2 bytes an element; two share a u32, the first in the low half.
 * - e4m3: 1 byte an element, as OFP8 has it (float_bits.ts): up to 448, no infinity.
 * - q8_0: blocks of 32 along the last dim. First all quants (int8, 4 to a u32), then all scales (f16, 2 to a
 *   u32): value = scale * quant, scale = max|x| / 127. Same values as GGUF's q8_0, planar instead of
 *   interleaved so that every load is aligned.
 * - q4_0: blocks of 32 along the last dim. First all quants (4 bits, 8 to a u32, element i of a block in
 *   nibble i), then all scales (f16): value = scale * (quant - 8), scale = (the value of largest magnitude) / -8.
 * - e4m3_128: blocks of 128 along the last dim. First all quants (e4m3), then all scales (f32): value = scale *
 *   quant, scale = max|x| / 448.
 * - mxfp8: blocks of 32 along the last dim. First all quants (e4m3), then all scales (E8M0, a byte): value = scale *
 *   quant, scale = 2^(floor(log2(max|x|)) - 8). As MX specification 1.0 has it; what is past 448 becomes 448.
 * - nvfp4: blocks of 16 along the last dim. First all quants (E2M1, 8 to a u32, element i of a block in nibble i),
 *   then all scales (e4m3), then, at a multiple of 4 bytes, the scale t of the whole tensor (f32): value = t * scale *
 *   quant, t = max|x| / (6 * 448), scale = (max|x| of the block) / (6 t).
 *
 * Buffers are padded with zeros to a multiple of 4 bytes. Every rounding is to nearest even; a quant is the nearest of
 * the exact quotient by the scale as it is stored (by t * scale rounded to f32). Where a block of e4m3_128 or mxfp8 has
 * an element that is not finite, all of it is NaN; a tensor of nvfp4, all of that. Their f32 scales are zero below
 * 2^-100.
 */
export type FormatName =
  | 'f32'
  | 'f16'
  | 'bf16'
  | 'e4m3'
  | 'i32'
  | 'u32'
  | 'q8_0'
  | 'q4_0'
  | 'e4m3_128'
  | 'mxfp8'
  | 'nvfp4'

export interface StorageFormat {
  readonly name: FormatName
  /** What an element stands for. */
  readonly kind: 'float' | 'integer'
  /** Elements per block along the last dim (1: plain elements). */
  readonly blockSize: number
  /** Bytes of a block, its scale included. */
  readonly blockBytes: number
  /** Bytes of a block's scale. Those of all blocks follow the quants of all blocks. */
  readonly scaleBytes: 0 | 1 | 2 | 4
  /** Bytes behind all blocks, at a multiple of 4: such a tensor has no parts of its own. */
  readonly tensorBytes: 0 | 4
  /** Encodes `count` values (row-major, last dim a multiple of blockSize). */
  encode(values: ArrayLike<number>): Uint8Array
  /** Decodes `count` values, all there are in a block format. */
  decode(bytes: Uint8Array, count: number): Float64Array
}

/** A copy that starts at offset 0 of its own buffer, also from a Node Buffer (whose `slice` is a view on a pool). */
const copyOf = (bytes: Uint8Array, from: number, to: number): Uint8Array<ArrayBuffer> =>
  new Uint8Array(bytes.subarray(from, to))

const pad4 = (bytes: number): number => (bytes + 3) & ~3

function typed(
  name: FormatName,
  kind: StorageFormat['kind'],
  make: { new (n: number): Float32Array | Int32Array | Uint32Array } & { BYTES_PER_ELEMENT: number },
): StorageFormat {
  return {
    name,
    kind,
    blockSize: 1,
    blockBytes: 4,
    scaleBytes: 0,
    tensorBytes: 0,
    encode(values) {
      const out = new make(values.length)
      for (let i = 0; i < values.length; i++) out[i] = values[i]!
      return new Uint8Array(out.buffer)
    },
    decode(bytes, count) {
      const copy = copyOf(bytes, 0, count * 4)
      const array =
        name === 'f32'
          ? new Float32Array(copy.buffer)
          : name === 'i32'
            ? new Int32Array(copy.buffer)
            : new Uint32Array(copy.buffer)
      return Float64Array.from(array)
    },
  }
}

function half(name: FormatName, to: (x: number) => number, from: (bits: number) => number): StorageFormat {
  return {
    name,
    kind: 'float',
    blockSize: 1,
    blockBytes: 2,
    scaleBytes: 0,
    tensorBytes: 0,
    encode(values) {
      const out = new Uint16Array(pad4(values.length * 2) / 2)
      for (let i = 0; i < values.length; i++) out[i] = to(values[i]!)
      return new Uint8Array(out.buffer)
    },
    decode(bytes, count) {
      const bits = new Uint16Array(copyOf(bytes, 0, count * 2).buffer)
      return Float64Array.from(bits, from)
    },
  }
}

const e4m3: StorageFormat = {
  name: 'e4m3',
  kind: 'float',
  blockSize: 1,
  blockBytes: 1,
  scaleBytes: 0,
  tensorBytes: 0,
  encode(values) {
    const out = new Uint8Array(pad4(values.length))
    for (let i = 0; i < values.length; i++) out[i] = e4m3FromNumber(values[i]!)
    return out
  },
  decode: (bytes, count) => Float64Array.from(bytes.subarray(0, count), e4m3ToNumber),
}

export const formats: Readonly<Record<FormatName, StorageFormat>> = {
  f32: typed('f32', 'float', Float32Array),
  i32: typed('i32', 'integer', Int32Array),
  u32: typed('u32', 'integer', Uint32Array),
  f16: half('f16', f16FromNumber, f16ToNumber),
  bf16: half('bf16', bf16FromNumber, bf16ToNumber),
  e4m3,
  q8_0,
  q4_0,
  e4m3_128,
  mxfp8,
  nvfp4,
}

/** Formats a weight matrix may be stored in. */
export const weightFormats = ['f32', 'f16', 'bf16', 'q8_0', 'q4_0', 'e4m3_128', 'mxfp8', 'nvfp4'] as const

export function formatOf(name: string): StorageFormat {
  const format = (formats as Record<string, StorageFormat>)[name]
  if (!format)
    throw new ExactmapError(
      'unsupported',
      `storage format '${name}' is not one of ${Object.keys(formats).join(', ')}`,
    )
  return format
}
