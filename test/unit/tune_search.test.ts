import { afterAll, expect, it } from 'vitest'
import { z } from 'zod'
import type { WebGpuDevice } from '../../backends/webgpu/device.ts'
import {
  decide,
  defineOp,
  exact,
  normal,
  registerOp,
  registerWebGpuKernel,
  tunable,
} from '../../src/index.ts'
import { checkCall } from '../../src/ops/index.ts'
import { tensorType } from '../../src/tensor/type.ts'
import { alternatives, Search } from '../../src/tune/search.ts'
import { processorClock } from '../../src/tune/trial.ts'
import { quickWebGpu } from '../helpers/webgpu.ts'

// An op whose kernel has one parameter of each kind: one that leaves out the last elements of some sizes (and is fast),
// one that only costs time, and one that changes the result.
const doubled = defineOp<Record<string, never>>({
  name: 'tuned_double',
  summary: 'y = 2 x',
  attributes: z.strictObject({}),
  inputs: { x: { doc: '[...]', formats: ['f32'] } },
  outputs: { y: { doc: '[...]', formats: ['f32'] } },
  infer: (_attrs, { x }) => ({ y: x! }),
  gradient: { none: 'only timed' },
  reference: (_call, { x }) => ({ y: x!.map((v) => 2 * v) }),
  tolerance: () => ({ y: exact }),
  flops: ({ inputs }) => inputs.x!.shape.reduce((a, b) => a * b),
  cases: [
    { name: 'whole', attrs: {}, inputs: { x: normal([128]) } },
    { name: 'prime', attrs: {}, inputs: { x: normal([67]) } },
  ],
})

const text = `
const COUNT: u32 = 1u;
const SHORT: u32 = 0u;
const WASTE: u32 = 1u;
const FACTOR: f32 = 2.0f;
@group(0) @binding(0) var<storage, read_write> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u) {
  let i = id.x;
  if (i >= select(COUNT, COUNT / 64u * 64u, SHORT == 1u)) { return; }
  var state = bitcast<u32>(x[i]);
  for (var k = 0u; k < select(WASTE, 1u, SHORT == 1u); k++) { state = state * 1664525u + 1013904223u; }
  y[i] = select(FACTOR * x[i], 0.0, state == 1u);
}`

const parameters = {
  short: { doc: 'leave out what fills no workgroup', values: [0, 1] },
  waste: { doc: 'turns that change nothing', values: [1, 4096] },
  factor: { doc: 'should be 2', values: [2, 3] },
}

registerOp(doubled)
registerWebGpuKernel(
  doubled.name,
  tunable(parameters, ({ op, inputs }, traits) => {
    const count = inputs.x!.shape.reduce((a, b) => a * b)
    const choice = decide(traits, {
      op,
      kernel: op,
      shape: { count },
      options: {
        short: { values: parameters.short.values, heuristic: 0 },
        waste: { values: parameters.waste.values, heuristic: 4096 },
        factor: { values: parameters.factor.values, heuristic: 2 },
      },
    })
    return {
      launches: [
        {
          variant: op,
          modules: [op],
          constants: { COUNT: count, SHORT: choice.short, WASTE: choice.waste, FACTOR: choice.factor },
          workgroups: [Math.ceil(count / 64), 1, 1],
          bindings: [
            { port: 'x', access: 'read' },
            { port: 'y', access: 'write' },
          ],
        },
      ],
    }
  }),
  { [doubled.name]: text },
)

const device = (await quickWebGpu()) as WebGpuDevice
afterAll(() => device.destroy())
const call = checkCall(doubled, {}, { x: tensorType('f32', 4096) })
const [decision] = device.target.decisions(call)

it('takes what is faster, refuses by name what fails a vector or differs in a bit', async () => {
  const { entry, tried } = await new Search(device, processorClock, () => {}).decide(call, decision!, [])
  expect(tried.map(({ choice, verdict }) => [choice, verdict])).toEqual([
    [{ short: 1, waste: 4096, factor: 2 }, 'refused'],
    [{ short: 0, waste: 1, factor: 2 }, 'taken'],
    [{ short: 0, waste: 1, factor: 3 }, 'refused'],
  ])
  expect(tried[0]!.reason).toMatch(/^tuned_double\/prime .* y\[64\] expected/)
  expect(tried[2]!.reason).toMatch(/^y differs from the heuristics’ choice from byte \d+ on$/)
  expect(entry).toMatchObject({
    op: doubled.name,
    shape: { count: 4096 },
    choice: { short: 0, waste: 1, factor: 2 },
  })
  expect(entry.ratio).toBeGreaterThan(1.5)
})

it('a target with the entry chooses it', () => {
  const choice = { short: 0, waste: 1, factor: 2 }
  const tuned = device.targetWith([
    { op: doubled.name, kernel: doubled.name, shape: { count: 4096 }, choice },
  ])
  const chosen = tuned.choose(call)
  expect('launches' in chosen && chosen.launches[0]!.constants.WASTE).toBe(1)
  expect(alternatives(decision!)).toHaveLength(3)
})

it('stops in the middle of a decision when the time is over', async () => {
  const search = new Search(device, processorClock, () => {
    throw new Error('time is over')
  })
  await expect(search.decide(call, decision!, [])).rejects.toThrow('time is over')
})
