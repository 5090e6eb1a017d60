import type { Arena, Device, Executable, Outputs, Target } from '../../backends/backend.ts'
import type { Transport } from '../../backends/transport.ts'
import { check } from '../errors.ts'
import type { ModelFamily, ModelShape, ParameterSpec } from '../models/model.ts'
import { takeShard } from '../models/shard.ts'
import { adamwHyper } from '../ops/adamw.ts'
import { seedOf } from '../ops/cases.ts'
import { type RankEntry, rankEntries } from '../parallel/entries.ts'
import { broadcastNumbers, gatherNumbers, hostChannel } from '../parallel/host_messages.ts'
import { loadForRank, type RankLoadOptions } from '../parallel/load_for_rank.ts'
import { compile, numericsHash } from '../program/compile.ts'
import type { Graph } from '../program/graph.ts'
import { hashOf } from '../program/hash.ts'
import type { ArenaKind, Program } from '../program/program.ts'
import { recipes } from '../program/recipe.ts'
import { Philox } from '../tensor/philox.ts'
import { elementCount } from '../tensor/type.ts'
import { learningRate, type TrainConfig } from './config.ts'
import type { Batch } from './data/sampler.ts'
import type { Division, TrainingLayout } from './division.ts'
import {
  checkGrid,
  endsOf,
  type GridPlace,
  gradientSums,
  groupsAt,
  onePlace,
  oneRankGrid,
  type TrainingGrid,
} from './grid.ts'
import { trainingGraph } from './training_graph.ts'

/** Where microbatches come from: a pure function of their number. */
export interface BatchSource {
  batch(index: number): Promise<Batch>
}

export interface StepReport {
  /** Steps done, this one included. */
  readonly step: number
  /** Mean loss per counted token, in nats. */
  readonly loss: number
  /** Norm of all gradients before clipping. */
  readonly norm: number
  readonly learningRate: number
  /** Tokens of the step, counted or not. */
  readonly tokens: number
}

export const stateArenas = ['parameters', 'moment1', 'moment2'] as const satisfies readonly ArenaKind[]

export interface RankProgram {
  readonly program: Program
  readonly division: Division
  /**
   * Identifies what fixes the numbers of a run: the graph and kernels of one rank, and how sums are divided. Pipelines do
   * not change it.
   */
  readonly numerics: string
  readonly layout: TrainingLayout
  /** What one step runs between `zero` and `reduce`, in order. */
  readonly entries: readonly RankEntry[]
}

/**
 * Compiles the training program of one rank for a target; needs no device. Without a grid the one rank does everything.
 *
 * @throws ExactmapError `invalid_config` when model, configuration and grid do not fit together
 */
export function trainingProgram(
  target: Target,
  family: ModelFamily,
  model: ModelShape,
  config: TrainConfig,
  grid: TrainingGrid = oneRankGrid(config.accumulation, config.gradient_groups),
  place: GridPlace = onePlace,
): RankProgram {
  const { batch, sequence } = config
  const { schedule, data } = grid
  check(
    sequence <= model.context,
    'invalid_config',
    `sequence ${sequence} is longer than the model's ${model.context} positions`,
  )
  checkGrid(grid, config)
  const spec = {
    batch,
    sequence,
    recipe: recipes[config.recipe],
    documentMask: config.data.document_mask,
    recompute: config.recompute,
    logits: config.logits,
  }
  const chunk = Math.floor(target.limits.maxBufferSize / 256) * 256
  const name = `train-${family.name}`
  const { graph, division, layout } = trainingGraph(name, family, model, spec, grid, place, chunk)
  const { entries, slots, unordered } = rankEntries(schedule, place.pipeline, config.recompute === 'layer')
  const program = compile(graph, target, { layouts: layout.layouts, slots, unordered })
  const ofOne = (): Graph =>
    trainingGraph(name, family, model, spec, oneRankGrid(1), onePlace, Number.MAX_SAFE_INTEGER).graph
  const many = schedule.p * grid.tensor * data > 1
  const numerics = hashOf([numericsHash(many ? ofOne() : graph, target), grid.tensor, gradientSums(grid)])
  return { program, division, numerics, layout, entries }
}

/** A rank of a training run with several. */
export interface RankOfMany {
  readonly grid: TrainingGrid
  readonly place: GridPlace
  readonly transport: Transport
  /** Rank of the run at a place. */
  readonly rankAt: (place: GridPlace) => number
}

export interface TrainerOptions extends Pick<RankLoadOptions, 'onProgress' | 'onTrace'> {
  /** Absent: one rank does everything. */
  readonly rank?: RankOfMany
}

/**
 * One rank of a model in training, in the simplest case the only one: its state is three arenas and a step count.
 * All ranks call the same methods in the same order.
 */
export class Trainer {
  /** Steps done. */
  step = 0
  readonly grid: TrainingGrid
  readonly place: GridPlace

