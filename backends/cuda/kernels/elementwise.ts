import { byteSize, elementCount, lastDim } from '../../../src/tensor/type.ts'
import type { LaunchPlan } from '../../backend.ts'
import { formatNumber, launchThreads, packOf } from './flat.ts'
import type { KernelRule } from './rule.ts'

/** A kernel over flat ranges of 4-byte words, four a thread. */
const flat = (
  module: string,
  kernel: string,
  count: number,
  bindings: LaunchPlan['bindings'],
  constants: Readonly<Record<string, number>> = {},
): { launches: LaunchPlan[] } => ({
  launches: [launchThreads(module, kernel, Math.ceil(count / 4), bindings, { ...constants, count })],
})

const activation =
  (bindings: LaunchPlan['bindings']): KernelRule =>
  ({ op, inputs: { x } }) =>
    flat('activation', op, elementCount(x!.shape), bindings, { format: formatNumber(x!) })

const unary = activation([
  { port: 'x', access: 'read' },
  { port: 'y', access: 'write' },
])

const unaryBackward = activation([
  { port: 'dy', access: 'read' },
  { port: 'x', access: 'read' },
  { port: 'dx', access: 'write' },
])

const binary: KernelRule = ({ op, inputs }) =>
  flat('elementwise', op, elementCount(inputs.a!.shape), [
    { port: 'a', access: 'read' },
    { port: 'b', access: 'read' },
    { port: 'y', access: 'write' },
  ])

const gated =
  (half: 'y' | 'dy', bindings: LaunchPlan['bindings']): KernelRule =>
  ({ op, inputs, outputs }) => {
    const { shape } = (half === 'y' ? outputs.y : inputs.dy)!
    const pack = packOf(lastDim(shape))
    const count = elementCount(shape) / pack
    return {
      launches: [
        launchThreads('activation', `${op}_${pack}`, count, bindings, {
          format: formatNumber(inputs.x!),
          width: lastDim(shape) / pack,
          count,
        }),
      ],
    }
  }

const gatedForward = gated('y', [
  { port: 'x', access: 'read' },
  { port: 'y', access: 'write' },
])

const gatedBackward = gated('dy', [
  { port: 'dy', access: 'read' },
  { port: 'x', access: 'read' },
  { port: 'dx', access: 'write' },
])

export const gelu_tanh = unary
export const gelu_tanh_backward = unaryBackward
export const silu = unary
export const silu_backward = unaryBackward
export const swiglu = gatedForward
export const swiglu_backward = gatedBackward
export const geglu = gatedForward
export const geglu_backward = gatedBackward
export const add = binary
export const mul = binary

export const accumulate: KernelRule = ({ inputs }) =>
  flat('elementwise', 'accumulate', elementCount(inputs.x!.shape), [
    { port: 'accumulator', access: 'read_write' },
    { port: 'x', access: 'read' },
  ])

export const copy: KernelRule = ({ inputs }) =>
  flat('elementwise', 'copy', byteSize(inputs.x!) / 4, [
    { port: 'x', access: 'read' },
    { port: 'y', access: 'write' },
  ])

/** The kernel writes words; an f32 value is given by its bits. */
export const fill: KernelRule = ({ attrs, inputs }) => {
  const value =
    inputs.x!.format === 'u32' ? attrs.value : new Uint32Array(Float32Array.of(attrs.value).buffer)[0]!
  return flat('elementwise', 'fill', elementCount(inputs.x!.shape), [{ port: 'x', access: 'write' }], {
    value,
  })
}
