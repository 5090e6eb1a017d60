import { check } from '../../src/errors.ts'
import { generateConstant } from '../../src/ops/constants.ts'
import { opContract } from '../../src/ops/index.ts'
import type { Graph } from '../../src/program/graph.ts'
import { executionOrder } from '../../src/program/legalize.ts'
import { elementCount } from '../../src/tensor/type.ts'

/**
 * Runs a whole graph in float64 without rounding anything to storage formats: what finite differences need.
 * `given` holds inputs and externals by name; returns every value by id.
 */
export function evaluate(
  graph: Graph,
  given: Readonly<Record<string, Float64Array>>,
): Map<number, Float64Array> {
  const values = new Map<number, Float64Array>()
  const read = (id: number): Float64Array => {
    const known = values.get(id)
    if (known) return known
    const { origin, name, type } = graph.value(id)
    const made =
      origin.kind === 'constant' ? generateConstant(origin.generator, origin.attrs).values : given[name]
    check(
      made && made.length === elementCount(type.shape),
      'invalid_argument',
      () => `evaluate needs '${name}' [${type.shape}]`,
    )
    values.set(id, made)
    return made
  }
  for (const node of executionOrder(graph)) {
    const inputs = Object.fromEntries(Object.entries(node.inputs).map(([port, id]) => [port, read(id)]))
    const outputs = opContract(node.op).reference(graph.call(node), inputs)
    for (const [port, id] of Object.entries(node.outputs)) values.set(id, outputs[port]!)
  }
  // An output may be an input or a constant itself, which no node reads.
  for (const { value } of graph.outputs) read(value)
  return values
}
