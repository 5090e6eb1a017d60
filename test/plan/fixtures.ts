import type { Target } from '../../backends/backend.ts'
import { referenceTarget } from '../../backends/reference/device.ts'
import { Graph } from '../../src/program/graph.ts'
import { Philox } from '../../src/tensor/philox.ts'
import { elementCount, tensorType } from '../../src/tensor/type.ts'

/** One launch per op like the reference, but with limits that small programs can hit. */
export const tightTarget: Target = {
  ...referenceTarget,
  name: 'tight',
  backend: 'test',
  limits: {
    maxBufferSize: 8192,
    maxBindingSize: 4096,
    bindingAlignment: 256,
    maxBindings: 4,
    maxWorkgroups: 65535,
    maxInvocations: 256,
    maxWorkgroupMemory: 16384,
  },
}

/** A block as in language models, with an in-place op, a constant, weights and two segments. */
export function smallGraph(): Graph {
  const g = new Graph('small')
  const x = g.input('x', tensorType('f32', 4, 64))
  const weight = (name: string, ...shape: number[]) =>
    g.external('weights', name, tensorType('f32', ...shape))
  g.segment('first', () => {
    const scaled = g.op(
      'mul',
      {},
      { a: x, b: g.constant('ones', { shape: [4, 64] }, tensorType('f32', 4, 64)) },
    ).y!
    const h = g.op('rms_norm', { eps: 1e-5 }, { x: scaled, weight: weight('norm', 64) }).y!
    const up = g.op('silu', {}, { x: g.op('matmul', {}, { x: h, w: weight('up', 16, 64) }).y! }).y!
    const down = g.op('matmul', {}, { x: up, w: weight('down', 64, 16) }).y!
    const sum = g.op('accumulate', {}, { accumulator: g.op('mul', {}, { a: down, b: scaled }).y!, x: scaled })
      .y!
    g.output('sum', sum)
  })
  g.segment('second', () => {
    const y = g.op('silu', {}, { x }).y!
    g.output('y', g.op('accumulate', {}, { accumulator: y, x }).y!)
  })
  return g
}

/** Seeded values for every input and external tensor of a graph, by name. */
export function seededValues(graph: Graph, seed = 1): Record<string, Float64Array> {
  const random = new Philox(seed)
  const given: Record<string, Float64Array> = {}
  for (const { name, origin, type } of graph.values)
    if (origin.kind === 'input' || origin.kind === 'external')
      given[name] = Float64Array.from({ length: elementCount(type.shape) }, () => random.normal())
  return given
}
