import { check } from '../errors.ts'
import { ModelBuilder, type ModelFamily, type ModelShape, type TensorParallel } from '../models/model.ts'
import type { Value } from '../ops/contract.ts'
import { lowerCollectives } from '../parallel/collectives/lower.ts'
import { rankGraph } from '../parallel/stages.ts'
import { applyRecipe } from '../program/apply_recipe.ts'
import { Graph } from '../program/graph.ts'
import type { Recipe } from '../program/recipe.ts'
import { tensorType } from '../tensor/type.ts'
import { differentiate } from './autodiff.ts'
import { Division, type TrainingLayout } from './division.ts'
import { type GridPlace, groupsAt, samePlace, type TrainingGrid } from './grid.ts'
import { withRecomputedLogits } from './recomputed_logits.ts'
import { addUpdate } from './update_graph.ts'

export interface TrainingSpec {
  /** Sequences of one microbatch and their length. */
  readonly batch: number
  readonly sequence: number
  readonly recipe: Recipe
  /** Attention stays inside a document. */
  readonly documentMask: boolean
  readonly recompute: 'none' | 'layer'
  readonly logits: 'stored' | 'recomputed'
}

export interface TrainingGraph {
  readonly graph: Graph
  readonly division: Division
  readonly layout: TrainingLayout
}

/**
 * The training graph of one rank, by segment (those of the passes once for each chunk it has, see parallel/stages.ts):
 * - zero: clears the gradients
 * - forward: loss of one microbatch. Inputs ids, targets, documents, positions u32[T], weights f32[T] (already
 *   divided by the number of counted tokens of the whole step). Output, where the last stage is: loss[T]
 * - backward_input, backward_weight (or backward): gradients added into their arena
 * - reduce: gradients summed over ranks, norm[1] of all of them
 * - optimizer: AdamW with clipped gradients. Inputs: limit[1] (0: off), hyper[2, 8] of matrices and of vectors
 * - publish: parameters rounded to the weights that the passes read (only where the recipe reads them in other formats)
 *
 * With tensor parallelism first_id[1] is the first vocabulary entry of the rank, targets count from there, and
 * `positions.own`, `ids.own` hold the rank's part of the rows.
 *
 * @param chunk largest buffer of the device, a multiple of 256
 */
export function trainingGraph(
  name: string,
  family: ModelFamily,
  config: ModelShape,
  spec: TrainingSpec,
  grid: TrainingGrid,
  place: GridPlace,
  chunk: number,
): TrainingGraph {
  const forward = forwardGraph(name, family, config, spec, {
    group: 'tensor',
    size: grid.tensor,
    member: place.tensor,
    sequence: grid.tensor > 1,
  })
  const division = new Division(family, config, grid, forward)
  const passes = spec.recompute === 'layer' ? ['backward'] : ['backward_input', 'backward_weight']
  const part = rankGraph(forward, grid.schedule, place.pipeline, passes)
  const trained = differentiate(part, {
    roots: part.outputs.map(({ value }) => ({ value })),
    parameters: 'parameters',
    recompute: spec.recompute,
    accumulator: (parameter, use) => division.accumulator(place.pipeline, parameter, use),
  })
  const layout = division.layout(place, chunk)
  const whole = applyRecipe(addUpdate(trained, division, layout, place), spec.recipe)
  const members = Object.fromEntries(
    Object.entries(groupsAt(grid, place)).map(([group, places]) => [
      group,
      places.findIndex((other) => samePlace(other, place)),
    ]),
  )
  return { graph: lowerCollectives(whole, members), division, layout }
}

/** The forward pass of the whole model, in segment `forward`: its loss by row. */
function forwardGraph(
  name: string,
  family: ModelFamily,
  config: ModelShape,
  spec: TrainingSpec,
  tensor: TensorParallel,
): Graph {
  const rows = spec.batch * spec.sequence
  check(
    rows % tensor.size === 0,
    'invalid_config',
    `${tensor.size} tensor-parallel ranks must divide the ${rows} rows of a microbatch; change batch or sequence`,
  )
  const g = new Graph(name)
  const u32 = (label: string, count = rows): Value => g.input(label, tensorType('u32', count))
  g.segment('forward', () => {
    const documents = spec.documentMask ? u32('documents') : undefined
    const [ids, positions] = [u32('ids'), u32('positions')]
    const m = new ModelBuilder(
      g,
      {
        ids,
        firstId: tensor.size > 1 ? u32('first_id', 1) : undefined,
        positions,
        maxPositions: spec.sequence,
        attention: (_m, _layer, qkv, { heads, kv_heads, head_dim, scale, window, softcap }) =>
          g.op(
            'attention',
            { heads, kv_heads, head_dim, sequence: spec.sequence, scale, causal: true, window, softcap },
            { qkv, documents },
          ).y!,
        rows: (_m, x) => x,
        ownRows: (input) => u32(input === ids ? 'ids.own' : 'positions.own', rows / tensor.size),
      },
      'parameters',
      () => 'f32',
      tensor,
    )
    const logits = family.build(m, config)
    const ports = { logits, targets: u32('targets'), weights: g.input('weights', tensorType('f32', rows)) }
    const { loss } =
      tensor.size === 1
        ? g.op('cross_entropy', {}, ports)
        : g.op('cross_entropy_parallel', { group: tensor.group, size: tensor.size }, ports)
    g.output('loss', loss!)
  })
  return spec.logits === 'stored' ? g : withRecomputedLogits(g)
}
