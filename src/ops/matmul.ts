import { z } from 'zod'
import { check, ExactmapError } from '../errors.ts'
import { type FormatName, formatOf, weightFormats } from '../tensor/format.ts'
import { lastDim, rowCount, sameShape, tensorType } from '../tensor/type.ts'
import { gelu_tanh_function, geluGate, silu_function } from './activation.ts'
import { defineOp, type GradientContext, type Tolerance } from './contract.ts'
import { matmulCases } from './matmul_cases.ts'
import { EPS_F32, rowNorms, scaleRoundings, storedIn, TINY_F32 } from './tolerance.ts'

export type MatmulAttributes = {
  activation: 'none' | 'gelu_tanh' | 'silu'
  /**
   * Format of y where it is not f32: that of x, so that activations between two products stay in 16 bits; either where x
   * is in blocks.
   */
  output?: 'f16' | 'bf16' | undefined
}

const activations = { gelu_tanh: gelu_tanh_function, silu: silu_function } as const

const activate = (activation: MatmulAttributes['activation'], v: number): number =>
  activation === 'none' ? v : activations[activation].value(v)

const inBlocks = (format: FormatName): boolean => formatOf(format).blockSize > 1

/** What w may be in beside the format of x, by that of x. Quants of these are exact in bf16. */
const weightsOf: Partial<Record<FormatName, readonly FormatName[]>> = {
  f32: weightFormats,
  bf16: ['q8_0', 'q4_0', 'e4m3_128'],
}

/** Formats of w that a product with x in this format takes. */
export const weightFormatsOf = (x: FormatName): readonly FormatName[] => [
  ...new Set([x, ...(weightsOf[x] ?? [])]),
]

/**
 * What products of e4m3 lose in a block of 128: Hopper's tensor cores sum 32 of them at a time, and with them what they
 * summed before, cutting each addend off 13 bits below the largest. (DeepSeek-V3 technical report, 3.5.2: about 14 bits
 * are kept, which is why sums of blocks are then added in f32.)
 */
export function cutOff(x: Float64Array, w: Float64Array, depth: number, row: number, column: number): number {
  let error = 0
  let sum = 0
  for (let first = 0; first < depth; first += 32) {
    if (first % 128 === 0) sum = 0
    let largest = Math.abs(sum)
    for (let k = first; k < first + 32; k++) {
      const product = x[row * depth + k]! * w[column * depth + k]!
      largest = Math.max(largest, Math.abs(product))
      sum += product
    }
    error += 33 * 2 ** -13 * Math.max(largest, Math.abs(sum))
  }
  return error
}

/** Gradients are taken of the graph before fusion, where activations are ops of their own, and of f32 activations. */
function plain({ attrs, inputs }: GradientContext<MatmulAttributes>): void {
  if (inputs.x!.type.format !== 'f32')
    throw new ExactmapError(
      'unsupported',
      `matmul: x in ${inputs.x!.type.format} has no gradient; differentiate the graph with x in f32`,
    )
  if (attrs.activation !== 'none')
    throw new ExactmapError(
      'unsupported',
      `matmul: a fused activation (${attrs.activation}) has no gradient; differentiate the graph before fusing it, with ${attrs.activation} as its own op`,
    )
}

