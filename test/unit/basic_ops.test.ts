import { describe, expect, it } from 'vitest'
import { kernelRules } from '../../backends/webgpu/kernels/index.ts'
import { baselineTraits } from '../../backends/webgpu/target.ts'
import type { Attributes, Ports } from '../../src/ops/contract.ts'
import { checkCall, type OpName, opContract } from '../../src/ops/index.ts'
import { Graph } from '../../src/program/graph.ts'
import { type TensorType, tensorType } from '../../src/tensor/type.ts'
import { differentiate } from '../../src/train/autodiff.ts'

const f32 = (...shape: number[]): TensorType => tensorType('f32', ...shape)

/** Calls that must be refused, and what the message must name. */
const refused: readonly (readonly [
  op: OpName,
  attrs: Attributes,
  inputs: Ports<TensorType>,
  message: RegExp,
])[] = [
  ['add', {}, { a: f32(2, 3), b: f32(3, 2) }, /add: b must be \[2,3\].*got \[3,2\]/],
  ['mul', {}, { a: f32(2), b: f32(1) }, /mul: b must be \[2\].*got \[1\]/],
  ['accumulate', {}, { accumulator: f32(4), x: f32(2, 2) }, /accumulate: x must be \[4\].*got \[2,2\]/],
  ['silu_backward', {}, { dy: f32(3), x: f32(4) }, /silu_backward: .*dy must be \[4\], got \[3\]/],
  ['swiglu', {}, { x: f32(2, 3) }, /swiglu: x must be \[\.\.\., 2F\].*got \[2,3\]/],
  [
    'geglu_backward',
    {},
    { dy: f32(2, 6), x: f32(2, 6) },
    /geglu_backward: .*dy must be \[2,3\], got \[2,6\]/,
  ],
  ['rms_norm', { eps: 0 }, { x: f32(2, 8), weight: f32(2) }, /rms_norm: weight must be \[8\].*got \[2\]/],
  ['rms_norm', { eps: -1 }, { x: f32(2, 8), weight: f32(8) }, /eps/],
  [
    'layer_norm',
    { eps: 0 },
    { x: f32(2, 8), weight: f32(8), bias: f32(1, 8) },
    /layer_norm: bias must be \[8\].*got \[1,8\]/,
  ],
  [
    'layer_norm_backward_input',
    { eps: 0 },
    { dy: f32(8), x: f32(2, 8), weight: f32(8) },
    /dy must be \[2,8\] like x, got \[8\]/,
  ],
  [
    'rms_norm_backward_weight',
    { eps: 0 },
    { accumulator: f32(2), dy: f32(2, 8), x: f32(2, 8) },
    /accumulator must be \[8\].*got \[2\]/,
  ],
  [
    'bias_backward',
    {},
    { accumulator: f32(2), dy: f32(2, 8) },
    /bias_backward: accumulator must be \[8\].*got \[2\]/,
  ],
  [
    'fill',
    { value: -1 },
    { x: tensorType('u32', 4) },
    /fill: value must be a number that u32 can hold, got -1/,
  ],
  ['fill', { value: 1e39 }, { x: f32(4) }, /fill: value must be a number that f32 can hold/],
  [
    'transpose',
    { permutation: [0, 0] },
    { x: f32(2, 3) },
    /transpose: x \[2,3\] needs a permutation of its 2 dims.*got \[0,0\]/,
  ],
  ['transpose', { permutation: [1, 0] }, { x: f32(2, 3, 4) }, /needs a permutation of its 3 dims/],
  [
    'broadcast',
    { shape: [2, 3] },
    { x: f32(3) },
    /broadcast: .*x must be \[2\], \[1\] or \[2,3\], got \[3\]/,
  ],
  [
    'square_sums',
    {},
    { x: f32(100), tiles: tensorType('u32', 1, 2) },
    /square_sums: x must be \[n\], n a multiple of 64.*got \[100\]/,
  ],
  [
    'square_sums',
    {},
    { x: f32(64), tiles: tensorType('u32', 2) },
    /square_sums: tiles must be \[k, 2\], got \[2\]/,
  ],
  [
    'cross_entropy_shard',
    {},
    { logits: f32(2, 8), targets: tensorType('u32', 3) },
    /cross_entropy_shard: targets must be \[2\].*got \[3\]/,
  ],
  [
    'cross_entropy_join',
    {},
    { parts: f32(2, 3, 4), weights: f32(4) },
    /cross_entropy_join: parts must be \[n, 2, T\], got \[2,3,4\]/,
  ],
  [
    'cross_entropy_join',
    {},
    { parts: f32(3, 2, 4), weights: f32(3) },
    /cross_entropy_join: weights must be \[4\].*got \[3\]/,
  ],
  ['quantize', { to: 'q8_0' }, { x: f32(2, 33) }, /multiple of 32/],
  ['quantize', { to: 'nvfp4' }, { x: f32(2, 24) }, /multiple of 16/],
  ['quantize', { to: 'e4m3_128', transpose: true }, { x: f32(100, 4) }, /multiple of 128 rows of x, got 100/],
  ['quantize', { to: 'q8_0', transpose: true }, { x: f32(32, 4) }, /transpose x into e4m3_128, mxfp8, nvfp4/],
  ['cast', { to: 'f16' }, { x: tensorType('q8_0', 2, 32) }, /x in q8_0 can become f32, not f16/],
  [
    'matmul_grouped',
    {},
    { x: f32(4, 12), offsets: tensorType('u32', 3), w: f32(2, 5, 12) },
    /K a multiple of 8, got x \[4,12\]/,
  ],
  [
    'matmul_grouped',
    {},
    { x: f32(4, 8), offsets: tensorType('u32', 2), w: f32(2, 5, 8) },
    /offsets must be \[3\] for 2 experts, got \[2\]/,
  ],
  ['quantize', { to: 'f16' }, { x: f32(2, 32) }, /quantize: attribute to/],
]

