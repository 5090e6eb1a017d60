import { check, ExactmapError } from '../errors.ts'

/**
 * Storage formats: how the elements of a tensor lie in memory. Formats are types: the planner only asks for
 * `bytes`, kernels pick a `lib/weight_<format>.wgsl` module, and everything else goes through encode/decode.
 *
 * - f32, i32, u32: 4 bytes an element, little endian.
 * - f16, bf16: 2 bytes an element; two share a u32, the first in the low half.
 * - q8_0: blocks of 32 along the last dim. First all quants (int8, 4 to a u32), then all scales (f16, 2 to a
 *   u32): value = scale * quant, scale = max|x| / 127. Same values as GGUF's q8_0, planar instead of
 *   interleaved so that every load is aligned.
 * - q4_0: blocks of 32 along the last dim. First all quants (4 bits, 8 to a u32, element i of a block in
 *   nibble i), then all scales (f16): value = scale * (quant - 8), scale = (the value of largest magnitude) / -8.
 *
 * Buffers are padded with zeros to a multiple of 4 bytes. Every rounding is to nearest even.
 */
export type FormatName = 'f32' | 'f16' | 'bf16' | 'i32' | 'u32' | 'q8_0' | 'q4_0'

export interface StorageFormat {
  readonly name: FormatName
  /** What an element stands for. */
  readonly kind: 'float' | 'integer'
  /** Elements per block along the last dim (1: plain elements). */
  readonly blockSize: number
  /** Bytes of a block, scales included. */
  readonly blockBytes: number
  /** Encodes `count` values (row-major, last dim a multiple of blockSize). */
  encode(values: ArrayLike<number>): Uint8Array
  /** Decodes the first `count` values. */
  decode(bytes: Uint8Array, count: number): Float64Array
}

const f32Scratch = new Float32Array(1)
const u32Scratch = new Uint32Array(f32Scratch.buffer)

/** f32 (rounded from the double given) to f16 bits, round to nearest even, subnormals kept. */
export function f16FromNumber(value: number): number {
  f32Scratch[0] = value
  const bits = u32Scratch[0]!
  const sign = (bits >>> 16) & 0x8000
  const magnitude = bits & 0x7fffffff
  if (magnitude > 0x7f800000) return sign | 0x7e00 // NaN
  if (magnitude >= 0x477ff000) return sign | 0x7c00 // rounds to infinity
  if (magnitude >= 0x38800000) {
    const rounded = magnitude - 0x38000000 + 0xfff + ((magnitude >>> 13) & 1)
    return sign | (rounded >>> 13)
  }
  if (magnitude < 0x33000000) return sign
  const shift = 126 - (magnitude >>> 23)
  const mantissa = (magnitude & 0x7fffff) | 0x800000
  const half = 2 ** (shift - 1)
  const quotient = mantissa >>> shift
  const rest = mantissa - quotient * 2 ** shift
  return sign | (quotient + (rest > half || (rest === half && (quotient & 1) === 1) ? 1 : 0))
}

export function f16ToNumber(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1
  const exponent = (bits >>> 10) & 31
  const mantissa = bits & 1023
  if (exponent === 0) return sign * mantissa * 2 ** -24
  if (exponent === 31) return mantissa ? Number.NaN : sign * Number.POSITIVE_INFINITY
  return sign * (1024 + mantissa) * 2 ** (exponent - 25)
}

