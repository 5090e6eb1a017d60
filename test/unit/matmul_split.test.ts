import { afterAll, describe, expect, it } from 'vitest'
import type { Target } from '../../backends/backend.ts'
import { weightParts } from '../../backends/webgpu/kernels/weight_parts.ts'
import { readKernelLibrary } from '../../backends/webgpu/node/library.ts'
import { webGpuTarget } from '../../backends/webgpu/target.ts'
import { integers, normal, values } from '../../src/ops/cases.ts'
import type { CaseInput } from '../../src/ops/contract.ts'
import { opContract } from '../../src/ops/index.ts'
import { compareOutputs, vectorProgram } from '../../src/verify/run.ts'
import { makeVector } from '../../src/verify/vector.ts'
import { quickWebGpu } from '../helpers/webgpu.ts'

// Weights larger than a binding: the same ops compiled for a device, but with small binding limits. Which launches an op is
// split into does not depend on the driver; their kernels are those of the conformance suite.
const device = await quickWebGpu()
afterAll(() => device.destroy())

const limited = (maxBindingSize: number): Target =>
  webGpuTarget({ ...device.target, limits: { ...device.target.limits, maxBindingSize } }, readKernelLibrary())

interface Split {
  readonly op: string
  readonly limit: number
  readonly launches: number
  readonly attrs?: object
  readonly inputs: Readonly<Record<string, CaseInput>>
}

const splits: Readonly<Record<string, Split>> = {
  'matmul tile f32 with bias and residual': {
    op: 'matmul',
    limit: 16384,
    launches: 3,
    attrs: { activation: 'silu' },
    inputs: {
      x: normal([5, 64]),
      w: normal([150, 64], 0.2),
      bias: normal([150], 1, 'f16'),
      residual: normal([5, 150]),
    },
  },
  'matmul vector f16': {
    op: 'matmul',
    limit: 16384,
    launches: 3,
    inputs: { x: normal([1, 136]), w: normal([131, 136], 1, 'f16'), bias: normal([131]) },
  },
  'matmul vector q8_0': {
    op: 'matmul',
    limit: 16384,
    launches: 4,
    inputs: { x: normal([1, 96]), w: normal([600, 96], 1, 'q8_0'), residual: normal([1, 600]) },
  },
  'matmul tile q4_0': {
    op: 'matmul',
    limit: 16384,
    launches: 3,
    inputs: { x: normal([3, 96]), w: normal([704, 96], 1, 'q4_0'), bias: normal([704]) },
  },
  'matmul vector e4m3_128': {
    op: 'matmul',
    limit: 16384,
    launches: 3,
    inputs: { x: normal([1, 128]), w: normal([300, 128], 1, 'e4m3_128') },
  },
  'matmul tile mxfp8': {
    op: 'matmul',
    limit: 16384,
    launches: 4,
    inputs: { x: normal([3, 96]), w: normal([600, 96], 1, 'mxfp8'), bias: normal([600]) },
  },
  'matmul scalar bf16': {
    op: 'matmul',
    limit: 16384,
    launches: 4,
    inputs: { x: normal([3, 37]), w: normal([500, 37], 1, 'bf16') },
  },
  matmul_backward_input: {
    op: 'matmul_backward_input',
    limit: 16384,
    launches: 3,
    inputs: { dy: normal([9, 132]), w: normal([132, 64]) },
  },
  'matmul_backward_input of odd width': {
    op: 'matmul_backward_input',
    limit: 17000,
    launches: 2,
    inputs: { dy: normal([9, 67]), w: normal([67, 65]) },
  },
  matmul_backward_weight: {
    op: 'matmul_backward_weight',
    limit: 16384,
    launches: 3,
    inputs: { accumulator: normal([132, 64]), dy: normal([9, 132]), x: normal([9, 64]) },
  },
  'embedding f32, ids past the table': {
    op: 'embedding',
    limit: 16384,
    launches: 3,
    inputs: { ids: integers([40], 0, 180), table: normal([150, 64]) },
  },
  'embedding q8_0': {
    op: 'embedding',
    limit: 16384,
    launches: 4,
    inputs: { ids: integers([40], 0, 600), table: normal([600, 96], 1, 'q8_0') },
  },
  'matmul_grouped bf16, an expert in two parts, rows of no expert': {
    op: 'matmul_grouped',
    limit: 8192,
    launches: 2,
    inputs: {
      x: normal([20, 64]),
      offsets: values([4], [1, 8, 9, 17], 'u32'),
      w: normal([3, 30, 64], 1, 'bf16'),
    },
  },
  'matmul_grouped_backward_input, an expert in three parts, rows of no expert': {
    op: 'matmul_grouped_backward_input',
    limit: 8192,
    launches: 3,
    inputs: {
      dy: normal([20, 67]),
      offsets: values([3], [1, 8, 17], 'u32'),
      w: normal([2, 67, 40]),
    },
  },
  'matmul_grouped_backward_weight, experts in two parts each, one without rows': {
    op: 'matmul_grouped_backward_weight',
    limit: 8192,
    launches: 4,
    inputs: {
      accumulator: normal([3, 64, 40]),
      dy: normal([20, 64]),
      x: normal([20, 40]),
      offsets: values([4], [1, 8, 8, 17], 'u32'),
    },
  },
  embedding_backward: {
    op: 'embedding_backward',
    limit: 16384,
    launches: 3,
    inputs: { accumulator: normal([150, 64]), dy: normal([40, 64]), ids: integers([40], 0, 180) },
  },
}

