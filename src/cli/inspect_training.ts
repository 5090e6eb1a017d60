import { readFile } from 'node:fs/promises'
import { dirname, join, resolve } from 'node:path'
import type { Target } from '../../backends/backend.ts'
import { check } from '../errors.ts'
import { parseJson } from '../formats/json.ts'
import { refuseIo } from '../formats/node_file.ts'
import { familyOf } from '../models/index.ts'
import type { Plan } from '../parallel/topology/plan.ts'
import { programHash } from '../program/compile.ts'
import { memoryReport } from '../program/memory_report.ts'
import type { Program } from '../program/program.ts'
import { type RecipeName, recipes } from '../program/recipe.ts'
import { parseTrainConfig, type TrainConfig } from '../train/config.ts'
import { type GridPlace, gridOfPlan, oneRankGrid, type TrainingGrid } from '../train/grid.ts'
import { type RankProgram, trainingProgram } from '../train/trainer.ts'
import { grouped } from './options.ts'
import { table } from './table.ts'

/** Programs that are compiled to see which ranks share one; a larger plan is looked at along its pipeline alone. */
const MOST_PROGRAMS = 64

/** One program of a training run and the ranks that have it. */
interface ProgramReport {
  readonly hash: string
  readonly places: readonly GridPlace[]
  readonly ranks: number
  readonly parameters: number
  readonly peak: number
  /** Bytes of every arena. */
  readonly arenas: Readonly<Record<string, number>>
  readonly slots: number
  /** Of one optimizer step. */
  readonly launches: number
  readonly messages: number
  readonly sentBytes: number
}

export interface TrainingReport {
  readonly model: string
  readonly target: string
  readonly recipe: RecipeName
  /** Hash of the plan, where there is one. */
  readonly plan?: string
  readonly ranks: number
  readonly programs: readonly ProgramReport[]
}

/**
 * What a training run becomes on every rank of a plan, without a device.
 *
 * @throws ExactmapError `invalid_config` when model, training file and plan do not fit together
 */
export async function inspectTraining(
  file: string,
  target: Target,
  plan: Plan | undefined,
): Promise<TrainingReport> {
  const config = parseTrainConfig(
    await readFile(file, 'utf8').catch((cause) => refuseIo(file, 'reading', cause)),
    file,
  )
  const json = await modelJson(config, dirname(resolve(file)))
  const family = familyOf(json)
  const model = family.parse(json)
  const grid = plan ? gridOfPlan(plan) : oneRankGrid(config.accumulation, config.gradient_groups)
  const programs = new Map<string, { compiled: RankProgram; places: GridPlace[] }>()
  const places = differentPlaces(grid)
  for (const place of places) {
    const compiled = trainingProgram(target, family, model, config, grid, place)
    const hash = programHash(compiled.program)
    const known = programs.get(hash)
    if (known) known.places.push(place)
    else programs.set(hash, { compiled, places: [place] })
  }
  const ranks = grid.schedule.p * grid.tensor * grid.data
  return {
    model: `${family.name}, ${model.layers} layers, vocabulary ${model.vocab}`,
    target: target.name,
    recipe: config.recipe,
    ...(plan ? { plan: plan.hash } : {}),
    ranks,
    programs: [...programs].map(([hash, { compiled, places: own }]) => {
      const { peak, arenas } = memoryReport(compiled.program)
      return {
        hash,
        places: own,
        ranks: (own.length * ranks) / places.length,
        parameters: compiled.layout.bytes,
        peak,
        arenas: Object.fromEntries(arenas.map(({ kind, bytes }) => [kind, bytes])),
        slots: compiled.program.slots,
        ...stepCounts(compiled),
      }
    }),
  }
}

/** config.json of the model that a training file trains, known without its data. */
export async function modelJson(config: TrainConfig, base: string): Promise<Record<string, unknown>> {
  const file = 'from' in config.model ? join(resolve(base, config.model.from), 'config.json') : undefined
  const json = file
    ? (parseJson(await readFile(file).catch((cause) => refuseIo(file, 'reading', cause)), file) as object)
    : (config.model as { config: object }).config
  const { tokenizer } = config
  const trained = tokenizer && 'train' in tokenizer ? { vocab_size: tokenizer.train.vocabulary } : {}
  const whole = { ...trained, ...json }
  check(
    'vocab_size' in whole,
    'invalid_config',
    'model.config needs vocab_size to be looked at without its tokenizer',
  )
  return whole
}

/** One place of each kind that may have a program of its own. */
function differentPlaces({ schedule, tensor, data, zero }: TrainingGrid): GridPlace[] {
  const list = (n: number): number[] => Array.from({ length: n }, (_, i) => i)
  const all = list(schedule.p).flatMap((pipeline) =>
    list(tensor).flatMap((t) => list(zero > 0 ? data : 1).map((d) => ({ pipeline, tensor: t, data: d }))),
  )
  return all.length <= MOST_PROGRAMS
    ? all
    : list(schedule.p).map((pipeline) => ({ pipeline, tensor: 0, data: 0 }))
}

/** Launches, messages and bytes sent of one optimizer step. */
function stepCounts({ program, entries }: RankProgram): {
  launches: number
  messages: number
  sentBytes: number
} {
  const runs = [...entries.map(({ segment }) => segment), 'zero', 'reduce', 'optimizer', 'publish']
  const steps = runs.flatMap(
    (name) => program.segments.find((s: Program['segments'][number]) => s.name === name)?.steps ?? [],
  )
  const exchanges = steps.flatMap((step) => (step.kind === 'exchange' ? [step] : []))
  const sends = exchanges.flatMap((e) => e.sends)
  return {
    launches: steps.length - exchanges.length,
    messages: sends.length,
    sentBytes: sends.reduce((sum, { bytes }) => sum + bytes, 0),
  }
}

export function trainingText({ model, target, recipe, plan, ranks, programs }: TrainingReport): string {
  const kinds = [...new Set(programs.flatMap(({ arenas }) => Object.keys(arenas)))]
  const at = ({ pipeline, tensor, data }: GridPlace): string => `${pipeline}.${tensor}.${data}`
  const some = (places: readonly GridPlace[]): string =>
    `${places.slice(0, 4).map(at).join(' ')}${places.length > 4 ? ` … ${at(places.at(-1)!)}` : ''}`
  return [
    `model    ${model}`,
    `target   ${target}`,
    `recipe   ${recipe}: ${recipes[recipe].summary}`,
    ...(plan ? [`plan     ${plan}`] : []),
    `ranks    ${grouped(ranks)} with ${programs.length} program${programs.length === 1 ? '' : 's'}`,
    '',
    ...table([
      [
        'program',
        'ranks',
        'pipeline.tensor.data',
        'parameters',
        'memory',
        'slots',
        'launches',
        'messages',
        'sent',
      ],
      ...programs.map((p) => [
        p.hash,
        grouped(p.ranks),
        some(p.places),
        grouped(p.parameters),
        grouped(p.peak),
        String(p.slots),
        grouped(p.launches),
        grouped(p.messages),
        grouped(p.sentBytes),
      ]),
    ]),
    '',
    'bytes of a rank; launches, messages (those to itself are copies) and bytes sent of one optimizer step',
    '',
    ...table([
      ['program', ...kinds],
      ...programs.map(({ hash, arenas }) => [hash, ...kinds.map((kind) => grouped(arenas[kind] ?? 0))]),
    ]),
    '',
    'bytes of each arena: weights are what the passes read in other formats than f32, rounded from the parameters',
  ].join('\n')
}
