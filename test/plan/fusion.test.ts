import { describe, expect, it } from 'vitest'
import { evaluate } from '../../backends/reference/evaluate.ts'
import type { Value } from '../../src/ops/contract.ts'
import { fuse } from '../../src/program/fusion.ts'
import { Graph } from '../../src/program/graph.ts'
import { tensorType } from '../../src/tensor/type.ts'
import { seededValues, smallGraph } from './fixtures.ts'

const f32 = (...shape: number[]) => tensorType('f32', ...shape)

/** A graph with an input x [3, 8] and a function that multiplies by a weight of its own. */
function start() {
  const g = new Graph('fusion')
  const x = g.input('x', f32(3, 8))
  let weights = 0
  const linear = (v: { id: number; type: ReturnType<typeof f32> }, attrs = {}) =>
    g.op('matmul', attrs, { x: v, w: g.external('weights', `w${weights++}`, f32(8, 8)) }).y!
  return { g, x, linear, op: (name: string, inputs: Parameters<Graph['op']>[2]) => g.op(name, {}, inputs).y! }
}

/** `op(activation, ports)` of every node, in order. */
const shape = (g: Graph): string[] =>
  g.nodes.map(
    (n) =>
      `${n.op}${n.attrs.activation && n.attrs.activation !== 'none' ? `+${n.attrs.activation}` : ''}${n.inputs.residual === undefined ? '' : '+residual'}`,
  )

/** Fuses; the outputs must stay what they were, by name. Returns the ops that are left. */
function fused(g: Graph): string[] {
  const after = fuse(g)
  const given = seededValues(g)
  const [a, b] = [evaluate(g, given), evaluate(after, given)]
  expect(after.outputs.map((o) => [o.segment, o.name])).toEqual(g.outputs.map((o) => [o.segment, o.name]))
  g.outputs.forEach((output, i) => {
    const [want, got] = [a.get(output.value)!, b.get(after.outputs[i]!.value)!]
    expect(got.length).toBe(want.length)
    // Float64 both times; activations may be written otherwise, some roundings of 2^-53 apart per op.
    const magnitude = Math.max(1, ...want.map(Math.abs))
    want.forEach((v, k) => {
      expect(Math.abs(got[k]! - v)).toBeLessThanOrEqual(magnitude * 2 ** -47)
    })
  })
  return shape(after)
}

/** A packed projection that is rotated, written to a cache and attended to. */
function cached({ positions = 'position', inverse = false, keepRotated = false } = {}): Graph {
  const g = new Graph('cached')
  const attrs = { heads: 2, kv_heads: 1, head_dim: 8 }
  const u32 = (name: string, ...shape: number[]) => g.input(name, tensorType('u32', ...shape))
  const table = g.input('table', f32(64, 8))
  const where = {
    page_table: u32('page_table', 1, 1),
    sequence: u32('sequence', 3),
    position: u32('position', 3),
  }
  const x = g.input('qkv', f32(3, 32))
  const rope = { head_dim: 8, rotated_heads: 3, layout: 'half', inverse }
  const rotated = g.op('rope', rope, { x, positions: u32(positions, 3), table }).y!
  const pools = {
    k_pool: g.external('kv', 'k', f32(1, 1, 64, 8)),
    v_pool: g.external('kv', 'v', f32(1, 1, 64, 8)),
  }
  const { k_pool_out, v_pool_out } = g.op('kv_write', attrs, { qkv: rotated, ...pools, ...where })
  const scores = { ...attrs, scale: 1, window: 0, softcap: 0 }
  const read = { qkv: rotated, k_pool: k_pool_out!, v_pool: v_pool_out!, ...where }
  g.output('y', g.op('attention_paged', scores, read).y!)
  if (keepRotated) g.output('rotated', rotated)
  return g
}

const ops = (g: Graph): string[] => g.nodes.map((node) => node.op)

describe('fuse joins rope and kv_write', () => {
  it('at the same positions', () => {
    const after = fuse(cached())
    expect(ops(after)).toEqual(['rope_kv_write', 'attention_paged'])
    // Attention reads what was rotated.
    expect(after.nodes[1]!.inputs.qkv).toBe(after.nodes[0]!.outputs.qkv_out)
  })

  it.each([
    ['positions differ', { positions: 'other' }],
    ['the rotation is an inverse', { inverse: true }],
    ['what was rotated is an output', { keepRotated: true }],
  ])('not where %s', (_, change) => {
    expect(ops(fuse(cached(change)))).toEqual(['rope', 'kv_write', 'attention_paged'])
  })
})

