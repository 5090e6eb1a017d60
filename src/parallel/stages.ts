import { check, ExactmapError } from '../errors.ts'
import type { BoundaryAttributes } from '../ops/collectives/boundary.ts'
import { Graph, type GraphNode, type GraphValue } from '../program/graph.ts'
import { inputsOf } from '../program/rewrite.ts'
import { rankOf, type Schedule, stageCount, stageOf } from './schedules/schedule.ts'

/** Name of a chunk's segment; a rank with one chunk needs no number. */
export const chunkSegment = (name: string, chunk: number, chunks: number): string =>
  chunks === 1 ? name : `${name}.${chunk}`

/** Which rank of a pipeline holds which stages: a schedule says so, whatever it does with them. */
export type StagePlacement = Pick<Schedule, 'p' | 'v' | 'placement'>

/**
 * Stage of every node of a model's forward graph: layers are dealt out evenly in order; what stands outside of layers
 * belongs to the latest stage it reads from, so the embedding is with the first layer and the head with the last. The
 * token history is with the last stage, which samples; ids read from it are to the others like ids of a step.
 *
 * @throws ExactmapError `invalid_config` for fewer layers than stages
 */
export function stagesOfNodes(graph: Graph, stages: number): number[] {
  const layerOf = ({ scope }: GraphNode): number => {
    const found = /(?:^|\/)layer\.(\d+)(?:\/|$)/.exec(scope)
    return found ? Number(found[1]) : -1
  }
  const layers = 1 + Math.max(-1, ...graph.nodes.map(layerOf))
  check(
    stages === 1 || layers >= stages,
    'invalid_config',
    `the model has ${layers} layers, the pipeline ${stages} stages; each stage needs a layer of its own`,
  )
  const of: number[] = []
  for (const node of graph.nodes) {
    const layer = layerOf(node)
    const before = Object.values(node.inputs).map((id) => {
      const { origin } = graph.value(id)
      return origin.kind === 'node' && !usesHistory(graph, graph.nodes[origin.node]!) ? of[origin.node]! : 0
    })
    of[node.id] = usesHistory(graph, node)
      ? stages - 1
      : layer < 0
        ? Math.max(0, ...before)
        : Math.floor((layer * stages) / layers)
  }
  return of
}

/** Whether a node works on the token history, as it was before the step or as another node of the step left it. */
function usesHistory(graph: Graph, node: GraphNode): boolean {
  return Object.values(node.inputs).some((id) => {
    const { origin } = graph.value(graph.value(id).storage)
    return origin.kind === 'external' && origin.arena === 'state'
  })
}

/**
 * Chunks of a rank whose stages follow each other: what one hands to the next stays where it is, so they share a
 * microbatch slot. In a V the last rank has such a pair.
 */
export function joinedChunks(schedule: StagePlacement, rank: number): number[][] {
  const { v, placement } = schedule
  const chunks = Array.from({ length: v }, (_, chunk) => chunk).sort(
    (a, b) => stageOf(placement, schedule, rank, a) - stageOf(placement, schedule, rank, b),
  )
  const groups: number[][] = []
  for (const chunk of chunks) {
    const stage = stageOf(placement, schedule, rank, chunk)
    const last = groups.at(-1)
    if (last && stageOf(placement, schedule, rank, last.at(-1)!) === stage - 1) last.push(chunk)
    else groups.push([chunk])
  }
  return groups
}

/**
 * The part of a model's forward graph that one pipeline rank has: each of its segments for each of the rank's chunks, with
 * `receive` and `send` nodes in group `pipeline` where values come from other ranks and go to them. Each stage has two
 * channels: 2s carries values into stage s, 2s+1 their gradients back. Into stage 0 come ids from the token history,
 * sent before the last stage waits for what becomes of them.
 *
 * @param backward names of the backward passes that will be added, so that segments can be declared in the order in
 *   which memory is reused: chunk after chunk, joined ones with their backward passes turned round
 */
