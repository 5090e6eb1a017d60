import type { Arena, Device, Executable, Outputs } from '../../backends/backend.ts'
import { check } from '../errors.ts'
import type { ModelFamily, ModelShape, ParameterSpec } from '../models/model.ts'
import { adamwHyper } from '../ops/adamw.ts'
import { seedOf } from '../ops/cases.ts'
import { compile, programHash } from '../program/compile.ts'
import type { ArenaKind, Program, ScheduleEntry } from '../program/program.ts'
import { Philox } from '../tensor/philox.ts'
import { elementCount } from '../tensor/type.ts'
import { learningRate, type TrainConfig } from './config.ts'
import type { Batch } from './data/sampler.ts'
import { type TrainingLayouts, trainingGraph, trainingLayouts } from './training_graph.ts'

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

/** Compiles the training program of a model for a target; needs no device. */
export function trainingProgram(
  device: Pick<Device, 'target'>,
  family: ModelFamily,
  model: ModelShape,
  config: TrainConfig,
): { program: Program; layout: TrainingLayouts } {
  const layout = trainingLayouts(family, model, Math.floor(device.target.limits.maxBufferSize / 256) * 256)
  const { batch, sequence } = config
  check(
    sequence <= model.context,
    'invalid_config',
    `sequence ${sequence} is longer than the model's ${model.context} positions`,
  )
  const graph = trainingGraph(
    `train-${family.name}`,
    family,
    model,
    {
      batch,
      sequence,
      compute: config.types.compute,
      documentMask: config.data.document_mask,
      recompute: config.recompute,
    },
    layout,
  )
  return { program: compile(graph, device.target, { layouts: layout.layouts }), layout }
}

/** One model in training on one device: its state is three arenas and a step count. */
export class Trainer {
  /** Steps done. */
  step = 0
  /** What one step runs, in order. */
  readonly schedule: readonly ScheduleEntry[]

  private constructor(
    readonly family: ModelFamily,
    readonly model: ModelShape,
    readonly config: TrainConfig,
    readonly executable: Executable,
  ) {
    this.schedule = sequentialSchedule(executable.program, config.accumulation)
  }

  static async create(
    device: Device,
    family: ModelFamily,
    model: ModelShape,
    config: TrainConfig,
    onProgress?: (done: number, total: number, what: string) => void,
  ): Promise<Trainer> {
    const { program } = trainingProgram(device, family, model, config)
    const executable = await device.load(program, onProgress ? { onProgress } : {})
    return new Trainer(family, model, config, executable)
  }

  get programHash(): string {
    return programHash(this.executable.program)
  }

  arena(kind: ArenaKind): Arena {
    const arena = this.executable.arenas[kind]
    check(arena, 'internal', `the training program has no arena '${kind}'`)
    return arena
  }

  /** Random parameters, each from a stream of its own keyed by seed and name; moments zero. */
  initialise(): void {
    for (const kind of ['moment1', 'moment2'] as const) this.arena(kind).fill(0)
    for (const spec of this.family.parameters(this.model))
      this.writeParameter(spec.name, initialValues(spec, this.config.seed))
    this.parametersChanged()
  }

  /** Overwrites one parameter (f32). Call `parametersChanged` after the last. */
  writeParameter(name: string, values: Float32Array): void {
    const arena = this.arena('parameters')
    const tensor = arena.plan.tensors.find((t) => t.name === name)
    check(
      tensor && tensor.bytes === values.byteLength,
      'invalid_shape',
      `parameter ${name} does not have ${values.length} elements`,
    )
    arena.write(tensor.offset, new Uint8Array(values.buffer, values.byteOffset, values.byteLength))
  }

  async readParameter(name: string): Promise<Float32Array> {
    const arena = this.arena('parameters')
    const tensor = arena.plan.tensors.find((t) => t.name === name)
    check(tensor, 'not_found', `the model has no parameter '${name}'`)
    const bytes = await arena.read(tensor.offset, tensor.bytes)
    return new Float32Array(bytes.buffer, bytes.byteOffset, elementCount(tensor.type.shape))
  }

