import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { inferenceSpec } from '../../src/engine/defaults.ts'
import { inferenceGraph } from '../../src/engine/inference_graph.ts'
import { familyOf } from '../../src/models/index.ts'
import { fuse } from '../../src/program/fusion.ts'
import { quickWebGpu } from '../helpers/webgpu.ts'
import { judgeActivations } from './activations.ts'
import { temporaryFolder, tinyConfigs, writeModelFolder } from './tiny.ts'

// Inference with activations in 16 bits against f32, with the same weights.

const graphOf = (config: object, options: Parameters<typeof inferenceSpec>[1]) => {
  const family = familyOf(config)
  const shape = family.parse(config)
  return inferenceGraph('tiny', family, shape, inferenceSpec(shape, { context: 64, ...options }))
}

describe.each(['llama', 'gpt2'] as const)('the graph of %s', (name) => {
  it.each(['f16', 'bf16'] as const)('has every product in %s and no cast', (activations) => {
    const g = graphOf(tinyConfigs[name], { activations, weights: activations })
    const products = g.nodes.filter(({ op }) => op === 'matmul')
    expect(products).toHaveLength(g.segments.length * (4 * 2 + 1))
    for (const { inputs } of products) expect(g.value(inputs.x!).type.format).toBe(activations)
    expect(g.nodes.filter(({ op }) => op === 'cast')).toEqual([])
    // What is sampled from, and what is added up from layer to layer.
    for (const { op, outputs } of g.nodes)
      if (['sample', 'add', 'embedding'].includes(op))
        for (const id of Object.values(outputs)) expect(['f32', 'u32']).toContain(g.value(id).type.format)
  })

  it('has the launches of f32 but for gates, whose sums are rounded, and is as it was built in f32', () => {
    const f32 = graphOf(tinyConfigs[name], { weights: 'bf16' })
    const bf16 = graphOf(tinyConfigs[name], { weights: 'bf16', activations: 'bf16' })
    const apart = (op: string): string[] => (op === 'matmul_gated' ? ['matmul', 'swiglu'] : [op])
    expect(fuse(bf16).nodes.map(({ op }) => op)).toEqual(fuse(f32).nodes.flatMap(({ op }) => apart(op)))
    expect([...new Set(f32.nodes.map(({ attrs }) => attrs.output))]).toEqual([undefined])
  })
})

it.each([
  ['bf16', 'f16', 'need weights in bf16, q8_0, q4_0, e4m3_128; got f16'],
  ['f16', 'q4_0', 'need weights in f16; got q4_0'],
  ['bf16', 'f32', 'got f32'],
] as const)('activations in %s do not go with weights in %s', (activations, weights, words) => {
  expect(() => graphOf(tinyConfigs.llama, { activations, weights })).toThrow(
    expect.objectContaining({ code: 'invalid_argument', message: expect.stringContaining(words) }),
  )
})

it.each([
  ['gpt2', 'f16'],
  ['llama', 'bf16'],
] as const)(
  'logits of %s in %s differ from those in f32 by no more than weights make them',
  async (name, format) => {
    const device = await quickWebGpu()
    const folder = await temporaryFolder()
    const path = await writeModelFolder(join(folder, name), tinyConfigs[name])
    const { used, tokens } = await judgeActivations(device, path, { weights: format, activations: format }, 2)
    expect(used).toBeGreaterThan(0)
    expect(used).toBeLessThanOrEqual(1)
    expect(tokens).toBeGreaterThan(0)
    device.destroy()
    await rm(folder, { recursive: true, force: true })
  },
  120_000,
)
