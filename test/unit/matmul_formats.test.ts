import { expect, it } from 'vitest'
import { checkCall, opContract } from '../../src/ops/index.ts'
import { fuse } from '../../src/program/fusion.ts'
import { Graph } from '../../src/program/graph.ts'
import type { FormatName } from '../../src/tensor/format.ts'
import { tensorType } from '../../src/tensor/type.ts'
import { differentiate } from '../../src/train/autodiff.ts'

// Products whose x, w and y are not f32; what they compute is in the stored vectors.
const typeOfY = (x: FormatName, w: FormatName, columns: number, attrs: object): FormatName =>
  checkCall(opContract('matmul'), attrs, {
    x: tensorType(x, 3, 128),
    w: tensorType(w, columns, 128),
  }).outputs.y!.format

it('y is f32, or the format of x', () => {
  expect(typeOfY('bf16', 'bf16', 6, {})).toBe('f32')
  expect(typeOfY('bf16', 'bf16', 6, { output: 'bf16' })).toBe('bf16')
  expect(typeOfY('f16', 'f16', 6, { output: 'f16' })).toBe('f16')
  expect(typeOfY('bf16', 'q4_0', 6, { output: 'bf16' })).toBe('bf16')
  // Of x in blocks, as it is asked for.
  expect(typeOfY('e4m3_128', 'e4m3_128', 6, {})).toBe('f32')
  expect(typeOfY('e4m3_128', 'e4m3_128', 6, { output: 'bf16' })).toBe('bf16')
})

it.each([
  ['bf16', 'f16', 6, {}, 'x in bf16 needs w in bf16 or q8_0 or q4_0 or e4m3_128, got f16'],
  ['e4m3_128', 'f16', 6, {}, 'x in e4m3_128 needs w in e4m3_128, got f16'],
  ['f16', 'q4_0', 6, {}, 'x in f16 needs w in f16, got q4_0'],
  ['bf16', 'bf16', 6, { output: 'f16' }, 'the format of x, bf16, not f16'],
  ['f32', 'f16', 6, { output: 'f16' }, 'the format of x, f32, not f16'],
  ['f16', 'f16', 7, { output: 'f16' }, 'an even number of columns, got 7'],
] as const)('x %s, w %s, %i columns, %o: refused', (x, w, columns, attrs, words) => {
  expect(() => typeOfY(x, w, columns, attrs)).toThrow(words)
})

it('x in 16 bits has no gradient', () => {
  const g = new Graph('g')
  const x = g.input('x', tensorType('bf16', 3, 32))
  const y = g.op('matmul', {}, { x, w: g.external('weights', 'w', tensorType('bf16', 6, 32)) }).y!
  g.output('y', y)
  const options = { roots: [{ value: y.id, seed: 'dy' }], inputs: [x.id] }
  expect(() => differentiate(g, options)).toThrow('matmul: x in bf16 has no gradient')
})

it('the residual of a product of 16-bit numbers is fused in f32', () => {
  const g = new Graph('g')
  const product = (x: { id: number; type: ReturnType<typeof tensorType> }, name: string, attrs: object) =>
    g.op('matmul', attrs, { x, w: g.external('weights', name, tensorType('f16', 32, 32)) }).y!
  const up = product(g.input('x', tensorType('f16', 3, 32)), 'up', { activation: 'silu', output: 'f16' })
  const down = product(up, 'down', {})
  g.output('y', g.op('add', {}, { a: down, b: g.input('residual', tensorType('f32', 3, 32)) }).y!)
  const fused = fuse(g)
  expect(fused.nodes.map((n) => [n.op, n.attrs.output, n.inputs.residual !== undefined])).toEqual([
    ['matmul', 'f16', false],
    ['matmul', undefined, true],
  ])
})
