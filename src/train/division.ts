import { check } from '../errors.ts'
import type { ModelFamily, ModelShape, ParameterSpec } from '../models/model.ts'
import { type Shard, shardOf } from '../models/shard.ts'
import { rankOf, type Schedule, stageCount } from '../parallel/schedules/schedule.ts'
import { stagesOfNodes } from '../parallel/stages.ts'
import type { Graph, GraphNode } from '../program/graph.ts'
import { alignTensor, arenaPlan, externalLayout } from '../program/layout.ts'
import type { ArenaKind, ArenaPlan } from '../program/program.ts'
import { tensorType } from '../tensor/type.ts'
import type { GridPlace, TrainingGrid } from './grid.ts'

/** Layouts of the mirrored arenas of one rank of a training run. */
export interface TrainingLayout {
  readonly layouts: Partial<Record<ArenaKind, ArenaPlan>>
  /** Bytes of the part AdamW decays (matrices) and of all parameters. */
  readonly matrixBytes: number
  readonly bytes: number
  /** Range of the parameters that every tensor-parallel rank has whole. */
  readonly shared: readonly [from: number, to: number]
  /** Range whose optimizer state this rank has: all, or its part among the data ranks. */
  readonly owned: readonly [from: number, to: number]
  /** The part of every parameter that is here, by its name. */
  readonly shards: ReadonlyMap<string, Shard>
}

/** Which rank has which parameters of a model. */
export class Division {
  private readonly specs: ReadonlyMap<string, ParameterSpec>
  /** For every pipeline rank, by parameter: the ops that use it. */
  private readonly uses: readonly ReadonlyMap<string, ReadonlySet<string>>[]
  /** The op that uses a parameter first. */
  private readonly firstUse = new Map<string, string>()

  /** @param forward forward graph of the whole model, of any tensor-parallel member */
  constructor(
    family: ModelFamily,
    config: ModelShape,
    readonly grid: TrainingGrid,
    forward: Graph,
  ) {
    this.specs = new Map(family.parameters(config).map((spec) => [spec.name, spec]))
    this.uses = this.usesByRank(forward, grid.schedule)
    for (const name of this.specs.keys())
      check(
        this.firstUse.has(name),
        'not_found',
        `the model's family lists parameter '${name}', which its graph does not read`,
      )
  }

  private usesByRank(forward: Graph, schedule: Schedule): Map<string, Set<string>>[] {
    const stage = stagesOfNodes(forward, stageCount(schedule))
    const uses = Array.from({ length: schedule.p }, () => new Map<string, Set<string>>())
    for (const node of forward.nodes)
      for (const id of Object.values(node.inputs)) {
        const { origin } = forward.value(id)
        if (origin.kind !== 'external' || origin.arena !== 'parameters') continue
        const { name } = origin
        check(
          this.specs.has(name),
          'not_found',
          `the model's graph reads parameter '${name}', which its family does not list in parameters()`,
        )
        if (!this.firstUse.has(name)) this.firstUse.set(name, node.op)
        const here = uses[rankOf(schedule.placement, schedule, stage[node.id]!)]!
        here.set(name, (here.get(name) ?? new Set()).add(node.op))
      }
    // A bias that only one tensor-parallel member adds is on all of them: it goes where its weight is.
    for (const name of this.specs.keys())
      if (!this.firstUse.has(name) && name.endsWith('.bias')) {
        const weight = name.replace(/bias$/, 'weight')
        for (const here of uses) if (here.has(weight)) here.set(name, new Set(['matmul']))
        this.firstUse.set(name, 'matmul')
      }
    return uses
  }

  /** Names of a pipeline rank's parameters, in code-point order. */
  parametersOf(pipeline: number): string[] {
    return [...this.uses[pipeline]!.keys()].sort()
  }

  /** Parameters with several uses (tied embeddings): each use has an accumulator of its own where both are. */
  tied(): string[] {
    return [...this.firstUse.keys()].filter((name) => {
      const ops = new Set(this.uses.flatMap((here) => [...(here.get(name) ?? [])]))
      return ops.size > 1
    })
  }

  /** Whether all uses of a parameter are on one pipeline rank. */
  private usesTogether(name: string, pipeline: number): boolean {
    return this.uses[pipeline]!.get(name)!.size > 1
  }

