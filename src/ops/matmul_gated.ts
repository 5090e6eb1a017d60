import { z } from 'zod'
import { check } from '../errors.ts'
import { weightFormats } from '../tensor/format.ts'
import { elementCount, lastDim, tensorType } from '../tensor/type.ts'
import { gelu_tanh_function, silu_function } from './activation.ts'
import { normal } from './cases.ts'
import { type Case, defineOp, type OpCall } from './contract.ts'
import { geglu } from './geglu.ts'
import { type MatmulAttributes, matmul } from './matmul.ts'
import { swiglu } from './swiglu.ts'
import { EPS_F32 } from './tolerance.ts'

export type MatmulGatedAttributes = { activation: 'gelu_tanh' | 'silu' }

const gates = {
  gelu_tanh: { op: geglu, f: gelu_tanh_function },
  silu: { op: swiglu, f: silu_function },
} as const

/** The product whose columns are gates, then ups. */
export function sumsCall({
  inputs: { x, w, bias },
}: OpCall<MatmulGatedAttributes>): OpCall<MatmulAttributes> {
  const attrs = { activation: 'none' } as const
  const inputs = { x: x!, w: w!, ...(bias ? { bias } : {}) }
  return { op: 'matmul', attrs, inputs, outputs: matmul.infer(attrs, inputs) }
}

/** swiglu or geglu of that product. */
export function gateCall(call: OpCall<MatmulGatedAttributes>): OpCall {
  const { op } = gates[call.attrs.activation]
  const inputs = { x: sumsCall(call).outputs.y! }
  return { op: op.name, attrs: {}, inputs, outputs: op.infer({}, inputs) }
}

/** `rows` of x by a weight of 2 x `columns` rows. */
function one(
  name: string,
  [rows, depth, columns]: readonly [number, number, number],
  over: {
    readonly activation?: MatmulGatedAttributes['activation']
    readonly x?: 'bf16' | 'f16'
    readonly w?: (typeof weightFormats)[number]
    readonly bias?: 'f32' | 'bf16'
  } = {},
): Case<MatmulGatedAttributes> {
  return {
    name,
    attrs: { activation: over.activation ?? 'silu' },
    inputs: {
      x: normal([rows, depth], 1, over.x ?? 'f32'),
      w: normal([2 * columns, depth], 0.2, over.w ?? over.x ?? 'f32'),
      ...(over.bias ? { bias: normal([2 * columns], 1, over.bias) } : {}),
    },
  }
}

/**
 * A gated feed-forward's first product with its gate: what swiglu or geglu of a matmul gives, with sums in f32. One launch
 * where decoding would take two; where no kernel does both, they follow each other.
 */
export const matmul_gated = defineOp<MatmulGatedAttributes>({
  name: 'matmul_gated',
  summary: 'y[t,n] = activation(s[t,n]) * s[t,N+n], s[t,m] = sum_k x[t,k] * w[m,k] + bias[m]',
  source: 'as matmul, and swiglu or geglu',
  inputs: {
    x: matmul.inputs.x!,
    w: { doc: '[2N, K], gates then ups, in a format that matmul takes with x', formats: weightFormats },
    bias: { doc: '[2N]', formats: matmul.inputs.bias!.formats, optional: true },
  },
  outputs: { y: { doc: '[..., N]', formats: ['f32'] } },
  attributes: z.strictObject({ activation: z.enum(['gelu_tanh', 'silu']) }),
  infer(attrs, inputs) {
    const columns = inputs.w!.shape[0]!
    check(
      columns % 2 === 0,
      'invalid_shape',
      () => `matmul_gated: w has gates then ups, an even number of rows; got ${columns}`,
    )
    const { outputs } = gateCall({ op: 'matmul_gated', attrs, inputs, outputs: {} })
    return { y: tensorType('f32', ...outputs.y!.shape) }
  },
  gradient: { none: 'graphs are differentiated before matmul and its gate are joined' },
  reference(call, inputs) {
    const sums = matmul.reference(sumsCall(call), inputs)
    return gates[call.attrs.activation].op.reference(gateCall(call), { x: sums.y! })
  },
  // Gate and up are off by what the budget of their sums allows; an activation passes on at most 1.13 of its argument's
  // error (gelu_tanh's steepest slope), and computing it costs most at one end of where the argument may lie.
  tolerance(call, inputs, { y }) {
    const sums = sumsCall(call)
    const { y: s } = matmul.reference(sums, inputs)
    const budget = matmul.tolerance(sums, inputs, { y: s! }).y!
    const width = lastDim(call.outputs.y!.shape)
    const { f } = gates[call.attrs.activation]
    return {
      y: (i) => {
        const gate = i + Math.floor(i / width) * width
        const [g, up] = [s![gate]!, Math.abs(s![gate + width]!)]
        const [ofGate, ofUp] = [budget(gate), budget(gate + width)]
        const computed = Math.max(...[g - ofGate, g, g + ofGate].map((v) => f.valueError(v)))
        return (
          (1.13 * ofGate + computed) * (up + ofUp) + Math.abs(f.value(g)) * ofUp + Math.abs(y![i]!) * EPS_F32
        )
      },
    }
  },
  flops: (call) => matmul.flops(sumsCall(call)) + 16 * elementCount(call.outputs.y!.shape),
  cases: [
    one('one', [1, 4, 1]),
    one('odd', [1, 36, 37], { bias: 'f32' }),
    one('gelu_tanh', [1, 64, 6], { activation: 'gelu_tanh' }),
    one('depth_5', [1, 5, 6]),
    one('f16', [1, 264, 33], { w: 'f16', bias: 'bf16' }),
    one('q8_0', [1, 256, 18], { w: 'q8_0' }),
    one('q4_0', [1, 512, 34], { w: 'q4_0' }),
    one('rows_3', [3, 68, 19], { activation: 'gelu_tanh', bias: 'f32' }),
    one('rows_4_bf16', [4, 72, 10], { x: 'bf16' }),
    one('rows_9', [9, 64, 12]),
  ],
})