  private constructor(
    readonly family: ModelFamily,
    readonly model: ModelShape,
    readonly config: TrainConfig,
    readonly executable: Executable,
    readonly compiled: RankProgram,
    readonly rank: RankOfMany | undefined,
  ) {
    this.grid = rank?.grid ?? oneRankGrid(config.accumulation, config.gradient_groups)
    this.place = rank?.place ?? onePlace
  }

  static async create(
    device: Device,
    family: ModelFamily,
    model: ModelShape,
    config: TrainConfig,
    { rank, ...load }: TrainerOptions = {},
  ): Promise<Trainer> {
    const compiled = trainingProgram(device.target, family, model, config, rank?.grid, rank?.place)
    const executable = rank
      ? await loadForRank(device, compiled.program, { ...load, communicator: communicatorOf(rank) })
      : await device.load(compiled.program, load)
    return new Trainer(family, model, config, executable, compiled, rank)
  }

  arena(kind: ArenaKind): Arena {
    const arena = this.executable.arenas[kind]
    check(arena, 'internal', `the training program has no arena '${kind}'`)
    return arena
  }

  /** Random parameters, each from a stream of its own keyed by seed and name; moments zero. */
  initialise(): void {
    for (const kind of ['moment1', 'moment2'] as const) this.arena(kind).fill(0)
    for (const { spec } of this.compiled.layout.shards.values())
      this.writeParameter(spec.name, initialValues(spec, this.config.seed))
    this.parametersChanged()
  }

  /** Whether this rank has a part of a parameter. */
  has(name: string): boolean {
    return this.compiled.layout.shards.has(name)
  }

  /** Overwrites this rank's part of a parameter (f32), given all of it. Call `parametersChanged` after the last. */
  writeParameter(name: string, values: Float32Array): void {
    const { shard, offset } = this.parameter(name)
    check(
      values.length === elementCount(shard.spec.shape),
      'invalid_shape',
      `parameter ${name} has ${elementCount(shard.spec.shape)} elements, got ${values.length}`,
    )
    const own = takeShard(shard, values)
    this.arena('parameters').write(offset, new Uint8Array(own.buffer, own.byteOffset, own.byteLength))
  }

  /** This rank's part of a parameter: all of it without tensor parallelism. */
  async readParameter(name: string): Promise<Float32Array> {
    const { shard, offset } = this.parameter(name)
    const elements = elementCount(shard.shape)
    const bytes = await this.arena('parameters').read(offset, 4 * elements)
    return new Float32Array(bytes.buffer, bytes.byteOffset, elements)
  }

  private parameter(name: string) {
    const shard = this.compiled.layout.shards.get(name)
    const tensor = this.arena('parameters').plan.tensors.find((t) => t.name === name)
    check(shard && tensor, 'not_found', `this rank has no parameter '${name}'`)
    return { shard, offset: tensor.offset }
  }

  /** Brings the weights that the passes read up to date after parameters were written from outside. */
  parametersChanged(): void {
    if (this.executable.program.segments.some((s) => s.name === 'publish')) this.executable.run('publish')
  }

  /** One optimizer step over `accumulation` microbatches, those of all data ranks together. */
  async train(data: BatchSource): Promise<StepReport> {
    const { config, executable, grid } = this
    const { accumulation, optimizer } = config
    const own = grid.schedule.m
    const first = this.step * accumulation + this.place.data * own
    const microbatches = await Promise.all(Array.from({ length: own }, (_, i) => data.batch(first + i)))
    const counted = await this.overDataRanks(microbatches.reduce((sum, b) => sum + b.counted, 0))
    const rate = learningRate(config, this.step)
    const { beta1, beta2, eps } = optimizer
    const hyper = [optimizer.weight_decay, 0].flatMap((decay) =>
      adamwHyper(rate, beta1, beta2, eps, decay, this.step + 1),
    )
    const losses: Promise<number>[] = []
    executable.run('zero')
    for (const { segment, slot, pass, microbatch } of this.compiled.entries) {
      const inputs = this.inputs(segment, microbatches[microbatch]!, counted)
      if (pass === 'forward' && this.hasLoss(segment)) losses[microbatch] = this.loss(segment, inputs, slot)
      else executable.run(segment, inputs, slot)
      if (this.endsGroup(segment, microbatch)) executable.run('group')
    }
    const reduced = executable.step('reduce')
    reduced.catch(() => {})
    executable.run('optimizer', { limit: Float32Array.of(optimizer.clip), hyper: Float32Array.from(hyper) })
    this.parametersChanged()
    const loss = (await this.onEveryRank(await Promise.all(losses), own)).reduce((a, b) => a + b, 0)
    const norm = f32(await reduced, 'norm')
    this.step++
    return {
      step: this.step,
      loss,
      norm,
      learningRate: rate,
      tokens: accumulation * config.batch * config.sequence,
    }
  }