  /** Brings the compute weights up to date after parameters were written from outside. */
  parametersChanged(): void {
    if (this.executable.program.segments.some((s) => s.name === 'publish')) this.executable.run('publish')
  }

  /** One optimizer step over `accumulation` microbatches. */
  async train(data: BatchSource): Promise<StepReport> {
    const { config, executable } = this
    const { accumulation, optimizer } = config
    const microbatches = await Promise.all(
      Array.from({ length: accumulation }, (_, i) => data.batch(this.step * accumulation + i)),
    )
    const counted = microbatches.reduce((sum, b) => sum + b.counted, 0)
    const rate = learningRate(config, this.step)
    const { beta1, beta2, eps } = optimizer
    const hyper = (decay: number): Float32Array =>
      Float32Array.from(adamwHyper(rate, beta1, beta2, eps, decay, this.step + 1))
    const inputs: Record<string, Record<string, Float32Array>> = {
      optimizer: { hyper_matrices: hyper(optimizer.weight_decay), hyper_vectors: hyper(0) },
    }
    const losses: Promise<number>[] = []
    let norm: Promise<Outputs> | undefined
    for (const { segment, slot } of this.schedule) {
      if (segment === 'forward') losses.push(this.forward(microbatches[losses.length]!, counted, slot))
      else if (segment === 'reduce')
        norm = executable.step(segment, { limit: Float32Array.of(optimizer.clip) })
      else executable.run(segment, inputs[segment], slot)
    }
    const loss = (await Promise.all(losses)).reduce((a, b) => a + b, 0)
    const gradientNorm = f32((await norm)!, 'norm')
    this.step++
    return {
      step: this.step,
      loss,
      norm: gradientNorm,
      learningRate: rate,
      tokens: accumulation * config.batch * config.sequence,
    }
  }

  /** Mean loss per counted token over the first `batches` microbatches of a source, in nats. */
  async evaluate(data: BatchSource, batches: number): Promise<number> {
    let [sum, counted] = [0, 0]
    for (let i = 0; i < batches; i++) {
      const batch = await data.batch(i)
      sum += (await this.forward(batch, 1)) as number
      counted += batch.counted
    }
    return sum / Math.max(1, counted)
  }

  /** Loss of a microbatch whose counted tokens weigh 1/counted each. */
  private async forward(batch: Batch, counted: number, slot = 0): Promise<number> {
    const { executable } = this
    const segment = executable.program.segments.find((s) => s.name === 'forward')!
    const given: Record<string, ArrayBufferView> = {
      ids: batch.tokens,
      targets: batch.targets,
      weights: batch.weights.map((w) => w / Math.max(1, counted)),
      documents: batch.documents,
      positions: batch.positions,
    }
    // A model without rotary or learned positions, or a run without a document mask, does not read every input.
    const inputs = Object.fromEntries(segment.inputs.map(({ name }) => [name, given[name]!]))
    const { loss } = await executable.step('forward', inputs, slot)
    return new Float32Array(loss!.buffer, loss!.byteOffset, loss!.byteLength / 4).reduce((a, b) => a + b, 0)
  }

  destroy(): void {
    this.executable.destroy()
  }
}

const f32 = (outputs: Record<string, Uint8Array>, name: string): number =>
  new Float32Array(outputs[name]!.buffer, outputs[name]!.byteOffset, 1)[0]!

/**
 * The schedule of one device: clear the gradients, every microbatch forward and backward one after the other on
 * slot 0, then what follows the passes.
 */
export function sequentialSchedule({ segments }: Program, microbatches: number): ScheduleEntry[] {
  const names = segments.map((s) => s.name)
  const passes = names.filter((name) => name === 'forward' || name.startsWith('backward'))
  const after = names.filter((name) => name !== 'zero' && !passes.includes(name))
  const each = Array.from({ length: microbatches }, () => passes).flat()
  return ['zero', ...each, ...after].map((segment) => ({ segment, slot: 0 }))
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
