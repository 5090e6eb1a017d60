import { check } from '../errors.ts'
import {
  e2m1FromNumber,
  e2m1ToNumber,
  e4m3FromNumber,
  e4m3ToNumber,
  e8m0ToNumber,
  exponentOf,
  f16FromNumber,
  f16ToNumber,
  roundEven,
} from './float_bits.ts'
import type { StorageFormat } from './format.ts'

/** How a planar block format stores its numbers. Codes are unsigned; numbers given are f32. */
interface Planar {
  readonly name: StorageFormat['name']
  readonly blockSize: number
  /** Of a quant. */
  readonly bits: 8 | 4
  readonly scaleBytes: 1 | 2 | 4
  /** What scales are chosen by: of a block (of a tensor), NaN if it has one. */
  largest(values: Float32Array, from: number, to: number): number
  /** The scale of all scales, for formats that have one. */
  tensorScale?(largest: number): number
  scaleCode(largest: number, tensorScale: number): number
  scaleOf(code: number): number
  /** The nearest quant of x / scale. */
  quantCode(x: number, scale: number): number
  quantOf(code: number): number
  /** The quant 0. */
  readonly zero: number
}

/** Planar block format: quants of all blocks, then scales of all blocks, then after padding the tensor's scale. */
function planar(of: Planar): StorageFormat {
  const { name, blockSize, bits, scaleBytes } = of
  const quantBytes = (blockSize * bits) / 8
  const blockBytes = quantBytes + scaleBytes
  const tensorBytes = of.tensorScale ? 4 : 0
  const bytesOf = (blocks: number): number => ((blocks * blockBytes + 3) & ~3) + tensorBytes
  return {
    name,
    kind: 'float',
    blockSize,
    blockBytes,
    scaleBytes,
    tensorBytes,
    encode(values) {
      check(
        values.length % blockSize === 0,
        'invalid_shape',
        `${name} needs a multiple of ${blockSize} elements, got ${values.length}`,
      )
      const blocks = values.length / blockSize
      const out = new Uint8Array(bytesOf(blocks))
      const view = new DataView(out.buffer)
      const f32 = Float32Array.from(values)
      const ofTensor = of.tensorScale?.(of.largest(f32, 0, f32.length)) ?? 1
      if (of.tensorScale) view.setFloat32(out.length - 4, ofTensor, true)
      for (let b = 0; b < blocks; b++) {
        const start = b * blockSize
        const code = of.scaleCode(of.largest(f32, start, start + blockSize), ofTensor)
        writeCode(view, blocks * quantBytes + b * scaleBytes, scaleBytes, code)
        const scale = Math.fround(of.scaleOf(code) * ofTensor)
        const usable = scale !== 0 && Number.isFinite(scale)
        for (let i = 0; i < blockSize; i++) {
          const quant = usable ? of.quantCode(f32[start + i]!, scale) : of.zero
          if (bits === 8) out[b * quantBytes + i] = quant
          else out[b * quantBytes + (i >> 1)]! |= quant << (4 * (i & 1))
        }
      }
      return out
    },
    decode(bytes, count) {
      const blocks = count / blockSize
      const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
      const ofTensor = of.tensorScale ? view.getFloat32(bytesOf(blocks) - 4, true) : 1
      const out = new Float64Array(count)
      for (let b = 0; b < blocks; b++) {
        const code = readCode(view, blocks * quantBytes + b * scaleBytes, scaleBytes)
        const scale = of.scaleOf(code) * ofTensor
        for (let i = 0; i < blockSize; i++) {
          const byte = bytes[b * quantBytes + (bits === 8 ? i : i >> 1)]!
          out[b * blockSize + i] = scale * of.quantOf(bits === 8 ? byte : (byte >> (4 * (i & 1))) & 15)
        }
      }
      return out
    },
  }
}

function writeCode(view: DataView, at: number, bytes: 1 | 2 | 4, code: number): void {
  if (bytes === 1) view.setUint8(at, code)
  else if (bytes === 2) view.setUint16(at, code, true)
  else view.setUint32(at, code, true)
}

