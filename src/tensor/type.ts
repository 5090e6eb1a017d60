import { check } from '../errors.ts'
import { type FormatName, formatOf } from './format.ts'

/** Type of a tensor: static row-major shape and how its elements are stored. */
export interface TensorType {
  readonly shape: readonly number[]
  readonly format: FormatName
}

export const tensorType = (format: FormatName, ...shape: number[]): TensorType => ({ format, shape })

export const elementCount = (shape: readonly number[]): number => shape.reduce((a, b) => a * b, 1)

/** Size of the last dim (1 for a scalar). */
export const lastDim = (shape: readonly number[]): number => shape.at(-1) ?? 1

/** Number of rows: all dims but the last, multiplied. */
export const rowCount = (shape: readonly number[]): number => elementCount(shape.slice(0, -1))

/** Bytes of a tensor, blocks padded to a multiple of 4. */
export function byteSize(type: TensorType): number {
  const format = formatOf(type.format)
  const blocks = elementCount(type.shape) / format.blockSize
  return Math.ceil((blocks * format.blockBytes) / 4) * 4 + format.tensorBytes
}

/** Refuses empty, fractional or oversized dims and rows that a block format can't hold. */
export function checkType(type: TensorType, what: string): void {
  const { shape } = type
  check(
    shape.every((d) => Number.isSafeInteger(d) && d > 0) && elementCount(shape) < 2 ** 40,
    'invalid_shape',
    () => `${what}: every dim must be a positive integer, got [${shape.join(', ')}]`,
  )
  const { blockSize } = formatOf(type.format)
  check(
    lastDim(shape) % blockSize === 0,
    'invalid_shape',
    () =>
      `${what}: ${type.format} needs a last dim that is a multiple of ${blockSize}, got [${shape.join(', ')}]`,
  )
}

export const sameShape = (a: readonly number[], b: readonly number[]): boolean =>
  a.length === b.length && a.every((d, i) => d === b[i])

export const showType = (type: TensorType): string => `${type.format}[${type.shape.join(',')}]`
