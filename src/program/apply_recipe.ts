import type { z } from 'zod'
import { check } from '../errors.ts'
import type { Value } from '../ops/contract.ts'
import { opContract } from '../ops/index.ts'
import { formatOf } from '../tensor/format.ts'
import { tensorType } from '../tensor/type.ts'
import type { Graph, GraphNode, GraphValue } from './graph.ts'
import { asItIs, keyOf, type Reading, type Recipe, readingsOf } from './recipe.ts'
import { rewrite } from './rewrite.ts'

/** A weight as the passes read it, rounded from its f32 master. */
interface Published {
  readonly master: GraphValue
  readonly weight: GraphValue
  readonly reading: Reading
}

/**
 * Gives the f32 values of a graph the formats of a recipe. Segment `publish`, where a recipe reads f32 weights in another
 * format, rounds them from arena `parameters` into arena `weights`; weights that are stored otherwise are read as they are.
 *
 * @throws ExactmapError `invalid_config` for a value that the blocks of a format do not divide
 */
export function applyRecipe(graph: Graph, recipe: Recipe): Graph {
  const wanted = readingsOfValues(graph, recipe)
  const copies = new Map<number, ReadonlyMap<string, GraphValue>>()
  const published = new Map<string, Published>()
  const out = rewrite(graph, (node, out, find) => {
    const readings = readingsOf(recipe, graph, node)
    const inputs = Object.fromEntries(
      Object.entries(node.inputs).map(([port, id]) => {
        const reading = readings[port] ?? asItIs
        const { origin, type: stored } = graph.value(id)
        if (reading.format === 'f32' || origin.kind !== 'external' || stored.format !== 'f32')
          return [port, copies.get(id)?.get(keyOf(reading)) ?? find(id)]
        const name = weightName(origin.name, reading)
        const type = tensorType(reading.format, ...shapeAs(graph.value(id), reading, recipe))
        const weight = out.external('weights', name, type)
        published.set(name, { master: find(id), weight, reading })
        return [port, weight]
      }),
    )
    const outputs = emit(node, out, inputs, outputOf(node, wanted, recipe))
    for (const [port, id] of Object.entries(node.outputs)) {
      const read = [...(wanted.get(id)?.values() ?? [])]
      for (const reading of read) shapeAs(graph.value(id), reading, recipe)
      copies.set(id, copiesOf(out, outputs[port] as GraphValue, read))
      // What the host reads is f32.
      outputs[port] = copies.get(id)!.get('f32') ?? outputs[port]!
    }
    return outputs
  })
  if (published.size > 0) out.segment('publish', () => publish(out, [...published.values()]))
  return out
}

type Wanted = ReadonlyMap<number, ReadonlyMap<string, Reading>>

/** Every way in which an f32 value is read, by its key. */
function readingsOfValues(graph: Graph, recipe: Recipe): Wanted {
  const wanted = new Map<number, Map<string, Reading>>()
  const add = (id: number, reading: Reading): void => {
    if (graph.value(id).type.format !== 'f32') return
    wanted.set(id, (wanted.get(id) ?? new Map()).set(keyOf(reading), reading))
  }
  for (const node of graph.nodes) {
    const readings = readingsOf(recipe, graph, node)
    for (const [port, id] of Object.entries(node.inputs)) add(id, readings[port] ?? asItIs)
  }
  for (const { value } of graph.outputs) add(value, asItIs)
  return wanted
}

/**
 * The attribute `output` of a node: the recipe's 16 bits where its op can give its first result so and all read it so, or
 * in block formats, which are quantized from what is stored.
 */
function outputOf(
  { op, outputs }: GraphNode,
  wanted: Wanted,
  { activations }: Recipe,
): { output?: 'f16' | 'bf16' } {
  if (activations === 'f32') return {}
  const contract = opContract(op)
  const { shape = {} } = contract.attributes as Partial<z.ZodObject>
  const [first] = Object.keys(contract.outputs)
  const read = [...(wanted.get(outputs[first!]!)?.values() ?? [])].map(({ format }) => format)
  const plain = read.filter((format) => formatOf(format).blockSize === 1)
  const given = 'output' in shape && read.length > 0 && plain.every((format) => format === activations)
  return given ? { output: activations } : {}
}

/** The node with its inputs as it reads them. Products of block formats are forward products of transposed operands. */
function emit(
  { op, attrs }: GraphNode,
  out: Graph,
  inputs: Readonly<Record<string, GraphValue>>,
  asked: { output?: 'f16' | 'bf16' },
): Record<string, Value> {
  const { accumulator, dy, w, x } = inputs
  const blocks = dy !== undefined && formatOf(dy.type.format).blockSize > 1
  if (op === 'matmul_backward_input' && blocks) return { dx: out.op('matmul', asked, { x: dy, w }).y! }
  if (op === 'matmul_backward_weight' && blocks)
    return out.op(op, { transposed: true }, { accumulator, dy, x })
  return out.op(op, { ...attrs, ...asked }, inputs)
}

/** A value in every form it is read in: as it is stored, and what is made of that. */
function copiesOf(out: Graph, stored: GraphValue, read: Iterable<Reading>): ReadonlyMap<string, GraphValue> {
  const copies = new Map([[stored.type.format as string, stored]])
  for (const reading of read) {
    const { format: to, transposed } = reading
    if (copies.has(keyOf(reading))) continue
    const { y } =
      formatOf(to).blockSize === 1
        ? out.op('cast', { to }, { x: stored })
        : out.op('quantize', transposed ? { to, transpose: true } : { to }, { x: stored })
    copies.set(keyOf(reading), y!)
  }
  return copies
}

/** Shape of a value as it is read. */
function shapeAs(
  { name, type }: GraphValue,
  { format, transposed }: Reading,
  recipe: Recipe,
): readonly number[] {
  const { blockSize } = formatOf(format)
  const shape = transposed ? [...type.shape].reverse() : type.shape
  const along = shape.at(-1) ?? 1
  check(
    along % blockSize === 0,
    'invalid_config',
    () =>
      `recipe ${recipe.name} reads ${name} [${type.shape}] in blocks of ${blockSize} along ${along} elements; take widths and a batch * sequence that are multiples of ${blockSize}, or another recipe`,
  )
  return shape
}

/** A weight that is read in a block format, too, has that one under a name of its own. */
const weightName = (parameter: string, reading: Reading): string =>
  formatOf(reading.format).blockSize > 1 ? `${parameter}.${keyOf(reading)}` : parameter

function publish(g: Graph, weights: readonly Published[]): void {
  for (const { master, weight, reading } of weights)
    g.op('store', reading.transposed ? { transpose: true } : {}, { destination: weight, x: master })
}
