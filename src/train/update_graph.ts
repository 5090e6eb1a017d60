import type { Value } from '../ops/contract.ts'
import type { Graph } from '../program/graph.ts'
import type { ArenaKind } from '../program/program.ts'
import { rewrite } from '../program/rewrite.ts'
import { tensorType } from '../tensor/type.ts'
import { type Division, ownedRange, type TrainingLayout } from './division.ts'
import { gradientNorm } from './gradient_norm.ts'
import { type GridPlace, groupsAt } from './grid.ts'

/** Gradients and parameters go to other ranks in pieces of this many bytes, which bounds the memory it takes. */
const BUCKET = 4 * 2 ** 20

/** Adds the segments around the passes: see `trainingGraph`. */
export function addUpdate(
  passes: Graph,
  division: Division,
  layout: TrainingLayout,
  place: GridPlace,
): Graph {
  const { matrixBytes, bytes, owned } = layout
  const g = rewrite(passes, () => undefined)
  const range = (kind: ArenaKind, from: number, to: number): Value =>
    g.range(kind, from, tensorType('f32', (to - from) / 4))
  const all = layout.layouts.gradients!.bytes
  const clear = (to: number): unknown => g.op('fill', { value: 0 }, { x: range('gradients', 0, to) })
  g.segment('zero', () => clear(all))
  const { groups = 1 } = division.grid
  // The sum over groups lies behind the sum of a group.
  const groupSums = (): [Value, Value] => [range('gradients', 0, all / 2), range('gradients', all / 2, all)]
  if (groups > 1)
    g.segment('group', () => {
      const [group, total] = groupSums()
      g.op('accumulate', {}, { accumulator: total, x: group })
      clear(all / 2)
    })
  const norm = g.segment('reduce', () => {
    if (groups > 1) {
      const [destination, x] = groupSums()
      g.op('store', {}, { destination, x })
    }
    sumOverRanks(g, division, layout, place, range)
    const x = range('gradients', 0, bytes)
    const norm = gradientNorm(g, division, layout, place, x)
    g.output('norm', norm)
    return norm
  })
  g.segment('optimizer', () => {
    const [begin, end] = owned
    const matrices = Math.min(Math.max(matrixBytes, begin), end) - begin
    g.op(
      'adamw',
      { boundary: matrices / 4 },
      {
        param: range('parameters', begin, end),
        moment1: range('moment1', 0, end - begin),
        moment2: range('moment2', 0, end - begin),
        gradient: range('gradients', begin, end),
        hyper: g.input('hyper', tensorType('f32', 2, 8)),
        norm,
        limit: g.input('limit', tensorType('f32', 1)),
      },
    )
    if (division.grid.zero > 0) shareParameters(g, division, bytes, place, range)
  })
  return g
}

type RangeOf = (kind: ArenaKind, from: number, to: number) => Value

function* buckets(from: number, to: number): Generator<[number, number]> {
  for (let at = from; at < to; at += BUCKET) yield [at, Math.min(to, at + BUCKET)]
}

/**
 * Gradients over data ranks, then those of parameters that tensor-parallel ranks each have whole, then over the uses of
 * tied parameters: in this order the sums have the same bytes for any pipeline, and for data ranks as for groups.
 */
function sumOverRanks(
  g: Graph,
  division: Division,
  layout: TrainingLayout,
  place: GridPlace,
  range: RangeOf,
): void {
  const { grid } = division
  const sum = (group: string, size: number, gradient: Value): void => {
    const y = g.op('all_reduce', { group, size }, { x: gradient }).y!
    g.op('store', {}, { destination: gradient, x: y })
  }
  if (grid.data > 1)
    for (const [from, to] of buckets(0, layout.layouts.gradients!.bytes))
      sum('data', grid.data, range('gradients', from, to))
  if (grid.tensor > 1)
    for (const [from, to] of buckets(...layout.shared))
      sum('tensor', grid.tensor, range('gradients', from, to))
  for (const { name, parameter } of division.furtherAccumulators(place.pipeline)) {
    const type = tensorType('f32', ...layout.shards.get(parameter)!.shape)
    g.op(
      'accumulate',
      {},
      { accumulator: g.external('gradients', parameter, type), x: g.external('gradients', name, type) },
    )
  }
  const { tied } = groupsAt(grid, place)
  if (!tied) return
  for (const name of division.tied()) {
    const { offset, bytes } = layout.layouts.parameters!.tensors.find((t) => t.name === name)!
    for (const [from, to] of buckets(offset, offset + bytes))
      sum('tied', tied.length, range('gradients', from, to))
  }
}

/** Every data rank gives the others the parameters whose optimizer state it has. */
function shareParameters(
  g: Graph,
  division: Division,
  bytes: number,
  place: GridPlace,
  range: RangeOf,
): void {
  const { grid } = division
  const others = Array.from({ length: grid.data }, (_, data) => data).filter((data) => data !== place.data)
  const ranges = Array.from({ length: grid.data }, (_, data) => ownedRange(bytes, grid, { ...place, data }))
  const steps = ranges.map(([from, to]) => [...buckets(from, to)])
  for (let i = 0; i < Math.max(...steps.map((s) => s.length)); i++) {
    const own = steps[place.data]![i]
    const theirs = others.flatMap((data) => {
      const piece = steps[data]![i]
      return piece ? [{ data, from: piece[0], to: piece[1] }] : []
    })
    const received = g.op(
      'exchange',
      {
        group: 'data',
        size: grid.data,
        channel: 0,
        sends: own ? others.map((peer) => ({ peer, port: 'x', offset: 0, bytes: own[1] - own[0] })) : [],
        receives: theirs.map(({ data, from, to }) => ({
          peer: data,
          port: `y${data}`,
          offset: 0,
          bytes: to - from,
        })),
        outputs: Object.fromEntries(
          theirs.map(({ data, from, to }) => [`y${data}`, tensorType('f32', (to - from) / 4)]),
        ),
      },
      own ? { x: range('parameters', own[0], own[1]) } : {},
    )
    for (const { data, from, to } of theirs)
      g.op('store', {}, { destination: range('parameters', from, to), x: received[`y${data}`]! })
  }
}
