import { z } from 'zod'
import { check } from '../errors.ts'
import { elementCount, lastDim, sameShape, type TensorType, tensorType } from '../tensor/type.ts'
import { normal, uniform, values } from './cases.ts'
import { defineOp, type OpContract, type Ports, type Tolerance } from './contract.ts'
import { EPS_F32, storedIn } from './tolerance.ts'

/** An activation function in float64 and what computing it in f32 by lib/activation.wgsl may cost. */
export interface Activation {
  readonly name: string
  readonly formula: string
  readonly source: string
  value(x: number): number
  derivative(x: number): number
  /** Absolute error of `value` in f32. */
  valueError(x: number): number
  /** Absolute error of `derivative` in f32. */
  derivativeError(x: number): number
}

const sigmoid = (z: number): number => 1 / (1 + Math.exp(-z))

/**
 * Relative errors of s = 1 / (1 + e) and of 1 - s = e * s, e = exp(-z), where z carries `roundings` relative
 * roundings: exp is good to 3 + 2|z| ulp of at most 2 eps (WGSL, 15.7.4.1), a division to 2.5 ulp.
 */
function sigmoidErrors(z: number, roundings: number): { s: number; complement: number } {
  const e = (6 + (4 + roundings) * Math.min(87, Math.abs(z))) * EPS_F32
  const s = sigmoid(-z) * e + 6 * EPS_F32
  return { s, complement: sigmoid(z) * e + 7 * EPS_F32 }
}

/** Where the sigmoid leaves the range of f32, the kernel's clamp leaves up to 2^-125 of it. */
const UNDERFLOW = 2 ** -125

export const silu_function: Activation = {
  name: 'silu',
  formula: 'x / (1 + e^-x)',
  source: 'Elfwing, Uchibe and Doya, Sigmoid-Weighted Linear Units, 2017',
  value: (x) => x * sigmoid(x),
  derivative: (x) => sigmoid(x) * (1 + x * sigmoid(-x)),
  valueError: (x) => Math.abs(x) * (sigmoid(x) * (sigmoidErrors(x, 0).s + EPS_F32) + UNDERFLOW),
  derivativeError(x) {
    const error = sigmoidErrors(x, 0)
    const slope = Math.abs(x) * sigmoid(-x)
    const parts = (1 + slope) * (error.s + 3 * EPS_F32) + slope * error.complement
    return sigmoid(x) * parts + (1 + Math.abs(x)) * UNDERFLOW
  },
}

const GELU_SCALE = 2 * Math.sqrt(2 / Math.PI)
const GELU_CUBIC = 0.044715
/** 2u of the tanh form of gelu: gelu(x) = x sigmoid(2u). */
export const geluGate = (x: number): number => GELU_SCALE * x * (1 + GELU_CUBIC * x * x)
const geluSlope = (x: number): number => GELU_SCALE * (1 + 3 * GELU_CUBIC * x * x)
/** Relative roundings of the gate in f32: five operations and two constants. */
const GELU_ROUNDINGS = 7

export const gelu_tanh_function: Activation = {
  name: 'gelu_tanh',
  formula: 'x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))',
  source: 'Hendrycks and Gimpel, Gaussian Error Linear Units, 2016',
  // 1 + tanh(u) = 2 sigmoid(2u)
  value: (x) => x * sigmoid(geluGate(x)),
  derivative(x) {
    const gate = geluGate(x)
    return sigmoid(gate) * (1 + sigmoid(-gate) * x * geluSlope(x))
  },
  valueError(x) {
    const gate = geluGate(x)
    return Math.abs(x) * (sigmoid(gate) * (sigmoidErrors(gate, GELU_ROUNDINGS).s + EPS_F32) + UNDERFLOW)
  },
  derivativeError(x) {
    const gate = geluGate(x)
    const error = sigmoidErrors(gate, GELU_ROUNDINGS)
    const slope = sigmoid(-gate) * Math.abs(x) * geluSlope(x)
    const parts = (1 + slope) * (error.s + 3 * EPS_F32) + slope * (error.complement + 9 * EPS_F32)
    // Past the kernel's clamp at |x| = 16 the derivative is 0 or 1 but for what the clamped sigmoid leaves.
    return sigmoid(gate) * parts + 1024 * UNDERFLOW
  },
}

/** What an activation reads it reads in one format, and writes in the same. */
const formats = ['f32', 'f16', 'bf16'] as const
const x = { doc: '[...]', formats } as const
const noAttributes = z.strictObject({})
type None = Record<string, never>

