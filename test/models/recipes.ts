import type { Arena, Device } from '../../backends/backend.ts'
import { compile } from '../../src/program/compile.ts'
import type { ArenaKind } from '../../src/program/program.ts'
import { type RecipeName, recipes } from '../../src/program/recipe.ts'
import { rewrite } from '../../src/program/rewrite.ts'
import { type FormatName, formatOf } from '../../src/tensor/format.ts'
import { Philox } from '../../src/tensor/philox.ts'
import { loadCheckpoint, saveCheckpoint } from '../../src/train/checkpoint.ts'
import type { TrainConfig } from '../../src/train/config.ts'
import { onePlace, oneRankGrid } from '../../src/train/grid.ts'
import type { Trainer } from '../../src/train/trainer.ts'
import { trainingGraph } from '../../src/train/training_graph.ts'
import { tinyConfigs } from './tiny.ts'
import { checkpointOf, restart, sampler, trainConfig, trainerOf, trainSteps } from './train.ts'

/** Widths, and rows of a microbatch, that blocks of 128 divide. */
export const recipeModel = {
  ...tinyConfigs.llama,
  hidden_size: 128,
  intermediate_size: 128,
  num_attention_heads: 2,
  num_key_value_heads: 1,
}

export const recipeConfig = (recipe: RecipeName): TrainConfig =>
  // Without clipping gradients are what the passes give.
  trainConfig({ recipe, sequence: 64, optimizer: { learning_rate: 2e-3, eps: 1e-4, clip: 0 } })

export type Gradients = ReadonlyMap<string, Float32Array>

export interface Run {
  readonly losses: readonly number[]
  /** Of the first step. */
  readonly gradients: Gradients
}

/** What happens to an f32 run when the weights that it starts with are rounded. */
interface Spread {
  /** Root mean square of the difference of a loss, over seeds and steps. */
  readonly loss: number
  /** By tensor: the same of its gradient, relative. */
  readonly gradients: ReadonlyMap<string, number>
}

/**
 * A recipe rounds more than the weights. A rounding of w counts twice, in y and in dx; beside it stand those of x, y and
 * rotated y forward, of dy, dx and a gate's gradient backward, and of x and dy in dw: 8 of about the same relative size
 * and independent, so that the error is sqrt((2 + 8) / 2) times that of w alone. Twice that is allowed: at three standard
 * deviations of the sample of seeds and tensors it should hold for all.
 */
export const FACTOR = 2 * Math.sqrt(5)

/** Of the roundings of weights. */
const SEEDS = [1, 2]

/** Runs by recipe, each made when first asked for. */
export class Recipes {
  private readonly runs = new Map<string, Promise<Run>>()
  private readonly trainers = new Map<RecipeName, Trainer>()

  constructor(
    private readonly device: Device,
    private readonly folder: string,
    private readonly steps: number,
  ) {}

  train(recipe: RecipeName): Promise<Run> {
    return this.once(recipe, () => this.run(recipe))
  }

  async spread(recipe: 'bf16' | 'fp8'): Promise<Spread> {
    const exact = await this.train('f32')
    const rounded: Run[] = []
    for (const seed of SEEDS)
      rounded.push(
        await this.once(`${recipe}, seed ${seed}`, () =>
          this.run('f32', (trainer) => roundWeights(trainer, recipe, seed)),
        ),
      )
    const errors = rounded.map(({ gradients }) => relativeErrors(gradients, exact.gradients))
    return {
      loss: rms(rounded.flatMap(({ losses }) => losses.map((loss, i) => loss - exact.losses[i]!))),
      gradients: new Map(
        [...exact.gradients.keys()].map((name) => [name, rms(errors.map((e) => e.get(name)!))]),
      ),
    }
  }

  /** Losses of a run that is saved after some steps, started anew, and goes on from what was saved. */
  async resumed(recipe: RecipeName, after: number, output: string): Promise<readonly number[]> {
    await this.train(recipe)
    const trainer = this.trainers.get(recipe)!
    await restart(trainer, this.folder)
    const data = await sampler(this.folder, trainer.config)
    const before = await trainSteps(trainer, data, after)
    await saveCheckpoint(output, trainer, { tokens: 0, seconds: 0, data: 'recipes' }, 1)
    await restart(trainer, this.folder)
    await loadCheckpoint(output, after, trainer, 'recipes', false)
    const rest = await trainSteps(trainer, data, this.steps - after)
    return [...before, ...rest].map(({ loss }) => loss)
  }

  destroy(): void {
    for (const trainer of this.trainers.values()) trainer.destroy()
  }

  private once(key: string, make: () => Promise<Run>): Promise<Run> {
    const found = this.runs.get(key) ?? make()
    this.runs.set(key, found)
    return found
  }

  private async run(recipe: RecipeName, change?: (trainer: Trainer) => Promise<void>): Promise<Run> {
    const config = recipeConfig(recipe)
    const known = this.trainers.get(recipe)
    const trainer = known ?? (await trainerOf(this.device, this.folder, config))
    if (known) await restart(trainer, this.folder)
    this.trainers.set(recipe, trainer)
    await change?.(trainer)
    const data = await sampler(this.folder, config)
    const first = await trainSteps(trainer, data, 1)
    const gradients = await checkpointOf(trainer, 'gradients')
    const reports = [...first, ...(await trainSteps(trainer, data, this.steps - 1))]
    return { losses: reports.map(({ loss }) => loss), gradients }
  }
}

/** How much a run uses of what it may differ from others by, and the tensor whose gradient uses most. */
interface Verdict {
  readonly gradients: number
  readonly tensor: string
  readonly losses: number
}