  /**
   * Accumulator of a parameter's gradient at one of its uses. Gradients of a tied parameter are added up use by use,
   * then over the uses, whether those are on one rank or on two: so the sum has the same bytes.
   */
  accumulator(pipeline: number, parameter: string, use: Pick<GraphNode, 'op'>): string {
    if (!this.usesTogether(parameter, pipeline) || use.op === this.firstUse.get(parameter)) return parameter
    return `${parameter}@${use.op}`
  }

  /** Accumulators of a rank beside its parameters' own, with the parameter they belong to. */
  furtherAccumulators(pipeline: number): { readonly name: string; readonly parameter: string }[] {
    return this.parametersOf(pipeline).flatMap((parameter) =>
      [...this.uses[pipeline]!.get(parameter)!]
        .map((op) => ({ name: this.accumulator(pipeline, parameter, { op }), parameter }))
        .filter(({ name }) => name !== parameter),
    )
  }

  shards({ pipeline, tensor }: GridPlace): Map<string, Shard> {
    return new Map(
      this.parametersOf(pipeline).map((name) => [
        name,
        shardOf(this.specs.get(name)!, this.grid.tensor, tensor),
      ]),
    )
  }

  /**
   * Parameters that a place is the first along the pipeline to have, by name: of a tied one the first stage's copy
   * counts. Every tensor-parallel member lists the same names.
   */
  firstHeld(place: GridPlace): { readonly name: string; readonly shard: Shard }[] {
    return [...this.shards(place)]
      .map(([name, shard]) => ({ name, shard }))
      .filter(({ name }) => this.uses.findIndex((here) => here.has(name)) === place.pipeline)
  }

  /** @param chunk largest buffer of the device, a multiple of 256 */
  layout(place: GridPlace, chunk: number): TrainingLayout {
    const shards = this.shards(place)
    const type = (shard: Shard) => tensorType('f32', ...shard.shape)
    const tensors = [...shards].map(([name, shard]) => ({
      name,
      type: type(shard),
      shared: shard.replicated,
    }))
    const { vectorsAt, shared, ...plan } = externalLayout('parameters', tensors, chunk)
    const further = this.furtherAccumulators(place.pipeline)
    let end = plan.bytes
    const extra = further.map(({ name, parameter }) => {
      const own = plan.tensors.find((t) => t.name === parameter)!
      const offset =
        Math.floor(end / chunk) === Math.floor((end + own.bytes - 1) / chunk)
          ? end
          : Math.ceil(end / chunk) * chunk
      end = alignTensor(offset + own.bytes)
      return { name, type: own.type, offset, bytes: own.bytes }
    })
    // With groups there is a second copy of all accumulators.
    const copies = (this.grid.groups ?? 1) > 1 ? 2 : 1
    if (copies > 1)
      extra.push({ name: 'sum of groups', type: tensorType('f32', end / 4), offset: end, bytes: end })
    const owned = ownedRange(plan.bytes, this.grid, place)
    const moment = (kind: ArenaKind): ArenaPlan => {
      if (this.grid.zero === 0) return { ...plan, kind }
      const bytes = owned[1] - owned[0]
      const whole = { name: 'owned', type: tensorType('f32', bytes / 4), offset: 0, bytes }
      return arenaPlan(kind, true, bytes, 0, 1, [whole], chunk)
    }
    return {
      layouts: {
        parameters: plan,
        gradients: arenaPlan('gradients', true, copies * end, 0, 1, [...plan.tensors, ...extra], chunk),
        moment1: moment('moment1'),
        moment2: moment('moment2'),
      },
      matrixBytes: vectorsAt,
      bytes: plan.bytes,
      shared,
      owned,
      shards,
    }
  }
}

/** Data ranks divide the optimizer state evenly in units of 256 bytes. */
export function ownedRange(bytes: number, { zero, data }: TrainingGrid, place: GridPlace): [number, number] {
  if (zero === 0) return [0, bytes]
  const at = (d: number): number => alignTensor(Math.floor((bytes * d) / data))
  return [
    Math.min(bytes, at(place.data)),
    place.data === data - 1 ? bytes : Math.min(bytes, at(place.data + 1)),
  ]
}
