// An op from outside the package: contract, gradient, and its kernels in WGSL and CUDA with their rules. 'exactmap'
// stands for src/index.ts.
import { z } from 'zod'
import {
  defineOp,
  normal,
  registerCudaKernel,
  registerOp,
  registerWebGpuKernel,
  relative,
  values,
} from '../../src/index.ts'

const port = { doc: '[...]', formats: ['f32'] } as const
const shared = {
  attributes: z.strictObject({}),
  source: 'So et al., Primer: searching for efficient transformers for language modeling, 2021',
}
const cases = [
  { name: 'prime', attrs: {}, inputs: { x: normal([3, 37]) } },
  { name: 'past_workgroup', attrs: {}, inputs: { x: normal([257], 100) } },
  { name: 'around_zero', attrs: {}, inputs: { x: values([8], [-1, 1e-3, -1e-3, 2]) } },
]

/** y = max(x, 0)^2; one rounding, so half a spacing of the result. */
export const squared_relu = defineOp<Record<string, never>>({
  ...shared,
  name: 'squared_relu',
  summary: 'y = max(x, 0)^2',
  inputs: { x: port },
  outputs: { y: port },
  infer: (_attrs, { x }) => ({ y: x! }),
  gradient: {
    x: {
      input: ({ g, inputs, dOutputs }) =>
        g.op('squared_relu_backward', {}, { x: inputs.x, dy: dOutputs.y }).dx!,
    },
  },
  reference: (_call, { x }) => ({ y: x!.map((v) => Math.max(v, 0) ** 2) }),
  tolerance: (_call, _inputs, { y }) => ({ y: relative(y!, 0.5) }),
  flops: ({ inputs }) => 2 * inputs.x!.shape.reduce((a, b) => a * b),
  cases,
})

/** dx = 2 max(x, 0) dy; doubling is exact. */
export const squared_relu_backward = defineOp<Record<string, never>>({
  ...shared,
  name: 'squared_relu_backward',
  summary: 'dx = 2 max(x, 0) dy',
  inputs: { x: port, dy: port },
  outputs: { dx: port },
  infer: (_attrs, { x }) => ({ dx: x! }),
  gradient: { none: 'a gradient rule itself' },
  reference: (_call, { x, dy }) => ({ dx: x!.map((v, i) => 2 * Math.max(v, 0) * dy![i]!) }),
  tolerance: (_call, _inputs, { dx }) => ({ dx: relative(dx!, 0.5) }),
  flops: ({ inputs }) => 3 * inputs.x!.shape.reduce((a, b) => a * b),
  cases: cases.map((c) => ({ ...c, inputs: { ...c.inputs, dy: normal(c.inputs.x.shape) } })),
})

// Bytes: 4 read and 4 written per element (the gradient reads 8); 2 or 3 flops: limited by memory bandwidth.
const kernel = (inputs: readonly string[], output: string, value: string) => `
const COUNT: u32 = 1u;
${[...inputs, output].map((name, i) => `@group(0) @binding(${i}) var<storage, read_write> ${name}: array<f32>;`).join('\n')}
@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  for (var i = id.x; i < COUNT; i += groups.x * 64u) { ${output}[i] = ${value}; }
}`

const cuda = (name: string, inputs: readonly string[], output: string, value: string) => `
#include "lib/kernel.h"
KERNEL(${name}, 256, ${inputs.map((input) => `const float* ${input}, `).join('')}float* ${output}, uint32_t count) {
  const uint32_t i = blockIdx.x * 256 + threadIdx.x;
  if (i < count) ${output}[i] = ${value};
}
`

for (const [contract, text, cudaText] of [
  [
    squared_relu,
    kernel(['x'], 'y', 'max(x[i], 0.0) * max(x[i], 0.0)'),
    cuda('squared_relu', ['x'], 'y', 'fmaxf(x[i], 0.0f) * fmaxf(x[i], 0.0f)'),
  ],
  [
    squared_relu_backward,
    kernel(['x', 'dy'], 'dx', '2.0 * max(x[i], 0.0) * dy[i]'),
    cuda('squared_relu_backward', ['x', 'dy'], 'dx', '2.0f * fmaxf(x[i], 0.0f) * dy[i]'),
  ],
] as const) {
  const { name } = contract
  registerOp(contract)
  registerCudaKernel(
    name,
    ({ inputs, outputs }) => {
      const count = inputs.x!.shape.reduce((a, b) => a * b)
      return {
        launches: [
          {
            variant: name,
            modules: [name],
            constants: { count },
            workgroups: [Math.ceil(count / 256), 1, 1],
            bindings: [
              ...Object.keys(inputs).map((port) => ({ port, access: 'read' as const })),
              ...Object.keys(outputs).map((port) => ({ port, access: 'write' as const })),
            ],
          },
        ],
      }
    },
    { [`${name}.cu`]: cudaText },
  )
  registerWebGpuKernel(
    name,
    ({ inputs, outputs }) => {
      const count = inputs.x!.shape.reduce((a, b) => a * b)
      const read = Object.keys(inputs).map((input) => ({ port: input, access: 'read' as const }))
      const write = Object.keys(outputs).map((output) => ({ port: output, access: 'write' as const }))
      return {
        launches: [
          {
            variant: name,
            modules: [name],
            constants: { COUNT: count },
            workgroups: [Math.min(Math.ceil(count / 64), 65535), 1, 1],
            bindings: [...read, ...write],
          },
        ],
      }
    },
    { [name]: text },
  )
}
