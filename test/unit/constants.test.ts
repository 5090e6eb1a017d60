import { expect, it } from 'vitest'
import { constantType, generateConstant } from '../../src/ops/constants.ts'

it('norm_tiles: every tensor starts a new tile, in the order given', () => {
  const { type, values } = generateConstant('norm_tiles', {
    tensors: [
      [64, 16384],
      [40000 * 64, 16384 * 2 + 1],
      [0, 3],
    ],
  })
  expect(type).toEqual({ format: 'u32', shape: [5, 2] })
  expect([...values]).toEqual([
    ...[64, 16384],
    ...[2560000, 16384],
    ...[2576384, 16384],
    ...[2592768, 1],
    ...[0, 3],
  ])
})

it('indices: the values as they are', () =>
  expect(generateConstant('indices', { values: [7, 0, 0xffffffff] })).toEqual({
    type: { format: 'u32', shape: [3] },
    values: Float64Array.of(7, 0, 0xffffffff),
  }))

it.each([
  ['norm_tiles', { tensors: [] }, /constant norm_tiles: tensors/],
  ['norm_tiles', { tensors: [[32, 5]] }, /constant norm_tiles: tensors.0.0/],
  ['norm_tiles', { tensors: [[64, 0]] }, /constant norm_tiles: tensors.0.1/],
  ['indices', { values: [] }, /constant indices: values/],
  ['indices', { values: [2 ** 32] }, /constant indices: values.0/],
])('%s refuses %j', (name, attrs, message) => expect(() => constantType(name, attrs)).toThrow(message))