const readCode = (view: DataView, at: number, bytes: 1 | 2 | 4): number =>
  bytes === 1 ? view.getUint8(at) : bytes === 2 ? view.getUint16(at, true) : view.getUint32(at, true)

const clamp = (x: number, low: number, high: number): number => Math.min(high, Math.max(low, x))

/** The first element of largest magnitude, with its sign. */
function largestSigned(values: Float32Array, from: number, to: number): number {
  let best = 0
  for (let i = from; i < to; i++) if (Math.abs(values[i]!) > Math.abs(best)) best = values[i]!
  return best
}

function largestMagnitude(values: Float32Array, from: number, to: number): number {
  let best = 0
  for (let i = from; i < to; i++) best = Math.max(best, Math.abs(values[i]!))
  return best
}

const f32Scratch = new Float32Array(1)
const u32Scratch = new Uint32Array(f32Scratch.buffer)

/**
 * A scale in f32: NaN where x is not finite, zero below 2^-100, so that whoever multiplies by it never meets a
 * subnormal number.
 */
function f32Scale(x: number): number {
  if (!Number.isFinite(x)) return Number.NaN
  const scale = Math.fround(x)
  return scale < 2 ** -100 ? 0 : scale
}

export const q8_0 = planar({
  name: 'q8_0',
  blockSize: 32,
  bits: 8,
  scaleBytes: 2,
  largest: largestSigned,
  scaleCode: (largest) => f16FromNumber(Math.abs(largest) / 127),
  scaleOf: f16ToNumber,
  quantCode: (x, scale) => clamp(roundEven(x / scale), -127, 127) & 0xff,
  quantOf: (code) => (code << 24) >> 24,
  zero: 0,
})

export const q4_0 = planar({
  name: 'q4_0',
  blockSize: 32,
  bits: 4,
  scaleBytes: 2,
  largest: largestSigned,
  scaleCode: (largest) => f16FromNumber(largest / -8),
  scaleOf: f16ToNumber,
  quantCode: (x, scale) => clamp(roundEven(x / scale) + 8, 0, 15),
  quantOf: (code) => code - 8,
  zero: 8,
})

export const e4m3_128 = planar({
  name: 'e4m3_128',
  blockSize: 128,
  bits: 8,
  scaleBytes: 4,
  largest: largestMagnitude,
  scaleCode(largest) {
    f32Scratch[0] = f32Scale(largest / 448)
    return u32Scratch[0]!
  },
  scaleOf(code) {
    u32Scratch[0] = code
    return f32Scratch[0]!
  },
  quantCode: (x, scale) => e4m3FromNumber(x / scale),
  quantOf: e4m3ToNumber,
  zero: 0,
})

/** The smallest power of two that is a normal f32, as E8M0; smaller ones are read, never written. */
const LEAST_E8M0 = 1

export const mxfp8 = planar({
  name: 'mxfp8',
  blockSize: 32,
  bits: 8,
  scaleBytes: 1,
  largest: largestMagnitude,
  // 448 is 1.75 x 2^8.
  scaleCode: (largest) =>
    !Number.isFinite(largest)
      ? 0xff
      : largest === 0
        ? LEAST_E8M0
        : Math.max(LEAST_E8M0, exponentOf(largest) - 8 + 127),
  scaleOf: e8m0ToNumber,
  quantCode: (x, scale) => e4m3FromNumber(x / scale),
  quantOf: e4m3ToNumber,
  zero: 0,
})

export const nvfp4 = planar({
  name: 'nvfp4',
  blockSize: 16,
  bits: 4,
  scaleBytes: 1,
  largest: largestMagnitude,
  tensorScale: (largest) => f32Scale(largest / (6 * 448)),
  scaleCode: (largest, tensorScale) =>
    tensorScale > 0 ? e4m3FromNumber(largest / Math.fround(6 * tensorScale)) : 0,
  scaleOf: e4m3ToNumber,
  quantCode: (x, scale) => e2m1FromNumber(x / scale),
  quantOf: e2m1ToNumber,
  zero: 0,
})
