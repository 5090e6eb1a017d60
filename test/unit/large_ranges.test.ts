import { afterAll, describe, expect, it } from 'vitest'
import type { Target } from '../../backends/backend.ts'
import { kernelRules } from '../../backends/webgpu/kernels/index.ts'
import { openNodeWebGpu } from '../../backends/webgpu/node/open.ts'
import { generateConstant } from '../../src/ops/constants.ts'
import type { Attributes } from '../../src/ops/contract.ts'
import type { OpName } from '../../src/ops/index.ts'
import { opContract } from '../../src/ops/index.ts'
import { sampleRow } from '../../src/ops/sample.ts'
import { compile } from '../../src/program/compile.ts'
import { Graph } from '../../src/program/graph.ts'
import { formatOf } from '../../src/tensor/format.ts'
import { Philox, philox4x32, uniformFromBits } from '../../src/tensor/philox.ts'
import { elementCount, type TensorType, tensorType } from '../../src/tensor/type.ts'

// Sizes that stored vectors are too small for: ranges of more than one binding, sums of many tiles, a vocabulary of
// 256k. Values are made here from a seed; the float64 references say what is right.
const device = await openNodeWebGpu()
afterAll(() => device.destroy())

const random = new Philox(11)
const noise = (n: number, scale = 1): Float32Array =>
  Float32Array.from({ length: n }, () => scale * 2 * (random.uniform() - 0.5))

/** A target whose largest binding is smaller than the device's. */
function withBindings(maxBindingSize: number): Target {
  const { target } = device
  const limits = { ...target.limits, maxBindingSize }
  const traits = { limits, features: new Set(target.features), subgroupSize: target.subgroupSize }
  return { ...target, limits, choose: (call) => kernelRules[call.op as OpName](call, traits) }
}

/** Runs one op and compares every output with its reference; gives the number of launches. */
async function verify(
  op: string,
  values: Record<string, Float32Array | Uint32Array>,
  shapes: Record<string, number[]>,
  target: Target,
  attrs: Attributes = {},
): Promise<number> {
  const graph = new Graph(op)
  const types: Record<string, TensorType> = {}
  for (const [port, array] of Object.entries(values))
    types[port] = tensorType(
      array instanceof Uint32Array ? 'u32' : 'f32',
      ...(shapes[port] ?? [array.length]),
    )
  const outputs = graph.op(
    op,
    attrs,
    Object.fromEntries(Object.entries(types).map(([p, t]) => [p, graph.input(p, t)])),
  )
  for (const [port, value] of Object.entries(outputs)) graph.output(port, value)
  const program = compile(graph, target, { portable: true })
  const executable = await device.load(program)
  try {
    const got = await executable.step('main', values)
    const contract = opContract(op)
    const call = {
      op,
      attrs,
      inputs: types,
      outputs: Object.fromEntries(Object.entries(outputs).map(([p, v]) => [p, v.type])),
    }
    const inputs = Object.fromEntries(Object.entries(values).map(([p, v]) => [p, Float64Array.from(v)]))
    const expected = contract.reference(call, inputs)
    const tolerance = contract.tolerance(call, inputs, expected)
    for (const [port, want] of Object.entries(expected)) {
      const type = call.outputs[port]!
      const have = formatOf(type.format).decode(got[port]!, elementCount(type.shape))
      const wrong = want.findIndex(
        (v, i) => !(Math.abs(have[i]! - v) <= tolerance[port]!(i) + Math.abs(v) * 2 ** -24),
      )
      expect(wrong, `${op}.${port}[${wrong}]: expected ${want[wrong]}, got ${have[wrong]}`).toBe(-1)
    }
    return program.segments[0]!.steps.filter((s) => s.kind === 'launch' && s.call.op === op).length
  } finally {
    executable.destroy()
  }
}

