import { expect, it } from 'vitest'
import { checkCall, opContract } from '../../src/ops/index.ts'
import { Graph } from '../../src/program/graph.ts'
import type { FormatName } from '../../src/tensor/format.ts'
import { tensorType } from '../../src/tensor/type.ts'
import { differentiate } from '../../src/train/autodiff.ts'

// Attention of projections that are not f32; what it computes is in the stored vectors.
const attrs = { heads: 2, kv_heads: 1, head_dim: 8, sequence: 3, scale: 1 }

const outputsOf = (format: FormatName, output?: string) =>
  checkCall(
    opContract('attention'),
    { ...attrs, ...(output && { output }) },
    { qkv: tensorType(format, 6, 32) },
  ).outputs

it('y is f32, or the format of qkv; lse is f32', () => {
  expect(outputsOf('bf16').y!.format).toBe('f32')
  expect(outputsOf('bf16', 'bf16').y!.format).toBe('bf16')
  expect(outputsOf('f16', 'f16').y!.format).toBe('f16')
  expect(outputsOf('f16', 'f16').lse!.format).toBe('f32')
})

it.each([
  ['bf16', 'f16', 'the format of qkv, bf16, not f16'],
  ['f32', 'bf16', 'the format of qkv, f32, not bf16'],
] as const)('qkv %s, y %s: refused', (format, output, words) => {
  expect(() => outputsOf(format, output)).toThrow(words)
})

it('qkv in 16 bits has no gradient', () => {
  const g = new Graph('g')
  const qkv = g.input('qkv', tensorType('f16', 6, 32))
  const y = g.op('attention', attrs, { qkv }).y!
  g.output('y', y)
  const options = { roots: [{ value: y.id, seed: 'dy' }], inputs: [qkv.id] }
  expect(() => differentiate(g, options)).toThrow('attention: qkv in f16 has no gradient')
})
