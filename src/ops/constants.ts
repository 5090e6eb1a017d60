import { z } from 'zod'
import { ExactmapError } from '../errors.ts'
import { elementCount, type TensorType } from '../tensor/type.ts'
import type { Attributes } from './contract.ts'
import { NORM_TILE } from './square_sums.ts'

/** A table that is made on the host when a program is loaded; a program stores only the recipe. */
interface ConstantGenerator {
  /** Schema of the recipe: programs come from files too. */
  readonly attributes: z.ZodType
  readonly format: 'f32' | 'u32'
  shape(attrs: Attributes): readonly number[]
  /** Row-major values. */
  values(attrs: Attributes): Float64Array
}

const MAX_U32 = 0xffffffff
const dim = z.number().int().positive()
const filled = (value: number): ConstantGenerator => ({
  attributes: z.strictObject({ shape: z.array(dim) }),
  format: 'f32',
  shape: ({ shape }) => shape,
  values: ({ shape }) => new Float64Array(elementCount(shape)).fill(value),
})

const generators: Readonly<Record<string, ConstantGenerator>> = {
  /** attrs { shape }: all zeros. */
  zeros: filled(0),
  /** attrs { shape }: all ones. */
  ones: filled(1),
  /** attrs RopeTableAttributes: [positions, rotary_dim], cosines then sines. */
  rope_table: {
    attributes: z.strictObject({
      positions: dim,
      rotary_dim: dim.multipleOf(2),
      base: z.number().positive(),
      scaling: z
        .discriminatedUnion('kind', [
          z.strictObject({ kind: z.literal('linear'), factor: z.number().positive() }),
          z.strictObject({
            kind: z.literal('llama3'),
            factor: z.number().positive(),
            low_freq_factor: z.number(),
            high_freq_factor: z.number(),
            original_max_position: z.number().positive(),
          }),
        ])
        .nullable(),
    }),
    format: 'f32',
    shape: ({ positions, rotary_dim }) => [positions, rotary_dim],
    values: ropeTable,
  },
  /** attrs { values }: u32 [k], for example ids of rows to gather. */
  indices: {
    attributes: z.strictObject({ values: z.array(z.int().min(0).max(MAX_U32)).min(1) }),
    format: 'u32',
    shape: ({ values }) => [values.length],
    values: ({ values }) => Float64Array.from(values),
  },
  /** attrs NormTilesAttributes: u32 [k, 2], start and count of every tile of square_sums. */
  norm_tiles: {
    attributes: z.strictObject({
      tensors: z.array(z.tuple([z.int().min(0).max(MAX_U32).multipleOf(64), dim.max(MAX_U32)])).min(1),
    }),
    format: 'u32',
    shape: (attrs) => [normTileCount(attrs), 2],
    values: normTiles,
  },
}

/** Offset and length in elements of tensors in a range, in the order in which their squares are summed. */
export interface NormTilesAttributes {
  readonly tensors: readonly (readonly [offset: number, count: number])[]
}

/** Tiles of all tensors: each starts a new one, so that they are the same however tensors are laid out. */
export const normTileCount = ({ tensors }: NormTilesAttributes): number =>
  tensors.reduce((sum, [, count]) => sum + Math.ceil(count / NORM_TILE), 0)

function normTiles(attrs: NormTilesAttributes): Float64Array {
  const values = new Float64Array(2 * normTileCount(attrs))
  let end = 0
  for (const [offset, count] of attrs.tensors)
    for (let at = 0; at < count; at += NORM_TILE) {
      values[end++] = offset + at
      values[end++] = Math.min(NORM_TILE, count - at)
    }
  return values
}

/** How rotary frequencies are stretched for contexts longer than the model was pretrained on. */
export type RopeScaling =
  | null
  | { readonly kind: 'linear'; readonly factor: number }
  | {
      readonly kind: 'llama3'
      readonly factor: number
      readonly low_freq_factor: number
      readonly high_freq_factor: number
      readonly original_max_position: number
    }

export interface RopeTableAttributes {
  readonly positions: number
  readonly rotary_dim: number
  readonly base: number
  readonly scaling: RopeScaling
}

/** Angle per position of each pair: base^(-2i / rotary_dim), scaled. Llama 3's rule is that of its model card. */
export function ropeFrequencies({
  rotary_dim,
  base,
  scaling,
}: Omit<RopeTableAttributes, 'positions'>): number[] {
  return Array.from({ length: rotary_dim / 2 }, (_, i) => {
    const frequency = base ** ((-2 * i) / rotary_dim)
    if (scaling === null) return frequency
    if (scaling.kind === 'linear') return frequency / scaling.factor
    const { factor, low_freq_factor: low, high_freq_factor: high, original_max_position } = scaling
    // Turns that the pair makes over the original context: many stay as they are, few are stretched in full.
    const turns = (original_max_position * frequency) / (2 * Math.PI)
    const kept = Math.min(1, Math.max(0, (turns - low) / (high - low)))
    return kept * frequency + ((1 - kept) * frequency) / factor
  })
}

function ropeTable(attrs: RopeTableAttributes): Float64Array {
  const { positions, rotary_dim } = attrs
  const half = rotary_dim / 2
  const frequencies = ropeFrequencies(attrs)
  const values = new Float64Array(positions * rotary_dim)
  for (let p = 0; p < positions; p++)
    for (let i = 0; i < half; i++) {
      values[p * rotary_dim + i] = Math.cos(p * frequencies[i]!)
      values[p * rotary_dim + half + i] = Math.sin(p * frequencies[i]!)
    }
  return values
}

/**
 * Type of a constant, known without making it.
 *
 * @throws ExactmapError `not_found` (no such generator), `invalid_argument` (names the attribute)
 */
export function constantType(name: string, attrs: Attributes): TensorType {
  const { attributes, format, shape } = generatorOf(name)
  const parsed = attributes.safeParse(attrs)
  if (!parsed.success) {
    const { path, message } = parsed.error.issues[0]!
    throw new ExactmapError(
      'invalid_argument',
      `constant ${name}: ${path.join('.') || 'attributes'}: ${message}`,
    )
  }
  return { format, shape: shape(attrs) }
}

/** Makes a constant. @throws as `constantType` */
export function generateConstant(
  name: string,
  attrs: Attributes,
): { values: Float64Array; type: TensorType } {
  return { type: constantType(name, attrs), values: generatorOf(name).values(attrs) }
}

function generatorOf(name: string): ConstantGenerator {
  const generator = Object.hasOwn(generators, name) ? generators[name] : undefined
  if (!generator)
    throw new ExactmapError(
      'not_found',
      `no constant generator is named '${name}'; known: ${Object.keys(generators).join(', ')}`,
    )
  return generator
}