describe('ranges larger than one binding', () => {
  // Tiles lie across every cut; the last of most tensors is not a whole one.
  const tensors = [
    [2 ** 20 + 64, 2 ** 20],
    [64, 2 ** 20 - 64],
    [2 ** 21 + 64, 4101],
    [192, 16000],
  ]
  const tiles = Uint32Array.from(generateConstant('norm_tiles', { tensors }).values)
  const x = noise(2 ** 21 + 64 * 66)
  it('square_sums: parts that overlap by a tile', async () => {
    const given = { x, tiles }
    expect(await verify('square_sums', given, { tiles: [tiles.length / 2, 2] }, withBindings(2 ** 22))).toBe(
      3,
    )
  })
  it('square_sums: the same bits however the range is cut and wherever a tile lies', async () => {
    const sums = async (from: number, at: Uint32Array, bindings: number): Promise<Uint8Array> => {
      const graph = new Graph('sums')
      const given = {
        x: graph.input('x', tensorType('f32', x.length - from)),
        tiles: graph.input('tiles', tensorType('u32', at.length / 2, 2)),
      }
      graph.output('sums', graph.op('square_sums', {}, given).sums!)
      const executable = await device.load(compile(graph, withBindings(bindings)))
      try {
        return (await executable.step('main', { x: x.subarray(from), tiles: at })).sums!
      } finally {
        executable.destroy()
      }
    }
    const whole = await sums(0, tiles, 2 ** 27)
    expect(await sums(0, tiles, 2 ** 22)).toEqual(whole)
    const moved = tiles.map((v, i) => (i % 2 === 0 ? v - 192 : v)).subarray(tiles.length - 2)
    expect(await sums(192, moved, 2 ** 27)).toEqual(whole.subarray(whole.length - 4))
  })
  it('norm_of_sums: more sums than lanes', async () => {
    expect(await verify('norm_of_sums', { sums: noise(70001).map(Math.abs) }, {}, device.target)).toBe(1)
  })
  it('reduce over the first dim: chains that go on in the next launch', async () => {
    const shapes = { x: [83, 1001] }
    const x = noise(83 * 1001)
    for (const kind of ['sum', 'mean', 'max'])
      expect(await verify('reduce', { x }, shapes, withBindings(2 ** 18), { kind, axis: 'first' })).toBe(2)
    const refused = verify('reduce', { x }, shapes, withBindings(2 ** 17), { kind: 'sum', axis: 'first' })
    await expect(refused).rejects.toMatchObject({ code: 'unsupported' })
  })
  it('adamw', async () => {
    const n = 70003
    const values = { param: noise(n), moment1: noise(n), moment2: noise(n).map(Math.abs), gradient: noise(n) }
    const hyper = Float32Array.of(1e-3, 0.9, 0.99, 1e-8, 0.1, 0.5, 0.25, 0)
    expect(await verify('adamw', { ...values, hyper }, {}, withBindings(2 ** 16))).toBe(5)
    // The second range begins inside the third part.
    const two = { ...values, hyper: Float32Array.of(...hyper, ...hyper.map((v) => 0.75 * v)) }
    const clip = { norm: Float32Array.of(5), limit: Float32Array.of(1) }
    const shapes = { hyper: [2, 8] }
    const attrs = { boundary: 64 * 600 }
    expect(await verify('adamw', { ...two, ...clip }, shapes, withBindings(2 ** 16), attrs)).toBe(5)
  })
  it('cross_entropy and its gradient by rows', async () => {
    const [rows, width] = [150, 101]
    const row = {
      targets: Uint32Array.from({ length: rows }, () => random.integer(width)),
      weights: noise(rows),
    }
    const logits = noise(rows * width, 4)
    const shapes = { logits: [rows, width] }
    const target = withBindings(2 ** 15)
    expect(await verify('cross_entropy', { logits, ...row }, shapes, target)).toBe(3)
    const part = { logits, targets: row.targets.map((v) => 2 * v) }
    expect(await verify('cross_entropy_shard', part, shapes, target)).toBe(3)
    const given = { dloss: noise(rows), logits, lse: noise(rows).map((v) => v + 6), ...row }
    expect(await verify('cross_entropy_backward', given, shapes, target)).toBe(3)
  })
})

describe('a vocabulary of 262,144', () => {
  it('samples what the float64 definition samples, wherever that is clear of rounding', async () => {
    const [rows, width, slots] = [4, 262144, 8]
    const graph = new Graph('sample')
    const type = (format: 'f32' | 'u32', ...shape: number[]): TensorType => tensorType(format, ...shape)
    const { token } = graph.op(
      'sample',
      {},
      {
        logits: graph.input('logits', type('f32', rows, width)),
        options: graph.input('options', type('f32', rows, 8)),
        key: graph.input('key', type('u32', rows, 4)),
        history: graph.input('history', type('u32', rows, slots)),
        length: graph.input('length', type('u32', rows)),
      },
    )
    graph.output('token', token!)
    const executable = await device.load(compile(graph, device.target))
    // A few likely tokens over a floor of unlikely ones, as a model gives.
    const logits = noise(rows * width, 2)
    for (let b = 0; b < rows; b++)
      for (let i = 0; i < 30; i++) logits[b * width + random.integer(width)] = 18 + 3 * random.uniform()
    const options = [
      [1, 0, 1, 0, 1],
      [0.7, 0, 0.9, 0, 1.2],
      [1, 10, 1, 0, 1],
      [0, 0, 1, 0, 1],
    ].map((o) => Float32Array.of(...o, 0, 0, 0))
    const history = Uint32Array.from({ length: rows * slots }, () => random.integer(width))
    let clear = 0
    for (let step = 0; step < 4; step++) {
      const key = Uint32Array.from({ length: rows * 4 }, (_, i) => [42, 0, step, i >> 2][i & 3]!)
      const inputs = {
        logits,
        options: Float32Array.from(options.flatMap((o) => [...o])),
        key,
        history,
        length: new Uint32Array(rows).fill(slots),
      }
      const { token: bytes } = await executable.step('main', inputs)
      const got = new Uint32Array(bytes!.buffer, bytes!.byteOffset, rows)
      for (let b = 0; b < rows; b++) {
        const draw = uniformFromBits(philox4x32([step, b, 0, 0], [42, 0])[0])
        const { token: want, margin } = sampleRow(
          logits.subarray(b * width, (b + 1) * width),
          options[b]!,
          history.subarray(b * slots, (b + 1) * slots),
          draw,
        )
        // Sums of V / 4 / lanes terms, exp of differences up to 20, two-level joins: below 1e-4.
        if (margin < 1e-4) continue
        clear++
        expect(got[b], `step ${step}, row ${b}`).toBe(want)
      }
    }
    expect(clear).toBeGreaterThan(10)
    executable.destroy()
  })
})