/** f32 (rounded from the double given) to bf16 bits, round to nearest even. */
export function bf16FromNumber(value: number): number {
  f32Scratch[0] = value
  const bits = u32Scratch[0]!
  if ((bits & 0x7fffffff) > 0x7f800000) return (bits >>> 16) | 0x40
  return ((bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16) & 0xffff
}

export function bf16ToNumber(bits: number): number {
  u32Scratch[0] = (bits << 16) >>> 0
  return f32Scratch[0]!
}

/** Rounds to the nearest integer, ties to even. */
export function roundEven(x: number): number {
  const floor = Math.floor(x)
  const rest = x - floor
  if (rest !== 0.5) return rest < 0.5 ? floor : floor + 1
  return floor % 2 === 0 ? floor : floor + 1
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

/** Planar block format: quants of all blocks, then f16 scales of all blocks. */
function planar(
  name: FormatName,
  bits: 8 | 4,
  scaleOf: (block: ArrayLike<number>, start: number) => number,
  quantOf: (x: number, scale: number) => number,
  bias: number,
): StorageFormat {
  const blockSize = 32
  const quantBytes = (blockSize * bits) / 8
  return {
    name,
    kind: 'float',
    blockSize,
    blockBytes: quantBytes + 2,
    encode(values) {
      check(
        values.length % blockSize === 0,
        'invalid_shape',
        `${name} needs a multiple of ${blockSize} elements, got ${values.length}`,
      )
      const blocks = values.length / blockSize
      const out = new Uint8Array(pad4(blocks * (quantBytes + 2)))
      const scales = new Uint16Array(out.buffer, blocks * quantBytes, blocks)
      const f32 = Float32Array.from(values)
      for (let b = 0; b < blocks; b++) {
        const scaleBits = f16FromNumber(scaleOf(f32, b * blockSize))
        scales[b] = scaleBits
        const scale = f16ToNumber(scaleBits)
        for (let i = 0; i < blockSize; i++) {
          const quant = scale === 0 ? bias : quantOf(f32[b * blockSize + i]!, scale)
          if (bits === 8) out[b * quantBytes + i] = quant & 0xff
          else out[b * quantBytes + (i >> 1)]! |= quant << (4 * (i & 1))
        }
      }
      return out
    },
    decode(bytes, count) {
      const blocks = count / blockSize
      const scales = new Uint16Array(copyOf(bytes, blocks * quantBytes, blocks * (quantBytes + 2)).buffer)
      const out = new Float64Array(count)
      for (let b = 0; b < blocks; b++) {
        const scale = f16ToNumber(scales[b]!)
        for (let i = 0; i < blockSize; i++) {
          const byte = bytes[b * quantBytes + (bits === 8 ? i : i >> 1)]!
          const quant = bits === 8 ? (byte << 24) >> 24 : ((byte >> (4 * (i & 1))) & 15) - bias
          out[b * blockSize + i] = scale * quant
        }
      }
      return out
    },
  }
}

const clamp = (x: number, low: number, high: number): number => Math.min(high, Math.max(low, x))

function largest(block: ArrayLike<number>, start: number): number {
  let best = 0
  for (let i = start; i < start + 32; i++) if (Math.abs(block[i]!) > Math.abs(best)) best = block[i]!
  return best
}

export const formats: Readonly<Record<FormatName, StorageFormat>> = {
  f32: typed('f32', 'float', Float32Array),
  i32: typed('i32', 'integer', Int32Array),
  u32: typed('u32', 'integer', Uint32Array),
  f16: half('f16', f16FromNumber, f16ToNumber),
  bf16: half('bf16', bf16FromNumber, bf16ToNumber),
  q8_0: planar(
    'q8_0',
    8,
    (b, s) => Math.abs(largest(b, s)) / 127,
    (x, d) => clamp(roundEven(x / d), -127, 127),
    0,
  ),
  q4_0: planar(
    'q4_0',
    4,
    (b, s) => largest(b, s) / -8,
    (x, d) => clamp(roundEven(x / d) + 8, 0, 15),
    8,
  ),
}

/** Formats a weight matrix may be stored in. */
export const weightFormats = ['f32', 'f16', 'bf16', 'q8_0', 'q4_0'] as const

export function formatOf(name: string): StorageFormat {
  const format = (formats as Record<string, StorageFormat>)[name]
  if (!format)
    throw new ExactmapError(
      'unsupported',
      `storage format '${name}' is not one of ${Object.keys(formats).join(', ')}`,
    )
  return format
}
