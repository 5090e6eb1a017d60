import { ExactmapError } from '../errors.ts'
import { elementCount, type TensorType } from '../tensor/type.ts'
import type { Attributes } from './contract.ts'

/** Tables that are made on the host when a program is loaded; a program stores only the recipe. */
export const generators: Readonly<Record<string, (attrs: Attributes) => { values: Float64Array; type: TensorType }>> = {
  /** attrs { shape }: all zeros. */
  zeros: ({ shape }: { shape: number[] }) => ({ values: new Float64Array(elementCount(shape)), type: { format: 'f32', shape } }),
  /** attrs { shape }: all ones. */
  ones: ({ shape }: { shape: number[] }) => ({
    values: new Float64Array(elementCount(shape)).fill(1),
    type: { format: 'f32', shape },
  }),
}

export function generateConstant(name: string, attrs: Attributes): { values: Float64Array; type: TensorType } {
  const make = Object.hasOwn(generators, name) ? generators[name] : undefined
  if (!make) throw new ExactmapError('not_found', `no constant generator is named '${name}'; known: ${Object.keys(generators).join(', ')}`)
  return make(attrs)
}