/** y = activation(x w^T + bias) + residual, weights as models store them: row-major [out, in]. */
export const matmul = defineOp<MatmulAttributes>({
  name: 'matmul',
  summary: 'y[t,n] = activation(sum_k x[t,k] * w[n,k] + bias[n]) + residual[t,n]',
  inputs: {
    x: { doc: '[..., K]', formats: ['f32', 'f16', 'bf16', 'e4m3_128', 'mxfp8', 'nvfp4'] },
    w: {
      doc: '[N, K], the format of x where that is not f32; q8_0, q4_0 or e4m3_128 too where it is bf16',
      formats: weightFormats,
    },
    bias: { doc: '[N]', formats: ['f32', 'f16', 'bf16'], optional: true },
    residual: { doc: '[..., N]', formats: ['f32'], optional: true },
  },
  outputs: { y: { doc: '[..., N], f32 or the attribute `output`', formats: ['f32', 'f16', 'bf16'] } },
  attributes: z.strictObject({
    activation: z.enum(['none', 'gelu_tanh', 'silu']).default('none'),
    output: z.enum(['f16', 'bf16']).optional(),
  }),
  infer({ output }, { x, w, bias, residual }) {
    const depth = lastDim(x!.shape)
    check(
      weightFormatsOf(x!.format).includes(w!.format),
      'unsupported',
      () =>
        `matmul: x in ${x!.format} needs w in ${weightFormatsOf(x!.format).join(' or ')}, got ${w!.format}`,
    )
    check(
      !output || output === x!.format || inBlocks(x!.format),
      'unsupported',
      () => `matmul: y can be f32 or the format of x, ${x!.format}, not ${output}`,
    )
    check(
      w!.shape.length === 2 && w!.shape[1] === depth,
      'invalid_shape',
      () => `matmul: x [${x!.shape}] needs w [N, ${depth}], got [${w!.shape}]`,
    )
    const width = w!.shape[0]!
    const shape = [...x!.shape.slice(0, -1), width]
    check(
      !bias || sameShape(bias.shape, [width]),
      'invalid_shape',
      () => `matmul: bias must be [${width}], got [${bias!.shape}]`,
    )
    check(
      !residual || sameShape(residual.shape, shape),
      'invalid_shape',
      () => `matmul: residual must be [${shape}], got [${residual!.shape}]`,
    )
    check(
      !output || width % 2 === 0,
      'invalid_shape',
      () => `matmul: y in ${output} needs an even number of columns, got ${width}`,
    )
    return { y: tensorType(output ?? 'f32', ...shape) }
  },
  gradient: {
    x: {
      input: (context) => {
        plain(context)
        const { g, inputs, dOutputs } = context
        return g.op('matmul_backward_input', {}, { dy: dOutputs.y, w: inputs.w }).dx!
      },
    },
    w: {
      weight: (context, accumulator) => {
        plain(context)
        const { g, inputs, dOutputs } = context
        return g.op('matmul_backward_weight', {}, { accumulator, dy: dOutputs.y, x: inputs.x }).dw!
      },
    },
    bias: {
      weight: (context, accumulator) => {
        plain(context)
        return context.g.op('bias_backward', {}, { accumulator, dy: context.dOutputs.y }).dbias!
      },
    },
    residual: { input: ({ dOutputs }) => dOutputs.y! },
  },
  reference({ inputs, attrs }, { x, w, bias, residual }) {
    const depth = lastDim(inputs.x!.shape)
    const width = inputs.w!.shape[0]!
    const y = new Float64Array(rowCount(inputs.x!.shape) * width)
    for (let i = 0; i < y.length; i++) {
      const row = Math.floor(i / width)
      const column = i % width
      let sum = 0
      for (let k = 0; k < depth; k++) sum += x![row * depth + k]! * w![column * depth + k]!
      y[i] = activate(attrs.activation, sum + (bias?.[column] ?? 0)) + (residual?.[i] ?? 0)
    }
    return { y }
  },
  // The sum v: K products and the bias. Activations v * sigmoid(a) pass on at most 1.13 of its error and add, in
  // ulp of the result: exp 3 + 2|a|, its rounded argument at most 6|a| (each weighted by 1 - sigmoid, below 1),
  // a sum, a division (2.5) and a product. The kernels cap e^-a at e^87: an error of |v| 2^-125. Then one addition.
  // Products of 16-bit x and w are exact in f32, so the bound holds for them too, and so are those of e4m3, whose scales
  // are then applied to sums: the products of scales and of these with a sum round as often as numbers times scales.
  tolerance({ inputs, attrs }, { x, w, bias, residual }, { y }) {
    const depth = lastDim(inputs.x!.shape)
    const width = inputs.w!.shape[0]!
    const xs = rowNorms(x!, depth)
    const ws = rowNorms(w!, depth)
    const roundings = (scaleRoundings[inputs.x!.format] ?? 0) + (scaleRoundings[inputs.w!.format] ?? 0)
    const lost: Tolerance = (i) =>
      inputs.x!.format === 'e4m3_128' ? cutOff(x!, w!, depth, Math.floor(i / width), i % width) : 0
    const inF32: Tolerance = (i) => {
      const b = Math.abs(bias?.[i % width] ?? 0)
      const r = residual?.[i] ?? 0
      const magnitude = xs[Math.floor(i / width)]! * ws[i % width]! + b
      const sum = (depth + 3 + roundings) * EPS_F32 * magnitude + TINY_F32 * depth + lost(i)
      const rounding = EPS_F32 * (Math.abs(y![i]!) + Math.abs(r))
      if (attrs.activation === 'none') return sum + rounding
      const value = Math.abs(y![i]! - r)
      // |a| at the largest |v| the result allows: outside [-12, 12] sigmoid is 0 or 1 far below an ulp.
      const a = Math.abs(attrs.activation === 'silu' ? 12 : geluGate(Math.min(4, magnitude)))
      return 1.13 * sum + value * (10 + 8 * a) * 2 * EPS_F32 + magnitude * 2 ** -125 + rounding
    }
    return { y: storedIn(attrs.output ?? 'f32', inF32, y!) }
  },
  flops: ({ inputs }) => 2 * rowCount(inputs.x!.shape) * lastDim(inputs.x!.shape) * inputs.w!.shape[0]!,
  cases: matmulCases,
})
