import { z } from 'zod'
import { check } from '../errors.ts'
import { elementCount, sameShape } from '../tensor/type.ts'
import { normal, values } from './cases.ts'
import { defineOp } from './contract.ts'
import { EPS_F32, TINY_F32 } from './tolerance.ts'

/** x *= min(1, limit / (norm + 1e-6)) in place, x f32 [n], norm and limit f32 [1]; a limit of 0 or less is off. */
export const clip_by_norm = defineOp<Record<string, never>>({
  name: 'clip_by_norm',
  summary: 'y = x * min(1, limit / (norm + 1e-6)) in place; limit <= 0: y = x',
  source: 'torch.nn.utils.clip_grad_norm_; Pascanu et al., On the difficulty of training RNNs, 2013',
  inputs: {
    x: { doc: '[n]', formats: ['f32'] },
    norm: { doc: '[1]', formats: ['f32'] },
    limit: { doc: '[1]', formats: ['f32'] },
  },
  outputs: { y: { doc: '[n]', formats: ['f32'] } },
  attributes: z.strictObject({}),
  infer(_attrs, { x, norm, limit }) {
    check(x!.shape.length === 1, 'invalid_shape', () => `clip_by_norm: x must be [n], got [${x!.shape}]`)
    for (const [port, type] of [
      ['norm', norm!],
      ['limit', limit!],
    ] as const)
      check(
        sameShape(type.shape, [1]),
        'invalid_shape',
        () => `clip_by_norm: ${port} must be [1], got [${type.shape}]`,
      )
    return { y: x! }
  },
  inPlace: { y: 'x' },
  gradient: { none: 'applied to gradients only' },
  reference(_call, { x, norm, limit }) {
    const factor = limit![0]! > 0 ? Math.min(1, limit![0]! / (norm![0]! + 1e-6)) : 1
    return { y: x!.map((v) => v * factor) }
  },
  // norm + 1e-6 (two roundings: the constant, the sum), division 2.5 ulp, product, stored value. The factor may
  // be 1 on one side and a rounding below on the other, which the same budget covers.
  tolerance: (_call, _inputs, expected) => ({ y: (i) => 9 * EPS_F32 * Math.abs(expected.y![i]!) + TINY_F32 }),
  flops: ({ inputs }) => elementCount(inputs.x!.shape),
  cases: [
    {
      name: 'one',
      attrs: {},
      inputs: { x: values([1], [3]), norm: values([1], [3]), limit: values([1], [1]) },
    },
    {
      name: 'clipped',
      attrs: {},
      inputs: { x: normal([257]), norm: values([1], [16.3]), limit: values([1], [1]) },
    },
    {
      name: 'clipped_range',
      attrs: {},
      inputs: { x: normal([1024]), norm: values([1], [3200]), limit: values([1], [0.5]) },
    },
    {
      name: 'below',
      attrs: {},
      inputs: { x: normal([64], 0.1), norm: values([1], [0.9]), limit: values([1], [1]) },
    },
    { name: 'off', attrs: {}, inputs: { x: normal([64]), norm: values([1], [8]), limit: values([1], [0]) } },
    {
      name: 'zero_norm',
      attrs: {},
      inputs: { x: values([8], [0]), norm: values([1], [0]), limit: values([1], [1]) },
    },
  ],
})