/** The gradients of a norm whose gradient for x a product reads in bf16, beside the residual stream in f32. */
function normGradients(
  norm: 'rms_norm' | 'layer_norm',
  { eps = 1e-5, biasOf = 'dy', castIn = 'backward_input' } = {},
): Graph {
  const g = new Graph('norm_gradients')
  const [x, dy] = [g.input('x', f32(3, 8)), g.input('dy', f32(3, 8))]
  const gradient = (name: string) => g.external('gradients', name, f32(8))
  const dx = g.segment('backward_input', () => {
    const weight = g.external('weights', 'norm', f32(8))
    return g.op(`${norm}_backward_input`, { eps: 1e-5 }, { dy, x, weight }).dx!
  })
  g.segment('backward_input', () => g.output('dx', dx))
  g.segment(castIn, () => g.output('rounded', g.op('cast', { to: 'bf16' }, { x: dx }).y!))
  g.segment('backward_weight', () => {
    const accumulator = gradient('weight')
    g.output('dweight', g.op(`${norm}_backward_weight`, { eps }, { accumulator, dy, x }).dweight!)
    const of = { accumulator: gradient('bias'), dy: biasOf === 'dy' ? dy : x }
    g.output('dbias', g.op('bias_backward', {}, of).dbias!)
  })
  return g
}

/** Ports of the nodes that are left, those that fusion may add. */
const added = (g: Graph): string[] =>
  g.nodes.map(({ op, inputs, outputs }) => {
    const ports = [...Object.keys(inputs), ...Object.keys(outputs)]
    return [op, ...['dx_rounded', 'statistics', 'dbias'].filter((port) => ports.includes(port))].join(' ')
  })

describe('fuse joins gradients of norms', () => {
  it('layer_norm: with the cast, the statistics and the gradient of the bias', () => {
    const g = normGradients('layer_norm')
    expect(fused(g)).toHaveLength(2)
    expect(added(fuse(g))).toEqual([
      'layer_norm_backward_input dx_rounded statistics',
      'layer_norm_backward_weight statistics dbias',
    ])
  })

  it('rms_norm: with the cast and the statistics', () => {
    const g = normGradients('rms_norm')
    expect(fused(g)).toHaveLength(3)
    expect(added(fuse(g))).toEqual([
      'rms_norm_backward_input dx_rounded statistics',
      'rms_norm_backward_weight statistics',
      'bias_backward dbias',
    ])
  })

  it('not a cast in another segment, statistics with another eps, or sums over something else', () => {
    const g = normGradients('layer_norm', { eps: 1e-6, biasOf: 'x', castIn: 'backward_weight' })
    expect(added(fuse(g))).toEqual([
      'layer_norm_backward_input',
      'cast',
      'layer_norm_backward_weight',
      'bias_backward dbias',
    ])
  })
})

describe('fuse joins', () => {
  for (const activation of ['silu', 'gelu_tanh'])
    it(`a matmul and ${activation}`, () => {
      const { g, x, linear, op } = start()
      g.output('y', op(activation, { x: linear(x) }))
      expect(fused(g)).toEqual([`matmul+${activation}`])
    })

  it('a matmul and the sum with a residual, on either side', () => {
    for (const swap of [false, true]) {
      const { g, x, linear, op } = start()
      const y = linear(x)
      g.output('y', op('add', swap ? { a: x, b: y } : { a: y, b: x }))
      expect(fused(g)).toEqual(['matmul+residual'])
    }
  })

  it('a matmul, an activation and a sum', () => {
    const { g, x, linear, op } = start()
    g.output('y', op('add', { a: op('silu', { x: linear(x) }), b: x }))
    expect(fused(g)).toEqual(['matmul+silu+residual'])
  })

  for (const norm of ['rms_norm', 'layer_norm'])
    it(`the gradient of a ${norm} and that of the residual stream beside it, on either side`, () => {
      for (const swap of [false, true]) {
        const { g, x, op } = start()
        const dy = g.input('dy', f32(3, 8))
        const weight = g.external('weights', 'norm', f32(8))
        const dx = g.op(`${norm}_backward_input`, { eps: 1e-5 }, { dy, x, weight }).dx!
        g.output('y', op('add', swap ? { a: dy, b: dx } : { a: dx, b: dy }))
        expect(fused(g)).toEqual([`${norm}_backward_input+residual`])
      }
    })

  it('one of two matmuls that are added', () => {
    const { g, x, linear, op } = start()
    const [a, b] = [linear(x), linear(x)]
    g.output('y', op('add', { a, b }))
    expect(fused(g)).toEqual(['matmul', 'matmul+residual'])
  })

  it('keeps segment and scope of the matmul', () => {
    const { g, x, linear, op } = start()
    g.segment('decode', () =>
      g.scope('layer.3', () => {
        g.output('y', op('silu', { x: linear(x) }))
      }),
    )
    const [node] = fuse(g).nodes
    expect([node!.segment, node!.scope]).toEqual(['decode', 'layer.3'])
  })

  it('what a block of a language model has', () => {
    expect(fused(smallGraph())).toEqual([
      'mul',
      'rms_norm',
      'matmul+silu',
      'matmul',
      'mul',
      'accumulate',
      'silu',
      'accumulate',
    ])
  })
})

