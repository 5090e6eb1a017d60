import { rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { referenceTarget } from '../../backends/reference/device.ts'
import { inspectTraining, trainingText } from '../../src/cli/inspect_training.ts'
import { familyOf } from '../../src/models/index.ts'
import type { Value } from '../../src/ops/contract.ts'
import { applyRecipe } from '../../src/program/apply_recipe.ts'
import { Graph, type GraphNode } from '../../src/program/graph.ts'
import { type RecipeName, recipes } from '../../src/program/recipe.ts'
import { rewrite } from '../../src/program/rewrite.ts'
import { tensorType } from '../../src/tensor/type.ts'
import { differentiate } from '../../src/train/autodiff.ts'
import { onePlace, oneRankGrid } from '../../src/train/grid.ts'
import { type TrainingSpec, trainingGraph } from '../../src/train/training_graph.ts'
import { temporaryFolder, tinyConfigs } from '../models/tiny.ts'

// What a recipe makes of a training graph, without a device.

const models = {
  llama: {
    ...tinyConfigs.llama,
    hidden_size: 128,
    intermediate_size: 256,
    num_attention_heads: 2,
    num_key_value_heads: 1,
  },
  gpt2: { ...tinyConfigs.gpt2, n_embd: 128, n_head: 2 },
}

function graphOf(
  model: keyof typeof models,
  recipe: RecipeName,
  changes: Partial<TrainingSpec> = {},
  config: Record<string, unknown> = {},
): Graph {
  const shape = { ...models[model], ...config }
  const family = familyOf(shape)
  const spec: TrainingSpec = {
    batch: 2,
    sequence: 64,
    recipe: recipes[recipe],
    documentMask: false,
    recompute: 'none',
    logits: 'stored',
    ...changes,
  }
  return trainingGraph(model, family, family.parse(shape), spec, oneRankGrid(1), onePlace, 2 ** 30).graph
}

/** `op in of the products' operands -> result`, of all nodes that fulfil a condition, each once. */
const shown = (g: Graph, ports: readonly string[], of: (node: GraphNode) => boolean): string[] =>
  [
    ...new Set(
      g.nodes.filter(of).map((node) => {
        const operands = ports.flatMap((p) => {
          const id = node.inputs[p]
          return id === undefined ? [] : [g.value(id).type.format]
        })
        const [result] = Object.values(node.outputs)
        return `${node.op} ${operands.join(' ')} -> ${g.value(result!).type.format}`
      }),
    ),
  ].sort()

const inLayer = ({ scope }: GraphNode): boolean => scope.includes('layer.')
const products = (g: Graph, layers: boolean): string[] =>
  shown(g, ['dy', 'x', 'w'], (node) => node.op.startsWith('matmul') && inLayer(node) === layers)

describe.each(['llama', 'gpt2'] as const)('%s', (model) => {
  it('f32 is the graph as it was built', () => {
    const g = graphOf(model, 'f32')
    expect([...new Set(g.values.map(({ type }) => type.format))].sort()).toEqual(['f32', 'u32'])
    const again = applyRecipe(g, recipes.f32)
    expect(again).toEqual(rewrite(g, () => undefined))
    expect(again.segments).not.toContain('publish')
  })

  it.each(['none', 'layer'] as const)('bf16 has every product in bf16, recomputing %s', (recompute) => {
    const g = graphOf(model, 'bf16', { recompute })
    // In f32: sums into the residual stream, and gradients of weights.
    expect(products(g, true)).toEqual([
      'matmul bf16 bf16 -> bf16',
      'matmul bf16 bf16 -> f32',
      'matmul_backward_input bf16 bf16 -> bf16',
      'matmul_backward_weight bf16 bf16 -> f32',
    ])
    expect(products(g, false)).toEqual([
      'matmul bf16 bf16 -> bf16',
      'matmul_backward_input bf16 bf16 -> bf16',
      'matmul_backward_weight bf16 bf16 -> f32',
    ])
  })

  it('fp8 has the products of layers in blocks, forward and backward, and the head in bf16', () => {
    const g = graphOf(model, 'fp8')
    expect(products(g, true)).toEqual([
      'matmul e4m3_128 e4m3_128 -> bf16',
      'matmul e4m3_128 e4m3_128 -> f32',
      'matmul_backward_weight e4m3_128 e4m3_128 -> f32',
    ])
    const inLayers = (op: string, segment: string): GraphNode[] =>
      g.nodes.filter((node) => node.op === op && inLayer(node) && node.segment === segment)
    expect(inLayers('matmul', 'backward_input')).toHaveLength(8)
    expect(inLayers('matmul_backward_weight', 'backward_weight')).toHaveLength(8)
    expect(products(g, false)).toEqual(products(graphOf(model, 'bf16'), false))
  })

  it.each([
    'bf16',
    'fp8',
  ] as const)('%s keeps the stream, accumulators, loss and masters in f32', (recipe) => {
    const g = graphOf(model, recipe)
    for (const { op, inputs, outputs } of g.nodes)
      for (const [port, id] of [...Object.entries(inputs), ...Object.entries(outputs)])
        if (['add', 'accumulate', 'adamw'].includes(op) || ['accumulator', 'loss', 'lse'].includes(port))
          expect(['f32', 'u32'], `${op}.${port}`).toContain(g.value(id).type.format)
    for (const { origin, type } of g.values)
      if ('arena' in origin && origin.arena !== 'weights') expect(type.format).toBe('f32')
  })

  it.each(['bf16', 'fp8'] as const)('%s rounds a value once for each format, where it is made', (recipe) => {
    const g = graphOf(model, recipe)
    const copies = g.nodes.filter(({ op }) => op === 'cast' || op === 'quantize')
    const kinds = copies.map(({ op, attrs, inputs }) => `${op} ${JSON.stringify(attrs)} of ${inputs.x}`)
    expect(new Set(kinds).size).toBe(kinds.length)
    for (const { segment, inputs } of copies) {
      const { origin } = g.value(inputs.x!)
      if (origin.kind !== 'node') throw new Error('a copy of what no launch made')
      const maker = g.nodes[origin.node]!
      expect(maker.segment).toBe(segment)
      expect(['cast', 'quantize']).not.toContain(maker.op)
    }
  })

  it('every weight that the passes read is published from its master', () => {
    const g = graphOf(model, 'fp8')
    const read = g.values.filter(({ origin }) => origin.kind === 'external' && origin.arena === 'weights')
    const stores = g.nodes.filter(({ segment, op }) => segment === 'publish' && op === 'store')
    expect(stores.map(({ inputs }) => g.value(inputs.destination!).name).sort()).toEqual(
      read.map(({ name }) => name).sort(),
    )
    const qkv = read.filter(({ name }) => name.startsWith('layers.0.qkv')).map(({ name }) => name)
    expect(qkv).toEqual(['layers.0.qkv.weight.e4m3_128', 'layers.0.qkv.weight.e4m3_128.transposed'])
  })
})

it('casts of a layer are those of the gradient of the residual stream', () => {
  const casts = graphOf('llama', 'bf16').nodes.filter((node) => node.op === 'cast' && inLayer(node))
  expect(casts.map(({ segment }) => segment)).toEqual(Array(3).fill('backward_input'))
})

it.each([
  [128, 'bf16'],
  [127, 'f32'],
] as const)('logits of %i entries are %s: a product gives 16 bits for an even number of columns', (vocab_size, format) => {
  const g = graphOf('llama', 'bf16', {}, { vocab_size })
  const losses = g.nodes.filter(({ op }) => op.startsWith('cross_entropy'))
  expect(losses.map(({ inputs }) => g.value(inputs.logits!).type.format)).toEqual([format, format])
  expect(g.value(losses[1]!.outputs.dlogits!).type.format).toBe('bf16')
})

it.each([
  ['f32', 'f32'],
  ['bf16', 'bf16'],
  ['fp8', 'bf16'],
] as const)('%s multiplies for experts in %s, forward and backward, in a layer too', (recipe, format) => {
  const g = new Graph('experts')
  const x = g.external('parameters', 'x', tensorType('f32', 6, 64))
  const offsets = g.input('offsets', tensorType('u32', 3))
  const [up, down] = [
    g.external('parameters', 'up', tensorType('f32', 2, 32, 64)),
    g.external('parameters', 'down', tensorType('f32', 2, 64, 32)),
  ]
  const y = g.segment('forward', () =>
    g.scope('layer.0', () => {
      const of = (x: Value, w: Value): Value => g.op('matmul_grouped', {}, { x, offsets, w }).y!
      return g.op('mul', {}, { a: of(g.op('silu', {}, { x: of(x, up) }).y!, down), b: x }).y!
    }),
  )
  const trained = differentiate(g, { roots: [{ value: y.id, seed: 'dy' }], parameters: 'parameters' })
  const grouped = shown(applyRecipe(trained, recipes[recipe]), ['dy', 'x', 'w'], ({ op }) =>
    op.startsWith('matmul_grouped'),
  )
  const between = [
    `matmul_grouped ${format} ${format} -> ${format}`,
    `matmul_grouped ${format} ${format} -> f32`,
    `matmul_grouped_backward_input ${format} ${format} -> ${format}`,
    // The gradient of x, which is added to an accumulator.
    `matmul_grouped_backward_input ${format} ${format} -> f32`,
    `matmul_grouped_backward_weight ${format} ${format} -> f32`,
  ]
  expect(grouped).toEqual([...new Set(between)])
})

it('refuses rows that the blocks do not divide', () => {
  expect(() => graphOf('llama', 'fp8', { sequence: 32 })).toThrow(
    /recipe fp8 reads .* \[64,128\] in blocks of 128 along 64 elements; take widths and a batch/,
  )
})

it.each([
  ['f32', undefined],
  // Four matrices in each of two layers, and two tables: 2 bytes an element; twice a byte and a scale for each 128.
  ['bf16', 2 * (2 * 147_456 + 2 * 38_400)],
  ['fp8', 2 * 2 * 147_456 * (1 + 4 / 128) + 2 * 2 * 38_400],
] as const)('inspect shows the recipe %s and what its weights take', async (recipe, weights) => {
  const folder = await temporaryFolder()
  const file = join(folder, 'run.yaml')
  const config = { output: 'out', model: { config: models.llama }, data: { files: ['none.txt'] }, steps: 1 }
  await writeFile(file, JSON.stringify({ ...config, recipe, sequence: 64, batch: 2 }))
  const report = await inspectTraining(file, referenceTarget, undefined)
  await rm(folder, { recursive: true })
  const [{ arenas, peak }] = report.programs as [(typeof report.programs)[number]]
  expect(arenas.weights).toBe(weights)
  expect(Object.values(arenas).reduce((a, b) => a + b, 0)).toBe(peak)
  expect(trainingText(report)).toContain(`recipe   ${recipe}: ${recipes[recipe].summary}`)
})

it('gradients are taken before a recipe is applied', () => {
  const g = new Graph('rounded')
  const x = g.external('parameters', 'x', tensorType('f32', 4))
  const y = g.segment('forward', () => {
    const { y } = g.op('cast', { to: 'bf16' }, { x })
    return g.op('silu', {}, { x: y }).y!
  })
  expect(() => differentiate(g, { roots: [{ value: y.id }], parameters: 'parameters' })).toThrow(
    /gradients? .*f32/,
  )
})