/** The op y = f(x) and the op of its gradient, dx = dy * f'(x). */
export function activationOps(f: Activation): { forward: OpContract<None>; backward: OpContract<None> } {
  const backwardName = `${f.name}_backward`
  const forward = defineOp<None>({
    name: f.name,
    summary: `y = ${f.formula}`,
    source: f.source,
    inputs: { x },
    outputs: { y: x },
    attributes: noAttributes,
    infer: (_attrs, inputs) => ({ y: inputs.x! }),
    gradient: {
      x: { input: ({ g, inputs, dOutputs }) => g.op(backwardName, {}, { dy: dOutputs.y, x: inputs.x }).dx! },
    },
    reference: (_call, inputs) => ({ y: inputs.x!.map(f.value) }),
    tolerance: ({ outputs }, inputs, { y }) => ({
      y: storedIn(outputs.y!.format, (i) => f.valueError(inputs.x![i]!), y!),
    }),
    flops: ({ inputs }) => 15 * elementCount(inputs.x!.shape),
    cases: [
      { name: 'one', attrs: {}, inputs: { x: normal([1]) } },
      { name: 'prime', attrs: {}, inputs: { x: normal([3, 37]) } },
      { name: 'past_workgroup', attrs: {}, inputs: { x: normal([257], 4) } },
      { name: 'vectors', attrs: {}, inputs: { x: uniform([4, 132], -20, 20) } },
      { name: 'large_magnitude', attrs: {}, inputs: { x: values([12], LARGE) } },
      { name: 'bf16', attrs: {}, inputs: { x: normal([3, 86], 4, 'bf16') } },
      { name: 'f16_odd', attrs: {}, inputs: { x: normal([3, 37], 4, 'f16') } },
    ],
  })
  const backward = defineOp<None>({
    name: backwardName,
    summary: `dx = dy * d/dx ${f.formula}`,
    source: f.source,
    inputs: { dy: x, x },
    outputs: { dx: x },
    attributes: noAttributes,
    infer(_attrs, inputs) {
      sameShapes(backwardName, 'x', inputs.x!.shape, 'dy', inputs.dy!.shape)
      sameFormat(backwardName, inputs)
      return { dx: inputs.x! }
    },
    gradient: { none: 'second derivatives are not used in training' },
    reference: (_call, inputs) => ({ dx: inputs.dy!.map((d, i) => d * f.derivative(inputs.x![i]!)) }),
    tolerance: ({ outputs }, { dy, x }, { dx }) => ({
      dx: storedIn(
        outputs.dx!.format,
        (i) => Math.abs(dy![i]!) * f.derivativeError(x![i]!) + Math.abs(dx![i]!) * EPS_F32,
        dx!,
      ),
    }),
    flops: ({ inputs }) => 20 * elementCount(inputs.x!.shape),
    cases: [
      { name: 'one', attrs: {}, inputs: { dy: normal([1]), x: normal([1]) } },
      { name: 'prime', attrs: {}, inputs: { dy: normal([3, 37]), x: normal([3, 37]) } },
      { name: 'vectors', attrs: {}, inputs: { dy: normal([4, 132]), x: uniform([4, 132], -20, 20) } },
      { name: 'large_magnitude', attrs: {}, inputs: { dy: normal([12], 100), x: values([12], LARGE) } },
      { name: 'bf16', attrs: {}, inputs: { dy: normal([3, 86], 1, 'bf16'), x: normal([3, 86], 4, 'bf16') } },
      { name: 'f16_odd', attrs: {}, inputs: { dy: normal([3, 37], 1, 'f16'), x: normal([3, 37], 4, 'f16') } },
    ],
  })
  return { forward, backward }
}