describe('weights larger than a binding', () => {
  for (const [name, { op, limit, launches, attrs = {}, inputs }] of Object.entries(splits))
    it(name, async () => {
      const vector = makeVector(opContract(op), { name: 'split', attrs, inputs })
      const program = vectorProgram(vector, limited(limit))
      const parts = program.segments[0]!.steps.filter((s) => s.kind === 'launch' && s.call.op === op)
      expect(parts).toHaveLength(launches)
      for (const part of parts)
        if (part.kind === 'launch')
          for (const { bytes } of part.bindings) expect(bytes).toBeLessThanOrEqual(limit)
      const executable = await device.load(program)
      const given = Object.fromEntries(Object.entries(vector.inputs).map(([p, t]) => [p, t.bytes]))
      expect(compareOutputs(vector, await executable.step('main', given)).wrong).toBeUndefined()
      executable.destroy()
    })

  it('covers every row once, aligned, for any size', () => {
    for (const format of ['f32', 'f16', 'q8_0', 'q4_0', 'mxfp8'] as const)
      for (const [rows, width] of [[1000, 96] as const, [1024, 32] as const, [777, 256] as const]) {
        const limits = { ...device.target.limits, maxBindingSize: 8192, bindingAlignment: 256 }
        const parts = weightParts({ format, shape: [rows, width] }, limits)
        if (typeof parts === 'string') throw new Error(parts)
        let next = 0
        for (const part of parts) {
          expect(part.first).toBe(next)
          next += part.rows
          for (const range of [part.range, part.scales])
            if (range) {
              expect(range.offset % 256).toBe(0)
              expect(range.bytes).toBeLessThanOrEqual(8192)
            }
        }
        expect(next).toBe(rows)
      }
  })

  it('says why a matrix can not be split', () => {
    const limits = { ...device.target.limits, maxBindingSize: 1024, bindingAlignment: 256 }
    expect(weightParts({ format: 'f32', shape: [8, 512] }, limits)).toMatch(
      /exceed the largest binding, 1024 bytes/,
    )
    expect(weightParts({ format: 'nvfp4', shape: [64, 64] }, limits)).toMatch(
      /2308 bytes exceed .* nvfp4 has one scale for all of them/,
    )
  })
})