describe('shape rules', () => {
  for (const [op, attrs, inputs, message] of refused)
    it(`${op} refuses ${JSON.stringify(attrs)} ${Object.values(inputs).map((t) => `[${t.shape}]`)}`, () =>
      expect(() => checkCall(opContract(op), attrs, inputs)).toThrow(message))
})

describe('gradients that reduce does not have', () => {
  it.each([
    [{ kind: 'max', axis: 'last' }, /kind 'max' has no gradient.*'sum' or 'mean'/],
    [{ kind: 'sum', axis: 'first' }, /axis 'first' has no gradient.*transpose/],
  ])('%j', (attrs, message) => {
    const g = new Graph('reduce')
    const x = g.input('x', f32(3, 4))
    const { y } = g.segment('forward', () => g.op('reduce', attrs, { x }))
    const options = { roots: [{ value: y!.id, seed: 'seed' }], inputs: [x.id] }
    expect(() => differentiate(g, options)).toThrow(message)
  })
})

describe('ranges larger than a binding', () => {
  const limits = { ...baselineTraits.limits, maxBindingSize: 4096 }
  const launches = (op: OpName, attrs: Attributes, inputs: Ports<TensorType>) => {
    const choice = kernelRules[op](checkCall(opContract(op), attrs, inputs), {
      limits,
      features: new Set(),
      subgroupSize: 1,
    })
    if ('unsupported' in choice) throw new Error(choice.unsupported)
    return choice.launches
  }
  /** Bytes that the launches bind of a port, which must follow each other without a gap and aligned. */
  const covered = (list: ReturnType<typeof launches>, port: string): number => {
    let end = 0
    for (const { bindings } of list) {
      const { offset = 0, bytes = 0 } = bindings.find((b) => b.port === port)!
      expect(offset).toBe(end)
      expect(offset % limits.bindingAlignment).toBe(0)
      expect(bytes).toBeLessThanOrEqual(limits.maxBindingSize)
      end += bytes
    }
    return end
  }

  it.each(['add', 'mul'] as const)('%s is split', (op) => {
    const list = launches(op, {}, { a: f32(2501), b: f32(2501) })
    expect(list.map((l) => l.constants.PACKS)).toEqual([256, 256, 453])
    for (const port of ['a', 'b', 'y']) expect(covered(list, port)).toBe(2501 * 4)
  })
  it('fill and copy are split', () => {
    expect(covered(launches('fill', { value: 1 }, { x: f32(5000) }), 'x')).toBe(20000)
    // 100 blocks of 34 bytes, times 3 rows of 32 blocks
    expect(covered(launches('copy', {}, { x: tensorType('q8_0', 3, 32 * 100) }), 'y')).toBe(300 * 34)
  })
  it('cast is split with the offsets of both formats', () => {
    const list = launches('cast', { to: 'bf16' }, { x: f32(2501) })
    expect(covered(list, 'x')).toBe(2501 * 4)
    expect(covered(list, 'y')).toBe(2502 * 2)
  })
  it('quantize says what to do instead', () =>
    expect(() => launches('quantize', { to: 'q4_0' }, { x: f32(64, 32) })).toThrow(
      /8192 bytes exceeds.*in several parts/,
    ))
})