describe('fuse joins gates', () => {
  const gate = (g: Graph, x: Parameters<Graph['op']>[2][string], attrs = {}) =>
    g.op('matmul', attrs, { x, w: g.external('weights', 'gate_up', f32(16, 8)) }).y!

  it('a product of gates and ups with what they become', () => {
    for (const [op, activation] of [
      ['swiglu', 'silu'],
      ['geglu', 'gelu_tanh'],
    ] as const) {
      const { g, x, linear, op: unary } = start()
      g.output('y', linear(unary(op, { x: gate(g, x) })))
      expect(fused(g)).toEqual([`matmul_gated+${activation}`, 'matmul'])
    }
  })

  it('not where the host or a gradient reads the product, or it is in 16 bits', () => {
    const read = start()
    const sums = gate(read.g, read.x)
    read.g.output('sums', sums)
    read.g.output('y', read.op('swiglu', { x: sums }))
    expect(fused(read.g)).toEqual(['matmul', 'swiglu'])
    const trained = start()
    const kept = gate(trained.g, trained.x)
    const y = trained.op('swiglu', { x: kept })
    trained.g.output('dx', trained.g.op('swiglu_backward', {}, { dy: y, x: kept }).dx!)
    expect(fused(trained.g)).toEqual(['matmul', 'swiglu', 'swiglu_backward'])
    const g = new Graph('rounded')
    const x = g.input('x', tensorType('bf16', 3, 8))
    const w = g.external('weights', 'w', tensorType('bf16', 16, 8))
    const half = g.op('matmul', { output: 'bf16' }, { x, w }).y!
    g.output('y', g.op('swiglu', {}, { x: half }).y!)
    expect(shape(fuse(g))).toEqual(['matmul', 'swiglu'])
  })
})

describe('fuse leaves alone', () => {
  it('a product that the host reads', () => {
    const { g, x, linear, op } = start()
    const y = linear(x)
    g.output('product', y)
    g.output('y', op('silu', { x: y }))
    expect(fused(g)).toEqual(['matmul', 'silu'])
  })

  it('a product with two readers', () => {
    const { g, x, linear, op } = start()
    const y = linear(x)
    g.output('y', op('mul', { a: op('silu', { x: y }), b: y }))
    expect(fused(g)).toEqual(['matmul', 'silu', 'mul'])
  })

  it('a product added to itself', () => {
    const { g, x, linear, op } = start()
    const y = linear(x)
    g.output('y', op('add', { a: y, b: y }))
    expect(fused(g)).toEqual(['matmul', 'add'])
  })

  it('a residual that is made after the product', () => {
    const { g, x, linear, op } = start()
    const y = linear(x)
    const later = op('silu', { x })
    g.output('y', op('add', { a: y, b: later }))
    expect(fused(g)).toEqual(['matmul', 'silu', 'add'])
  })

  it('a second residual, and an activation after one', () => {
    const { g, x, linear, op } = start()
    const y = op('silu', { x: op('add', { a: linear(x), b: x }) })
    g.output('y', op('add', { a: y, b: x }))
    expect(fused(g)).toEqual(['matmul+residual', 'silu', 'add'])
  })

  it('what follows a residual that the product has already', () => {
    for (const [op, inputs] of [
      ['silu', (y: Value) => ({ x: y })],
      ['add', (y: Value, x: Value) => ({ a: y, b: x })],
    ] as const) {
      const { g, x, op: unary } = start()
      expect(x.id).toBe(0)
      const y = g.op('matmul', {}, { x, w: g.external('weights', 'w', f32(8, 8)), residual: x }).y!
      g.output('y', unary(op, inputs(y, x)))
      expect(fused(g)).toEqual(['matmul+residual', op])
    }
  })

  it('a second activation', () => {
    const { g, x, linear, op } = start()
    g.output('y', op('gelu_tanh', { x: op('silu', { x: linear(x) }) }))
    expect(fused(g)).toEqual(['matmul+silu', 'gelu_tanh'])
    const given = start()
    given.g.output('y', given.op('silu', { x: given.linear(given.x, { activation: 'gelu_tanh' }) }))
    expect(fused(given.g)).toEqual(['matmul+gelu_tanh', 'silu'])
  })

  it('an activation of what was rounded to 16 bits', () => {
    const g = new Graph('rounded')
    const [x, w] = [
      g.input('x', tensorType('bf16', 3, 8)),
      g.external('weights', 'w', tensorType('bf16', 8, 8)),
    ]
    const { y } = g.op('matmul', { output: 'bf16' }, { x, w })
    g.output('y', g.op('silu', {}, { x: y }).y!)
    expect(shape(fuse(g))).toEqual(['matmul', 'silu'])
  })

  it('an activation in another segment', () => {
    const { g, x, linear, op } = start()
    const y = g.segment('forward', () => linear(x))
    g.segment('later', () => g.output('y', op('silu', { x: y })))
    expect(fused(g)).toEqual(['matmul', 'silu'])
  })

  it('a residual that an in-place op overwrites in between', () => {
    const { g, x, linear, op } = start()
    const base = op('silu', { x })
    const y = linear(x)
    const over = g.op('accumulate', {}, { accumulator: base, x }).y!
    g.output('y', op('add', { a: y, b: base }))
    g.output('over', over)
    // Values are never overwritten in a graph (legalize copies): reading the older one earlier is right.
    expect(fused(g)).toEqual(['silu', 'matmul+residual', 'accumulate'])
  })
})