/**
 * Judges a run by a recipe, on any device, by other runs: its gradients against those of f32, its losses against those
 * of the recipe `base`; both may be off by FACTOR times what rounding the weights alone does.
 */
export async function judge(
  got: Run,
  recipe: 'bf16' | 'fp8',
  base: RecipeName,
  runs: Recipes,
): Promise<Verdict> {
  const exact = await runs.train('f32')
  const spread = await runs.spread(recipe)
  const { name, used } = largestError(got.gradients, exact.gradients, spread.gradients)
  const expected = (await runs.train(base)).losses
  const off = rms(got.losses.map((loss, step) => loss - expected[step]!))
  const losses = off / (FACTOR * spread.loss)
  const percent = (part: number): string => `${(100 * part).toFixed(0)}%`
  console.log(
    `${recipe}: gradients use ${percent(used)} of what they may be off f32's (${name}); losses ${got.losses[0]!.toFixed(4)} to ${got.losses.at(-1)!.toFixed(4)}, off ${base}'s by ${off.toExponential(2)} (root mean square), ${percent(losses)} of what they may be`,
  )
  return { gradients: used, tensor: name, losses: Number.isNaN(losses) ? Number.POSITIVE_INFINITY : losses }
}

/** Microbatches of a step, by which its gradients are smaller than those of one alone. */
const MICROBATCHES = 64

/**
 * Gradients of the first of many microbatches, times their number, by recipe fp8; without scales if so asked: then what
 * e4m3 has no number for is lost before it is quantized.
 */
export async function gradientsOfMany(device: Device, folder: string, scales: boolean): Promise<Gradients> {
  const config = recipeConfig('fp8')
  const trainer = await trainerOf(device, folder, config)
  const { family, model } = trainer
  const spec = { ...config, recipe: recipes.fp8, documentMask: false }
  const { graph, layout } = trainingGraph('fp8', family, model, spec, oneRankGrid(1), onePlace, 2 ** 28)
  const changed = rewrite(graph, (node, out, find) => {
    if (scales || node.op !== 'quantize') return undefined
    const quants = out.op('cast', { to: 'e4m3' }, { x: find(node.inputs.x!) }).y!
    return out.op('quantize', node.attrs, { x: out.op('cast', { to: 'f32' }, { x: quants }).y! })
  })
  const program = compile(changed, device.target, { layouts: layout.layouts })
  const executable = await device.load(program, { arenas: { parameters: trainer.arena('parameters') } })
  const batch = await (await sampler(folder, config)).batch(0)
  const given: Record<string, ArrayBufferView> = {
    ids: batch.tokens,
    targets: batch.targets,
    positions: batch.positions,
    weights: batch.weights.map((w) => w / (MICROBATCHES * batch.counted)),
  }
  for (const name of ['publish', 'zero', 'forward', 'backward_input', 'backward_weight']) {
    const { inputs } = program.segments.find((segment) => segment.name === name)!
    executable.run(name, Object.fromEntries(inputs.map((input) => [input.name, given[input.name]!])))
  }
  const arena = (kind: ArenaKind): Arena => executable.arenas[kind]!
  const gradients = await checkpointOf({ family, model, arena }, 'gradients')
  executable.destroy()
  trainer.destroy()
  return new Map([...gradients].map(([name, values]) => [name, values.map((v) => MICROBATCHES * v)]))
}

/** Root mean square. */
const rms = (values: readonly number[]): number =>
  Math.sqrt(values.reduce((sum, v) => sum + v * v, 0) / values.length)

/** Norm of the difference over the norm of what was expected, by tensor. */
export function relativeErrors(got: Gradients, expected: Gradients): Map<string, number> {
  return new Map(
    [...expected].map(([name, values]) => {
      const of = got.get(name)!
      const off = rms([...values].map((v, i) => of[i]! - v))
      return [name, off / rms([...values])]
    }),
  )
}

/** The tensor that uses most of what FACTOR allows it, and how much; a NaN uses more than all. */
export function largestError(
  got: Gradients,
  expected: Gradients,
  spread: ReadonlyMap<string, number>,
): { name: string; used: number } {
  const all = [...relativeErrors(got, expected)].map(([name, error]) => {
    const used = error / (FACTOR * spread.get(name)!)
    return { name, used: Number.isNaN(used) ? Number.POSITIVE_INFINITY : used }
  })
  return all.reduce((a, b) => (b.used > a.used ? b : a))
}

/** Bits of a number in each format, the hidden one included. */
const significand: Partial<Record<FormatName, number>> = { bf16: 8, e4m3_128: 4 }

/** Rounds matrices to the formats in which a recipe reads them, on a grid that is shifted at random for each element. */
async function roundWeights(trainer: Trainer, recipe: 'bf16' | 'fp8', seed: number): Promise<void> {
  const random = new Philox(seed, 0)
  for (const { name, shape } of trainer.family.parameters(trainer.model)) {
    if (shape.length < 2) continue
    const { layers, head } = recipes[recipe]
    const format = (name.startsWith('layers.') ? layers : head).forward.w
    const values = await trainer.readParameter(name)
    const shifts = values.map((v) => v * 2 ** (1 - significand[format]!) * (random.uniform() - 0.5))
    const { encode, decode } = formatOf(format)
    const rounded = decode(encode(values.map((v, i) => v + shifts[i]!)), values.length)
    trainer.writeParameter(
      name,
      Float32Array.from(rounded, (v, i) => v - shifts[i]!),
    )
  }
  trainer.parametersChanged()
}
