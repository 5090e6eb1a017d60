import { z } from 'zod'
import { lastDim, tensorType } from '../tensor/type.ts'
import { integers, normal, uniform, values } from './cases.ts'
import { defineOp, type Tolerance } from './contract.ts'
import { checkRows, type FirstTarget, firstTarget, logitsFormats } from './cross_entropy.ts'
import { EPS_F32, expError, storedIn, TINY_F32 } from './tolerance.ts'

/**
 * Gradient of cross_entropy for its logits; lse as the forward pass gave it. Column c is the target `first` + c; a target
 * that is no column here, whatever its value, matches none: where the vocabulary is split, it is in another part.
 */
export const cross_entropy_backward = defineOp<FirstTarget & { output?: 'f16' | 'bf16' | undefined }>({
  name: 'cross_entropy_backward',
  summary: 'dlogits[t,c] = dloss[t] * weights[t] * (exp(logits[t,c] - lse[t]) - (c == targets[t] - first))',
  inputs: {
    dloss: { doc: '[T]', formats: ['f32'] },
    logits: { doc: '[T, V]', formats: logitsFormats },
    lse: { doc: '[T]', formats: ['f32'] },
    targets: { doc: '[T]', formats: ['u32'] },
    weights: { doc: '[T]', formats: ['f32'] },
  },
  outputs: { dlogits: { doc: '[T, V]', formats: ['f32', 'f16', 'bf16'] } },
  attributes: firstTarget.extend({ output: z.enum(['f16', 'bf16']).optional() }),
  infer({ output }, inputs) {
    checkRows('cross_entropy_backward', inputs, ['dloss', 'lse', 'targets', 'weights'])
    return { dlogits: tensorType(output ?? 'f32', ...inputs.logits!.shape) }
  },
  gradient: { none: 'second derivatives are not built' },
  reference({ attrs: { first = 0 }, inputs }, { dloss, logits, lse, targets, weights }) {
    const width = lastDim(inputs.logits!.shape)
    const dlogits = logits!.map((v, i) => {
      const t = Math.floor(i / width)
      return (
        dloss![t]! * weights![t]! * (Math.exp(v - lse![t]!) - (i % width === targets![t]! - first ? 1 : 0))
      )
    })
    return { dlogits }
  },
  tolerance({ inputs, outputs }, { dloss, logits, lse, weights }, { dlogits }) {
    const width = lastDim(inputs.logits!.shape)
    const inF32: Tolerance = (i) => {
      const t = Math.floor(i / width)
      const scale = Math.abs(dloss![t]! * weights![t]!)
      const d = logits![i]! - lse![t]!
      return scale * (Math.exp(d) * expError(d) + TINY_F32) + 4 * EPS_F32 * Math.abs(dlogits![i]!) + TINY_F32
    }
    return { dlogits: storedIn(outputs.dlogits!.format, inF32, dlogits!) }
  },
  flops: ({ inputs }) => 4 * inputs.logits!.shape[0]! * inputs.logits!.shape[1]!,
  // lse lies a little above the largest logit, as it does after a forward pass.
  cases: [
    {
      name: 'one',
      attrs: {},
      inputs: {
        dloss: normal([1]),
        logits: values([1, 1], [0.5]),
        lse: values([1], [0.5]),
        targets: values([1], [0], 'u32'),
        weights: values([1], [1]),
      },
    },
    {
      name: 'prime',
      attrs: {},
      inputs: {
        dloss: normal([7]),
        logits: normal([7, 37], 2),
        lse: uniform([7], 5, 7),
        targets: integers([7], 0, 37),
        weights: uniform([7], 0, 1),
      },
    },
    {
      name: 'ignored',
      attrs: {},
      inputs: {
        dloss: normal([6]),
        logits: normal([6, 16], 2),
        lse: uniform([6], 5, 7),
        targets: values([6], [3, 0xffffffff, 15, 16], 'u32'),
        weights: values([6], [0.5, 0, 2, 0]),
      },
    },
    {
      name: 'elsewhere',
      attrs: {},
      inputs: {
        dloss: normal([6]),
        logits: normal([6, 16], 2),
        lse: uniform([6], 5, 7),
        targets: values([6], [3, 0xffffffff, 16, 0xfffffff0, 17, 32], 'u32'),
        weights: values([6], [1]),
      },
    },
    {
      name: 'elsewhere_odd',
      attrs: {},
      inputs: {
        dloss: normal([5]),
        logits: normal([5, 13], 2),
        lse: uniform([5], 5, 7),
        targets: values([5], [13, 0xffffffff, 12, 26, 0xfffffff3], 'u32'),
        weights: values([5], [1]),
      },
    },
    {
      name: 'past_tile',
      attrs: {},
      inputs: {
        dloss: normal([2]),
        logits: normal([2, 1028], 3),
        lse: uniform([2], 12, 13),
        targets: values([2], [0, 1027], 'u32'),
        weights: values([2], [1]),
      },
    },
    {
      name: 'large_magnitude',
      attrs: {},
      inputs: {
        dloss: normal([3], 1e4),
        logits: normal([3, 65], 1e4),
        lse: uniform([3], 4e4, 4.1e4),
        targets: integers([3], 0, 65),
        weights: values([3], [1e-4]),
      },
    },
    {
      name: 'later_part',
      attrs: { first: 128 },
      inputs: {
        dloss: normal([5]),
        logits: normal([5, 20], 2),
        lse: uniform([5], 5, 7),
        targets: values([5], [128, 147, 148, 127, 0xffffffff], 'u32'),
        weights: values([5], [1]),
      },
    },
    {
      name: 'to_bf16',
      attrs: { output: 'bf16' },
      inputs: {
        dloss: normal([3]),
        logits: normal([3, 260], 2),
        lse: uniform([3], 7, 8),
        targets: integers([3], 0, 260),
        weights: uniform([3], 0, 1),
      },
    },
    {
      name: 'to_f16_odd',
      attrs: { output: 'f16' },
      inputs: {
        dloss: normal([3]),
        logits: normal([3, 37], 2),
        lse: uniform([3], 5, 7),
        targets: integers([3], 0, 37),
        weights: uniform([3], 0, 1),
      },
    },
    {
      name: 'bf16_to_bf16',
      attrs: { output: 'bf16' },
      inputs: {
        dloss: normal([3]),
        logits: normal([3, 4100], 2, 'bf16'),
        lse: uniform([3], 10, 11),
        targets: values([3], [4099, 0, 0xffffffff], 'u32'),
        weights: uniform([3], 0, 1),
      },
    },
    {
      name: 'f16_to_f32_odd',
      attrs: { first: 128 },
      inputs: {
        dloss: normal([2]),
        logits: normal([2, 37], 2, 'f16'),
        lse: uniform([2], 5, 7),
        targets: values([2], [128, 164], 'u32'),
        weights: values([2], [1]),
      },
    },
  ],
})
