import { normTileCount } from '../ops/constants.ts'
import type { Value } from '../ops/contract.ts'
import type { Graph } from '../program/graph.ts'
import { elementCount, tensorType } from '../tensor/type.ts'
import type { Division, TrainingLayout } from './division.ts'
import { type GridPlace, groupsAt, samePlace } from './grid.ts'

/**
 * Norm of the gradients of the whole model, the same bytes on every rank and for every pipeline: squares are summed in
 * tiles that start with each tensor, and the tiles' sums, gathered from all ranks, in the order of the tensors' names.
 *
 * @param x the range of all gradients of this rank's parameters
 */
export function gradientNorm(
  g: Graph,
  division: Division,
  layout: TrainingLayout,
  place: GridPlace,
  x: Value,
): Value {
  const places = groupsAt(division.grid, place).model!
  const self = places.findIndex((at) => samePlace(at, place))
  const tilesOf = (elements: number): number => normTileCount({ tensors: [[0, elements]] })
  // What each rank sums, in code-point order. Tensor-parallel members all sum what all have, so that they share a
  // program; the first one's sum counts.
  const summed = places.map((at) =>
    division.firstHeld(at).map(({ name, shard }) => ({
      name,
      member: at.tensor,
      elements: elementCount(shard.shape),
      counts: !(shard.replicated && at.tensor > 0),
    })),
  )
  const tiles = summed.map((list) => list.reduce((sum, { elements }) => sum + tilesOf(elements), 0))
  const offsetOf = new Map(layout.layouts.parameters!.tensors.map(({ name, offset }) => [name, offset]))
  const own = (): Value => {
    const tensors = summed[self]!.map(({ name, elements }) => [offsetOf.get(name)! / 4, elements])
    const table = g.constant('norm_tiles', { tensors }, tensorType('u32', tiles[self]!, 2))
    return g.op('square_sums', {}, { x, tiles: table }).sums!
  }
  if (places.length === 1) return g.op('norm_of_sums', {}, { sums: own() }).norm!

  const starts = tiles.map((_, i) => tiles.slice(0, i).reduce((a, b) => a + b, 0))
  const total = tiles.reduce((a, b) => a + b, 0)
  // A rank whose parameters another one counts has nothing to send.
  const bytes = 4 * tiles[self]!
  const all = g.op(
    'exchange',
    {
      group: 'model',
      size: places.length,
      channel: 0,
      sends: bytes > 0 ? places.map((_, peer) => ({ peer, port: 'x', offset: 0, bytes })) : [],
      receives: tiles.flatMap((count, peer) =>
        count === 0 ? [] : [{ peer, port: 'y', offset: 4 * starts[peer]!, bytes: 4 * count }],
      ),
      outputs: { y: tensorType('f32', total, 1) },
    },
    { x: bytes > 0 ? own() : undefined },
  ).y!
  // By name, then by tensor-parallel member.
  const order = summed
    .flatMap((list, at) => {
      let next = starts[at]!
      return list.map(({ elements, ...tensor }) => {
        const first = next
        next += tilesOf(elements)
        return { ...tensor, first, end: next }
      })
    })
    .filter(({ counts }) => counts)
    .sort((a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : a.member - b.member))
    .flatMap(({ first, end }) => Array.from({ length: end - first }, (_, i) => first + i))
  const ids = g.constant('indices', { values: order }, tensorType('u32', order.length))
  return g.op('norm_of_sums', {}, { sums: g.op('embedding', {}, { ids, table: all }).y! }).norm!
}
