import { openModelFolder } from '../../../src/formats/model_folder.ts'
import { familyOf } from '../../../src/models/index.ts'
import type { LlamaConfig } from '../../../src/models/llama.ts'
import { readParameter } from '../../../src/models/weights.ts'
import type { Tensor, Tfjs } from './api.ts'

export interface Parameter {
  /** Matrices are [out, in]; q, k, v are one, and so are gate and up. */
  readonly name: string
  readonly shape: readonly number[]
  readonly values: Float32Array
}

/** A Llama's configuration and its weights as f32. */
export async function readLlama(
  folder: string,
): Promise<{ readonly config: LlamaConfig; readonly parameters: readonly Parameter[] }> {
  const opened = await openModelFolder(folder)
  const family = familyOf(opened.config)
  const config = family.parse(opened.config) as LlamaConfig
  const names = new Set(opened.weights.names())
  const parameters: Parameter[] = []
  for (const spec of family.parameters(config))
    parameters.push({
      name: spec.name,
      shape: spec.shape,
      values: await readParameter(spec, opened.weights, names),
    })
  await opened.close()
  return { config, parameters }
}

export interface Rope {
  /** [positions, heads and kv_heads * head_dim], as the rows they multiply: queries' hold the scale of scores too. */
  readonly cos: Tensor
  /** The same; negative in the first half of a head. */
  readonly sin: Tensor
  /** Each column's partner in the other half of its head. */
  readonly partner: Tensor
}

/** Rotation of queries and keys that lie side by side in a row: x cos + x[partner] sin, in few ops of whole rows. */
export function ropeTables(tf: Tfjs, { attention, rope }: LlamaConfig, positions: readonly number[]): Rope {
  const { heads, kv_heads, head_dim, scale } = attention
  const [half, width] = [head_dim / 2, (heads + kv_heads) * head_dim]
  const cos = new Float32Array(positions.length * width)
  const sin = new Float32Array(cos.length)
  const partner = new Int32Array(width)
  for (let column = 0; column < width; column++) {
    const d = column % head_dim
    partner[column] = d < half ? column + half : column - half
    const factor = column < heads * head_dim ? scale : 1
    positions.forEach((position, row) => {
      const angle = position * rope.base ** (-(d % half) / half)
      cos[row * width + column] = factor * Math.cos(angle)
      sin[row * width + column] = factor * (d < half ? -Math.sin(angle) : Math.sin(angle))
    })
  }
  return {
    cos: tf.tensor(cos, [positions.length, width]),
    sin: tf.tensor(sin, [positions.length, width]),
    partner: tf.tensor(partner, [width], 'int32'),
  }
}