export function rankGraph(
  graph: Graph,
  schedule: StagePlacement,
  rank: number,
  backward: readonly string[] = [],
): Graph {
  const { p, v, placement } = schedule
  const stages = stageCount(schedule)
  const stage = stagesOfNodes(graph, stages)
  const readers = readingStages(graph, stage)
  const out = new Graph(graph.name)
  const groups = joinedChunks(schedule, rank)
  for (const chunks of groups) {
    for (const chunk of chunks)
      for (const segment of graph.segments) out.segment(chunkSegment(segment, chunk, v), () => {})
    for (const chunk of [...chunks].reverse())
      for (const pass of backward) out.segment(chunkSegment(pass, chunk, v), () => {})
  }
  const boundary = (peerStage: number, intoStage: number): BoundaryAttributes => ({
    group: 'pipeline',
    size: p,
    peer: rankOf(placement, schedule, peerStage),
    channel: 2 * intoStage,
    back: 2 * intoStage + 1,
  })
  const made = new Map<number, GraphValue>()
  const declared = (value: GraphValue): GraphValue => {
    const { origin, type } = value
    switch (origin.kind) {
      case 'external':
        return out.external(origin.arena, origin.name, type)
      case 'range':
        return out.range(origin.arena, origin.offset, type)
      case 'input':
        return out.input(origin.name, type)
      case 'constant':
        return out.constant(origin.generator, origin.attrs, type)
      case 'node':
        throw new ExactmapError('internal', `${value.name} is used before it is made`)
    }
  }

  for (const chunk of groups.flat()) {
    const own = stageOf(placement, schedule, rank, chunk)
    const find = (id: number): GraphValue => {
      const value = graph.value(id)
      if (value.origin.kind !== 'node') return declared(value)
      const known = made.get(id)
      if (known) return known
      const from = stage[value.origin.node]!
      check(
        follows(from, own, stages),
        'unsupported',
        `stage ${own} reads ${value.name} of stage ${from}: a stage can only read what the stage before it made`,
      )
      const { y } = out.op('receive', { ...boundary(from, own), type: value.type }, {})
      made.set(id, y!)
      return y!
    }
    /** Gives a value to the stages that read it, where those are on another rank. */
    const handOn = (id: number, value: GraphValue): void => {
      for (const to of readers.get(id) ?? [])
        if (follows(own, to, stages) && rankOf(placement, schedule, to) !== rank)
          out.op('send', boundary(to, to), { x: value })
    }
    for (const segment of graph.segments)
      out.segment(chunkSegment(segment, chunk, v), () => {
        for (const node of graph.nodes) {
          if (stage[node.id] !== own || node.segment !== segment) continue
          const inputs = inputsOf(node, find)
          const emit = (): void => {
            const outputs = out.op(node.op, node.attrs, inputs)
            for (const [port, id] of Object.entries(node.outputs)) made.set(id, outputs[port]!)
          }
          if (node.scope) out.scope(node.scope, emit)
          else emit()
          for (const id of Object.values(node.outputs)) handOn(id, made.get(id)!)
        }
        for (const { segment: of, name, value } of graph.outputs) {
          const { origin } = graph.value(value)
          if (of === segment && origin.kind === 'node' && stage[origin.node] === own)
            out.output(name, find(value))
        }
      })
  }
  return out
}

/** Whether what a stage makes may be read by another one: by the next, and ids of the last by the first. */
const follows = (from: number, to: number, stages: number): boolean =>
  to === from + 1 || (to === 0 && from === stages - 1)

/** Stages that read a value, by its id. */
function readingStages(graph: Graph, stage: readonly number[]): Map<number, Set<number>> {
  const readers = new Map<number, Set<number>>()
  for (const node of graph.nodes)
    for (const id of Object.values(node.inputs)) {
      const { origin } = graph.value(id)
      if (origin.kind !== 'node' || stage[origin.node] === stage[node.id]) continue
      readers.set(id, (readers.get(id) ?? new Set()).add(stage[node.id]!))
    }
  return readers
}
