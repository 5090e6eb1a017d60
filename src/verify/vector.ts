import { check, ExactmapError } from '../errors.ts'
import { encodeSafetensors, memorySource, openSafetensors } from '../formats/safetensors.ts'
import { fillValues, seedOf } from '../ops/cases.ts'
import type { Attributes, Case, OpContract } from '../ops/contract.ts'
import { checkCall } from '../ops/index.ts'
import { formatOf } from '../tensor/format.ts'
import { elementCount, type TensorType } from '../tensor/type.ts'

/** Bytes of one port as they lie in memory. */
export interface VectorTensor {
  readonly type: TensorType
  readonly bytes: Uint8Array
}

/** A stored test vector: inputs and the float64 reference's outputs, rounded to each output's format. */
export interface Vector {
  readonly op: string
  readonly name: string
  readonly attrs: Attributes
  readonly inputs: Readonly<Record<string, VectorTensor>>
  /** Ports that are given the very tensor of another port. */
  readonly same: Readonly<Record<string, string>>
  readonly outputs: Readonly<Record<string, VectorTensor>>
  /** The kernels it is run with, where a target has several (`Target.variants`); what it chooses where there is none. */
  readonly variant?: string
}

/** Its case's name, with that of its variant. */
export const vectorName = ({ name, variant }: Pick<Vector, 'name' | 'variant'>): string =>
  variant === undefined ? name : `${name}@${variant}`

export const vectorId = (vector: Pick<Vector, 'op' | 'name' | 'variant'>): string =>
  `${vector.op}/${vectorName(vector)}`

export const decodeTensor = ({ type, bytes }: VectorTensor): Float64Array =>
  formatOf(type.format).decode(bytes, elementCount(type.shape))

/** Makes a vector from a contract's case: seeded inputs, outputs by the contract's float64 reference. */
export function makeVector(contract: OpContract, { name, attrs, inputs: specs }: Case): Vector {
  const inputs: Record<string, VectorTensor> = {}
  const same: Record<string, string> = {}
  for (const [port, spec] of Object.entries(specs)) {
    if (spec.fill.kind === 'same') {
      same[port] = spec.fill.as
      continue
    }
    const values = fillValues(spec, seedOf(`${contract.name}/${name}/${port}`))
    inputs[port] = {
      type: { format: spec.format, shape: spec.shape },
      bytes: formatOf(spec.format).encode(values),
    }
  }
  for (const [port, as] of Object.entries(same)) {
    check(
      inputs[as],
      'invalid_argument',
      `${contract.name}/${name}: port '${port}' repeats unknown port '${as}'`,
    )
    inputs[port] = inputs[as]!
  }
  const call = checkCall(
    contract,
    attrs,
    Object.fromEntries(Object.entries(inputs).map(([p, t]) => [p, t.type])),
  )
  const reference = contract.reference(
    call,
    Object.fromEntries(Object.entries(inputs).map(([p, t]) => [p, decodeTensor(t)])),
  )
  const outputs = Object.fromEntries(
    Object.entries(call.outputs).map(([port, type]) => [
      port,
      { type, bytes: formatOf(type.format).encode(reference[port]!) },
    ]),
  )
  return { op: contract.name, name, attrs: call.attrs, inputs, same, outputs }
}

const storedDtype = (type: TensorType): string =>
  ({ f32: 'F32', f16: 'F16', bf16: 'BF16', i32: 'I32', u32: 'U32' })[type.format as string] ?? 'U8'

/** Deterministic bytes of a vector as a safetensors file; types and attributes are in its metadata. */
export function encodeVector(vector: Vector): Uint8Array {
  const tensors: { name: string; dtype: string; shape: readonly number[]; bytes: Uint8Array }[] = []
  const types: Record<string, TensorType> = {}
  const add = (name: string, { type, bytes }: VectorTensor): void => {
    types[name] = { format: type.format, shape: type.shape }
    const dtype = storedDtype(type)
    const size = dtype === 'U8' ? bytes.length : elementCount(type.shape) * (dtype.endsWith('16') ? 2 : 4)
    tensors.push({ name, dtype, shape: dtype === 'U8' ? [size] : type.shape, bytes: bytes.subarray(0, size) })
  }
  for (const [port, tensor] of Object.entries(vector.inputs))
    if (!(port in vector.same)) add(`in.${port}`, tensor)
  for (const [port, tensor] of Object.entries(vector.outputs)) add(`out.${port}`, tensor)
  return encodeSafetensors(tensors, {
    op: vector.op,
    case: vector.name,
    attrs: JSON.stringify(vector.attrs),
    same: JSON.stringify(vector.same),
    types: JSON.stringify(types),
  })
}

/** Reads a stored vector; `what` names the file in errors. */
export async function decodeVector(bytes: Uint8Array, what: string): Promise<Vector> {
  const file = await openSafetensors(memorySource(bytes), what)
  const { op, case: name, attrs, same, types } = file.metadata
  if (!op || !name || !attrs || !same || !types)
    throw new ExactmapError(
      'invalid_format',
      'a test vector needs the metadata op, case, attrs, same and types',
      { file: what },
    )
  const parsedTypes = JSON.parse(types) as Record<string, TensorType>
  const read = async (prefix: string): Promise<Record<string, VectorTensor>> => {
    const out: Record<string, VectorTensor> = {}
    for (const [key, type] of Object.entries(parsedTypes)) {
      if (!key.startsWith(prefix)) continue
      const stored = await file.read(key)
      const padded = new Uint8Array((stored.length + 3) & ~3)
      padded.set(stored)
      out[key.slice(prefix.length)] = { type, bytes: padded }
    }
    return out
  }
  const inputs = await read('in.')
  const repeated = JSON.parse(same) as Record<string, string>
  for (const [port, as] of Object.entries(repeated)) inputs[port] = inputs[as]!
  return { op, name, attrs: JSON.parse(attrs), inputs, same: repeated, outputs: await read('out.') }
}