  /** Mean loss per counted token over the first `batches` microbatches of a source, in nats. Every data rank runs all. */
  async evaluate(data: BatchSource, batches: number): Promise<number> {
    let [sum, counted] = [0, 0]
    const forwards = this.executable.program.segments.filter(({ name }) => /^forward(\.|$)/.test(name))
    for (let i = 0; i < batches; i++) {
      const batch = await data.batch(i)
      const losses: number[] = []
      for (const { name } of forwards) {
        const inputs = this.inputs(name, batch, 1)
        if (this.hasLoss(name)) losses.push(await this.loss(name, inputs, 0))
        else this.executable.run(name, inputs)
      }
      sum += (await this.onEveryRank(losses, 1))[0]!
      counted += batch.counted
    }
    return sum / Math.max(1, counted)
  }

  /** Whether the gradients of a group of microbatches are complete. */
  private endsGroup(segment: string, microbatch: number): boolean {
    const { groups = 1, schedule } = this.grid
    return (
      groups > 1 && /^backward(_weight)?$/.test(segment) && (microbatch + 1) % (schedule.m / groups) === 0
    )
  }

  private hasLoss(segment: string): boolean {
    return this.executable.program.segments.find((s) => s.name === segment)!.outputs.length > 0
  }

  private async loss(
    segment: string,
    inputs: Record<string, ArrayBufferView>,
    slot: number,
  ): Promise<number> {
    const { loss } = await this.executable.step(segment, inputs, slot)
    return new Float32Array(loss!.buffer, loss!.byteOffset, loss!.byteLength / 4).reduce((a, b) => a + b, 0)
  }

  /** What a segment reads of a microbatch whose counted tokens weigh 1/counted each. */
  private inputs(segment: string, batch: Batch, counted: number): Record<string, ArrayBufferView> {
    const { tensor: size } = this.grid
    const { tensor: member } = this.place
    const firstId = (member * this.model.vocab) / size
    const ownRows = (values: Uint32Array): Uint32Array =>
      values.subarray((member * values.length) / size, ((member + 1) * values.length) / size)
    const given: Record<string, () => ArrayBufferView> = {
      ids: () => batch.tokens,
      first_id: () => Uint32Array.of(firstId),
      'ids.own': () => ownRows(batch.tokens),
      // Those of other ranks' vocabulary wrap round to what no rank has.
      targets: () => (size === 1 ? batch.targets : batch.targets.map((id) => id - firstId)),
      weights: () => batch.weights.map((w) => w / Math.max(1, counted)),
      documents: () => batch.documents,
      positions: () => batch.positions,
      'positions.own': () => ownRows(batch.positions),
    }
    const { inputs } = this.executable.program.segments.find((s) => s.name === segment)!
    return Object.fromEntries(inputs.map(({ name }) => [name, given[name]!()]))
  }

  /** Sum over the data ranks. */
  private async overDataRanks(own: number): Promise<number> {
    if (!this.rank || this.grid.data === 1) return own
    const ranks = groupsAt(this.grid, this.place).data!.map(this.rank.rankAt)
    const all = await gatherNumbers(this.rank.transport, ranks, hostChannel.counts, Float64Array.of(own))
    return all.reduce((sum, [n]) => sum + n!, 0)
  }

  /** Losses of all data ranks' microbatches in order, from the ranks that have the last stage to every rank. */
  private async onEveryRank(losses: readonly number[], count: number): Promise<Float64Array> {
    if (!this.rank) return Float64Array.from(losses)
    const { transport, rankAt } = this.rank
    const { last } = endsOf(this.grid)
    const sources = Array.from({ length: this.grid.data }, (_, data) =>
      rankAt({ pipeline: last, tensor: 0, data }),
    )
    const all = new Float64Array(count * sources.length)
    if (sources.includes(transport.rank)) {
      const parts = await gatherNumbers(transport, sources, hostChannel.losses, Float64Array.from(losses))
      for (const [i, part] of parts.entries()) all.set(part, i * count)
    }
    return broadcastNumbers(transport, sources[0]!, hostChannel.report, all)
  }

  destroy(): void {
    this.executable.destroy()
  }
}

const f32 = (outputs: Outputs, name: string): number =>
  new Float32Array(outputs[name]!.buffer, outputs[name]!.byteOffset, 1)[0]!

/** The communicator of a rank: every group of the grid, also those this rank is not in. */
function communicatorOf({ grid, place, transport, rankAt }: RankOfMany): RankLoadOptions['communicator'] {
  const names = ['data', 'model', 'pipeline', 'tensor', 'tied']
  const groups = groupsAt(grid, place)
  return {
    transport,
    groups: Object.fromEntries(names.map((name) => [name, (groups[name] ?? []).map(rankAt)])),
  }
}

/** Initial values of a parameter: ones, zeros or bell-shaped, rounded to f32. */
export function initialValues(spec: ParameterSpec, seed: number): Float32Array {
  const out = new Float32Array(elementCount(spec.shape))
  if (spec.init === 'ones') return out.fill(1)
  if (spec.init === 'zeros') return out
  const random = new Philox(seed, seedOf(spec.name))
  for (let i = 0; i < out.length; i++) out[i] = spec.init * random.normal()
  return out
}
