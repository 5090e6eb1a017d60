import { type FormatName, formatOf } from '../../../src/tensor/format.ts'
import { byteSize, type TensorType } from '../../../src/tensor/type.ts'
import type { TargetLimits } from '../../backend.ts'

/** Rows of a matrix that one launch binds. */
export interface WeightPart {
  readonly first: number
  readonly rows: number
  /** Range of the elements, relative to the tensor; absent: the whole tensor. */
  readonly range?: { readonly offset: number; readonly bytes: number }
  /** Block formats in parts: the range of the scales, and how many scales before the part's first it holds. */
  readonly scales?: { readonly offset: number; readonly bytes: number; readonly skip: number }
}

const gcd = (a: number, b: number): number => (b === 0 ? a : gcd(b, a % b))
const lcm = (a: number, b: number): number => (a / gcd(a, b)) * b

/**
 * Splits a matrix [rows, width] into runs of rows that fit the largest binding and start at an aligned offset.
 * Every run but the last is a multiple of `step` rows. A string says why it can't be done.
 */
export function weightParts(type: TensorType, limits: TargetLimits, step = 1): WeightPart[] | string {
  const [rows, width] = type.shape as readonly [number, number]
  if (byteSize(type) <= limits.maxBindingSize) return [{ first: 0, rows }]
  const { blockSize, blockBytes, scaleBytes, tensorBytes } = formatOf(type.format)
  if (tensorBytes > 0)
    return `${byteSize(type)} bytes exceed the largest binding, ${limits.maxBindingSize} bytes, and ${type.format} has one scale for all of them`
  const blocks = width / blockSize
  const rowBytes = blocks * (blockBytes - scaleBytes)
  const align = limits.bindingAlignment
  const unit = lcm(step, align / gcd(rowBytes, align))
  const most = Math.floor(limits.maxBindingSize / rowBytes / unit) * unit
  if (most === 0)
    return `${unit} rows of ${rowBytes} bytes (the least that keeps parts aligned) exceed the largest binding, ${limits.maxBindingSize} bytes`
  const parts: WeightPart[] = []
  for (let first = 0; first < rows; first += most) {
    const count = Math.min(most, rows - first)
    const range = { offset: first * rowBytes, bytes: (count * rowBytes + 3) & ~3 }
    if (scaleBytes === 0) {
      parts.push({ first, rows: count, range })
      continue
    }
    const start = rows * rowBytes + first * blocks * scaleBytes
    const offset = Math.floor(start / align) * align
    if (offset < range.offset + range.bytes)
      return `quants and scales of rows ${first} to ${first + count - 1} share ${align} aligned bytes and can't be bound apart`
    const bytes = (start + count * blocks * scaleBytes - offset + 3) & ~3
    parts.push({ first, rows: count, range, scales: { offset, bytes, skip: (start - offset) / scaleBytes } })
  }
  return parts
}

/** Modules of a block format: how its scales are stored, and what that or its quants need. */
const blockModules: Partial<Record<FormatName, readonly string[]>> = {
  q8_0: ['lib/scale_f16'],
  q4_0: ['lib/scale_f16'],
  e4m3_128: ['lib/scale_f32', 'lib/unpack_e4m3'],
  mxfp8: ['lib/scale_e8m0', 'lib/unpack_e4m3'],
  nvfp4: ['lib/scale_e4m3', 'lib/unpack_e4m3'],
}

/**
 * Modules and constants that give load_weight4 (or multiply_chunk, with `chunk_*`) for one part. They are told how many
 * words are bound: of an array of unknown length a driver looks the length up at each access.
 */
export function weightModules(
  module: string,
  type: TensorType,
  part: WeightPart,
  scalesBinding: number,
): { modules: string[]; constants: Record<string, number> } {
  // Bindings are padded to 16 bytes.
  const bytes = part.range?.bytes ?? byteSize(type)
  const constants = { WEIGHT_WORDS: Math.ceil(bytes / 16) * 4 }
  const { blockSize, blockBytes, scaleBytes, tensorBytes } = formatOf(type.format)
  if (blockSize === 1) return { modules: [module], constants }
  const modules = [module, ...blockModules[type.format]!]
  if (part.scales)
    return {
      modules: [...modules, 'lib/scales_bound'],
      constants: { ...constants, SCALES_BINDING: scalesBinding, SCALES_SKIP: part.scales.skip },
    }
  const [rows, width] = type.shape as readonly [number, number]
  return {
    modules: [...modules, 'lib/scales_inline'],
    constants: {
      ...constants,
      SCALES_WORD: (rows * (width / blockSize) * (blockBytes - scaleBytes)) / 4,
      ...(tensorBytes > 0 ? { TENSOR_SCALE_WORD: byteSize(type) / 4 - 1 } : {}),
    },
  }
}
