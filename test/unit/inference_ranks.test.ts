import { expect, it } from 'vitest'
import { referenceTarget } from '../../backends/reference/device.ts'
import { type InferenceSpec, inferenceGraph } from '../../src/engine/inference_graph.ts'
import type { InferenceGrid } from '../../src/engine/ranks.ts'
import { familyOf } from '../../src/models/index.ts'
import { compile } from '../../src/program/compile.ts'
import type { Program } from '../../src/program/program.ts'
import { verifyProgram } from '../../src/program/verify.ts'

// Programs of inference over ranks, without running them: what one rank sends another one takes, in every segment.

const config = {
  architectures: ['LlamaForCausalLM'],
  hidden_size: 32,
  intermediate_size: 64,
  num_hidden_layers: 4,
  num_attention_heads: 4,
  num_key_value_heads: 4,
  vocab_size: 64,
  max_position_embeddings: 64,
}
const spec: InferenceSpec = { context: 64, batch: 2, prefill: [16, 64], weights: 'f32', kv: 'f32' }
const family = familyOf(config)

interface Rank {
  readonly place: { readonly pipeline: number; readonly tensor: number }
  readonly program: Program
}

function ranksOf(grid: InferenceGrid): Rank[] {
  return Array.from({ length: grid.pipeline * grid.tensor }, (_, rank) => {
    const place = { pipeline: Math.floor(rank / grid.tensor), tensor: rank % grid.tensor }
    const graph = inferenceGraph('ranks', family, family.parse(config), spec, { grid, place })
    const program = compile(graph, referenceTarget)
    verifyProgram(program, referenceTarget)
    return { place, program }
  })
}

/** Exchanges of a segment in order, with the ranks that the group's member numbers stand for. */
function exchanges({ place, program }: Rank, segment: string, grid: InferenceGrid) {
  const rankOf = (group: string, member: number): number =>
    group === 'tensor' ? place.pipeline * grid.tensor + member : member * grid.tensor + place.tensor
  const { steps } = program.segments.find(({ name }) => name === segment)!
  return steps.flatMap((step) => {
    if (step.kind !== 'exchange') return []
    const named = ({ peer, bytes }: { peer: number; bytes: number }) => ({
      rank: rankOf(step.group, peer),
      channel: `${step.group} ${step.channel}`,
      bytes,
    })
    return [{ sends: step.sends.map(named), receives: step.receives.map(named) }]
  })
}

it.each<InferenceGrid>([
  { pipeline: 1, tensor: 4 },
  { pipeline: 4, tensor: 1 },
  { pipeline: 2, tensor: 2 },
])('every message is taken, in order and without waiting in a ring: %o', (grid) => {
  const ranks = ranksOf(grid)
  for (const segment of ['prefill_16', 'prefill_64', 'decode']) {
    const lists = ranks.map((rank) => exchanges(rank, segment, grid))
    const next = lists.map(() => 0)
    const given = new Set<number>()
    const boxes = new Map<string, number[]>()
    const box = (from: number, to: number, channel: string): number[] => {
      const key = `${from} ${to} ${channel}`
      const found = boxes.get(key) ?? []
      boxes.set(key, found)
      return found
    }
    // A rank gives what an exchange sends when it comes to it, and goes on when all it receives is there.
    for (let moved = true; moved; ) {
      moved = false
      for (const [rank, list] of lists.entries()) {
        const step = list[next[rank]!]
        if (!step) continue
        if (!given.has(rank))
          for (const { rank: to, channel, bytes } of step.sends) box(rank, to, channel).push(bytes)
        given.add(rank)
        if (step.receives.some(({ rank: from, channel }) => box(from, rank, channel).length === 0)) continue
        for (const { rank: from, channel, bytes } of step.receives)
          expect(box(from, rank, channel).shift()).toBe(bytes)
        given.delete(rank)
        next[rank]!++
        moved = true
      }
    }
    expect(next, segment).toEqual(lists.map((list) => list.length))
    expect([...boxes.values()].flat(), segment).toEqual([])
  }
})

it('only the last stage samples and keeps the token history; it sends ids before it waits', () => {
  const grid = { pipeline: 4, tensor: 1 }
  const ranks = ranksOf(grid)
  for (const [stage, rank] of ranks.entries()) {
    const last = stage === 3
    const { arenas, segments } = rank.program
    expect(arenas.some(({ kind }) => kind === 'state')).toBe(last)
    for (const { outputs } of segments) expect(outputs.map(({ name }) => name)).toEqual(last ? ['token'] : [])
    const list = exchanges(rank, 'decode', grid)
    const ids = { channel: 'pipeline 0', bytes: 4 * spec.batch }
    if (last) expect(list[0]).toEqual({ sends: [{ rank: 0, ...ids }], receives: [] })
    if (stage === 0) expect(list[0]).toEqual({ sends: [], receives: [{ rank: 3, ...ids }] })
    // Prefill reads its ids from the host on the first stage.
    const prefill = exchanges(rank, 'prefill_16', grid)
    expect(prefill.flatMap(({ sends }) => sends.map(({ rank: to }) => to))).toEqual(last ? [] : [stage + 1])
  }
})
