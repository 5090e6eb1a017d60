import type { FormatName } from '../tensor/format.ts'
import { Philox } from '../tensor/philox.ts'
import { elementCount } from '../tensor/type.ts'
import type { CaseInput } from './contract.ts'

/** Bell-shaped values around `mean`. */
export const normal = (
  shape: readonly number[],
  scale = 1,
  format: FormatName = 'f32',
  mean = 0,
): CaseInput => ({
  shape,
  format,
  fill: { kind: 'normal', scale, mean },
})

export const uniform = (
  shape: readonly number[],
  low: number,
  high: number,
  format: FormatName = 'f32',
): CaseInput => ({
  shape,
  format,
  fill: { kind: 'uniform', low, high },
})

/** Integers in [low, high). */
export const integers = (
  shape: readonly number[],
  low: number,
  high: number,
  format: FormatName = 'u32',
): CaseInput => ({
  shape,
  format,
  fill: { kind: 'integers', low, high },
})

/** Exactly these values, repeated to fill the shape. */
export const values = (
  shape: readonly number[],
  list: readonly number[],
  format: FormatName = 'f32',
): CaseInput => ({
  shape,
  format,
  fill: { kind: 'values', values: list },
})

/** Rows of which those after the first `rows` are poisoned with NaN: what they hold may not matter. */
export const firstRows = (
  shape: readonly [rows: number, width: number],
  rows: number,
  scale = 1,
  format: FormatName = 'f32',
): CaseInput => ({ shape, format, fill: { kind: 'first_rows', scale, rows } })

/** Cache pages whose slots outside `live[page]` are poisoned with NaN: nothing may read them. */
export const pages = (
  shape: readonly [pages: number, heads: number, slots: number, dim: number],
  live: readonly (readonly [from: number, to: number])[],
  scale = 1,
  format: FormatName = 'f32',
): CaseInput => ({ shape, format, fill: { kind: 'pages', scale, live } })

/** The very tensor that another port is given. */
export const same = (input: CaseInput, as: string): CaseInput => ({ ...input, fill: { kind: 'same', as } })

/** FNV-1a over UTF-16 code units: the seed of a stream from its name. */
export function seedOf(text: string): number {
  let hash = 0x811c9dc5
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193) >>> 0
  return hash
}

/** Values of one input before they are rounded to its storage format. */
export function fillValues(input: CaseInput, seed: number): Float64Array {
  const out = new Float64Array(elementCount(input.shape))
  const random = new Philox(seed)
  const { fill } = input
  for (let i = 0; i < out.length; i++) {
    if (fill.kind === 'normal') out[i] = fill.mean + fill.scale * random.normal()
    else if (fill.kind === 'uniform') out[i] = fill.low + (fill.high - fill.low) * random.uniform()
    else if (fill.kind === 'integers') out[i] = fill.low + random.integer(fill.high - fill.low)
    else if (fill.kind === 'values') out[i] = fill.values[i % fill.values.length]!
    else if (fill.kind === 'first_rows')
      out[i] = i < fill.rows * (out.length / input.shape[0]!) ? fill.scale * random.normal() : Number.NaN
    else if (fill.kind === 'pages') {
      const [count, , slots, dim] = input.shape as [number, number, number, number]
      const [from, to] = fill.live[Math.floor(i / (out.length / count))]!
      const slot = Math.floor(i / dim) % slots
      out[i] = slot >= from && slot < to ? fill.scale * random.normal() : Number.NaN
    }
  }
  return out
}