/** The op y = f(gate) * up for x = [gate, up], and the op of its gradient. */
export function gatedOps(
  name: string,
  f: Activation,
  source: string,
): { forward: OpContract<None>; backward: OpContract<None> } {
  const backwardName = `${name}_backward`
  const double = { doc: '[..., 2F], gate then up', formats } as const
  const single = { doc: '[..., F]', formats } as const
  /** Index of the gate of output element i; its up is F further. */
  const gateOf = (i: number, width: number): number => i + Math.floor(i / width) * width
  const half = (shape: readonly number[], op: string): number[] => {
    check(
      shape.length > 0 && lastDim(shape) % 2 === 0,
      'invalid_shape',
      () => `${op}: x must be [..., 2F] with an even last dim (gate, then up), got [${shape}]`,
    )
    return [...shape.slice(0, -1), lastDim(shape) / 2]
  }
  const forward = defineOp<None>({
    name,
    summary: `y[t,f] = ${f.name}(x[t,f]) * x[t,F+f]`,
    source,
    inputs: { x: double },
    outputs: { y: single },
    attributes: noAttributes,
    infer: (_attrs, inputs) => ({ y: tensorType(inputs.x!.format, ...half(inputs.x!.shape, name)) }),
    gradient: {
      x: { input: ({ g, inputs, dOutputs }) => g.op(backwardName, {}, { dy: dOutputs.y, x: inputs.x }).dx! },
    },
    reference({ outputs }, inputs) {
      const width = lastDim(outputs.y!.shape)
      const y = new Float64Array(elementCount(outputs.y!.shape))
      for (let i = 0; i < y.length; i++) {
        const gate = gateOf(i, width)
        y[i] = f.value(inputs.x![gate]!) * inputs.x![gate + width]!
      }
      return { y }
    },
    tolerance({ outputs }, inputs, expected) {
      const { format, shape } = outputs.y!
      const width = lastDim(shape)
      const inF32: Tolerance = (i) => {
        const gate = gateOf(i, width)
        return (
          f.valueError(inputs.x![gate]!) * Math.abs(inputs.x![gate + width]!) +
          Math.abs(expected.y![i]!) * EPS_F32
        )
      }
      return { y: storedIn(format, inF32, expected.y!) }
    },
    flops: ({ outputs }) => 16 * elementCount(outputs.y!.shape),
    cases: [
      { name: 'one', attrs: {}, inputs: { x: normal([1, 2]) } },
      { name: 'prime', attrs: {}, inputs: { x: normal([3, 74]) } },
      { name: 'vectors', attrs: {}, inputs: { x: normal([5, 136], 3) } },
      { name: 'past_workgroup', attrs: {}, inputs: { x: normal([1, 514]) } },
      { name: 'large_magnitude', attrs: {}, inputs: { x: values([2, 12], LARGE) } },
      { name: 'bf16', attrs: {}, inputs: { x: normal([5, 136], 3, 'bf16') } },
      { name: 'f16_odd', attrs: {}, inputs: { x: normal([3, 74], 3, 'f16') } },
    ],
  })
  const backward = defineOp<None>({
    name: backwardName,
    summary: `dx[t,f] = dy[t,f] * x[t,F+f] * ${f.name}'(x[t,f]); dx[t,F+f] = dy[t,f] * ${f.name}(x[t,f])`,
    source,
    inputs: { dy: single, x: double },
    outputs: { dx: double },
    attributes: noAttributes,
    infer(_attrs, inputs) {
      sameShapes(backwardName, 'x', half(inputs.x!.shape, backwardName), 'dy', inputs.dy!.shape)
      sameFormat(backwardName, inputs)
      return { dx: inputs.x! }
    },
    gradient: { none: 'second derivatives are not used in training' },
    reference({ inputs: { dy: type } }, { dy, x: input }) {
      const width = lastDim(type!.shape)
      const dx = new Float64Array(input!.length)
      for (let i = 0; i < dy!.length; i++) {
        const gate = gateOf(i, width)
        dx[gate] = dy![i]! * input![gate + width]! * f.derivative(input![gate]!)
        dx[gate + width] = dy![i]! * f.value(input![gate]!)
      }
      return { dx }
    },
    tolerance({ inputs: { dy: type } }, { dy, x: input }, expected) {
      const width = lastDim(type!.shape)
      const inF32: Tolerance = (i) => {
        const column = i % (2 * width)
        const isGate = column < width
        const gate = isGate ? i : i - width
        const d = Math.abs(dy![Math.floor(i / (2 * width)) * width + (column % width)]!)
        const from = isGate
          ? d * Math.abs(input![gate + width]!) * f.derivativeError(input![gate]!)
          : d * f.valueError(input![gate]!)
        return from + 2 * Math.abs(expected.dx![i]!) * EPS_F32
      }
      return { dx: storedIn(type!.format, inF32, expected.dx!) }
    },
    flops: ({ inputs }) => 36 * elementCount(inputs.dy!.shape),
    cases: [
      { name: 'one', attrs: {}, inputs: { dy: normal([1, 1]), x: normal([1, 2]) } },
      { name: 'prime', attrs: {}, inputs: { dy: normal([3, 37]), x: normal([3, 74]) } },
      { name: 'vectors', attrs: {}, inputs: { dy: normal([5, 68]), x: normal([5, 136], 3) } },
      { name: 'large_magnitude', attrs: {}, inputs: { dy: normal([2, 6]), x: values([2, 12], LARGE) } },
      { name: 'bf16', attrs: {}, inputs: { dy: normal([5, 68], 1, 'bf16'), x: normal([5, 136], 3, 'bf16') } },
      { name: 'f16_odd', attrs: {}, inputs: { dy: normal([3, 37], 1, 'f16'), x: normal([3, 74], 3, 'f16') } },
    ],
  })
  return { forward, backward }
}

/** Zero, around the kernel's clamps, and far past them. */
const LARGE = [0, 15.5, -15.5, 16.5, -16.5, 86, -86, 90, -90, 1e6, -1e6, 1e-30]

function sameFormat(op: string, { x, dy }: Ports<TensorType>): void {
  check(
    dy!.format === x!.format,
    'unsupported',
    () => `${op}: dy must be ${x!.format} like x, got ${dy!.format}; cast one of them`,
  )
}

function sameShapes(
  op: string,
  port: string,
  shape: readonly number[],
  other: string,
  got: readonly number[],
): void {
  check(
    sameShape(shape, got),
    'invalid_shape',
    () => `${op}: ${port} has room for [${shape}], so ${other} must be [${shape}], got [${got}]`,
  )
}
