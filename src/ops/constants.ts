import { ExactmapError } from '../errors.ts'
import { elementCount, type TensorType } from '../tensor/type.ts'
import type { Attributes } from './contract.ts'

/** Tables that are made on the host when a program is loaded; a program stores only the recipe. */
export const generators: Readonly<
  Record<string, (attrs: Attributes) => { values: Float64Array; type: TensorType }>
> = {
  /** attrs { shape }: all zeros. */
  zeros: ({ shape }: { shape: number[] }) => ({
    values: new Float64Array(elementCount(shape)),
    type: { format: 'f32', shape },
  }),
  /** attrs { shape }: all ones. */
  ones: ({ shape }: { shape: number[] }) => ({
    values: new Float64Array(elementCount(shape)).fill(1),
    type: { format: 'f32', shape },
  }),
  /** attrs RopeTableAttributes: [positions, rotary_dim], cosines then sines. */
  rope_table: ropeTable,
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

function ropeTable(attrs: RopeTableAttributes): { values: Float64Array; type: TensorType } {
  const { positions, rotary_dim } = attrs
  const half = rotary_dim / 2
  const frequencies = ropeFrequencies(attrs)
  const values = new Float64Array(positions * rotary_dim)
  for (let p = 0; p < positions; p++)
    for (let i = 0; i < half; i++) {
      values[p * rotary_dim + i] = Math.cos(p * frequencies[i]!)
      values[p * rotary_dim + half + i] = Math.sin(p * frequencies[i]!)
    }
  return { values, type: { format: 'f32', shape: [positions, rotary_dim] } }
}

export function generateConstant(
  name: string,
  attrs: Attributes,
): { values: Float64Array; type: TensorType } {
  const make = Object.hasOwn(generators, name) ? generators[name] : undefined
  if (!make)
    throw new ExactmapError(
      'not_found',
      `no constant generator is named '${name}'; known: ${Object.keys(generators).join(', ')}`,
    )
  return make(attrs)
}
