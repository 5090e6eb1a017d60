import { readFile } from 'node:fs/promises'
import { dirname, resolve } from 'node:path'
import { Command } from 'commander'
import type { Transport } from '../../backends/transport.ts'
import { check } from '../errors.ts'
import { refuseIo, writeFileAtomic } from '../formats/node_file.ts'
import { open } from '../open.ts'
import { chromeTrace } from '../parallel/chrome_trace.ts'
import { recipes } from '../program/recipe.ts'
import { parseTrainConfig, type TrainConfig } from '../train/config.ts'
import { dataParallelGrid, gridOfPlan, onePlace, placeInPlan } from '../train/grid.ts'
import { runTraining } from '../train/run.ts'
import { StepTrace } from '../train/step_trace.ts'
import type { RankOfMany } from '../train/trainer.ts'
import { readPlan } from './cluster.ts'
import { asOneOfTheRanks, backendOfRank } from './launched.ts'
import { backendOption, duration, grouped, ProgressLine } from './options.ts'

export function trainCommand(): Command {
  return new Command('train')
    .description(
      'train a model as a YAML file says; continues from the newest checkpoint in its output folder',
    )
    .argument('<config>', 'YAML file; docs/training.md lists every field')
    .option(
      '--allow-numeric-change',
      'resume although program, seed or data changed: the numbers will differ',
    )
    .addOption(backendOption('where it runs', 'auto'))
    .option('--driver <name>', 'auto, gpu, lavapipe or swiftshader')
    .option('--plan <file>', 'plan file (YAML) of a run on several ranks; docs/parallel.md')
    .option('--cluster <cluster>', "cluster file or shipped name (default: the plan's cluster)")
    .option('--trace <file>', 'on several ranks: write what each did in the last steps (Chrome trace format)')
    .option('--json', 'one JSON object a line instead of progress')
    .addHelpText(
      'after',
      `
Recipes (recipe: in the file, default f32); masters, moments and summed gradients are f32 in all of them:
${Object.values(recipes)
  .map(({ name, summary }) => `  ${name.padEnd(5)} ${summary}`)
  .join('\n')}

Ctrl-C saves a checkpoint and ends; a second Ctrl-C ends at once.
On several ranks: mpirun -np 4 npx exactmap train run.yaml --plan plan.yaml. Without a plan the ranks divide the
microbatches. There SIGUSR1 to mpirun saves a checkpoint and ends; SIGINT and SIGTERM end at once.`,
    )
    .action((path: string, o: TrainOptions) => asOneOfTheRanks((transport) => train(path, o, transport)))
}

interface TrainOptions {
  readonly plan?: string
  readonly cluster?: string
  readonly backend: string
  readonly driver?: string
  readonly trace?: string
  readonly json?: boolean
  readonly allowNumericChange?: boolean
}

async function train(path: string, o: TrainOptions, transport: Transport | undefined): Promise<void> {
  const main = (transport?.rank ?? 0) === 0
  const text = await readFile(path, 'utf8').catch((cause) => refuseIo(path, 'reading', cause))
  const config = parseTrainConfig(text, path)
  const rank = await rankOf(o, config, transport)
  check(
    o.trace === undefined || rank,
    'invalid_argument',
    '--trace shows what ranks do; for one process there is exactmap profile --trace',
  )
  const trace = o.trace === undefined ? undefined : new StepTrace(rank!, config.recompute)
  const backend = transport ? backendOfRank(o.backend) : o.backend
  const device = await open(backend, o.driver ? { driver: o.driver } : {})
  const abort = new AbortController()
  const progress = new ProgressLine()
  const interrupt = (): void => {
    if (abort.signal.aborted) process.exit(130)
    abort.abort()
    progress.clear()
    if (main) process.stderr.write('saving a checkpoint after this step; Ctrl-C again ends without it\n')
  }
  // The launcher ends ranks by SIGTERM when one has failed: those must not wait for it.
  for (const signal of transport ? (['SIGUSR1'] as const) : (['SIGINT', 'SIGTERM'] as const))
    process.on(signal, interrupt)
  const say = (line: string): void => {
    if (!main) return
    progress.clear()
    process.stderr.write(`${line}\n`)
  }
  if (!o.json) say(`device   ${device.info.device}\ndriver   ${device.info.driver}`)
  const result = await runTraining(config, {
    device,
    ...(rank ? { rank } : {}),
    ...(trace ? { onTrace: trace.add } : {}),
    base: dirname(resolve(path)),
    allowNumericChange: o.allowNumericChange ?? false,
    signal: abort.signal,
    ...(o.json ? {} : { onMessage: say }),
    onCompile: (done, total, kernel) => {
      if (!o.json && main) progress.show(`compiling ${kernel} ${Math.round((100 * done) / total)} %`)
    },
    onProgress: (p) => {
      if (o.json) process.stdout.write(`${JSON.stringify(p)}\n`)
      const line = `step ${p.step}/${p.steps}  loss ${p.trainLoss.toFixed(4)}  norm ${p.gradientNorm.toFixed(2)}  ${grouped(p.tokensPerSecond)} tokens/s  ${duration(p.secondsLeft)} left`
      if (p.validationLoss !== undefined && !o.json)
        say(
          `${line}  validation ${p.validationLoss.toFixed(4)} (${p.validationBitsPerByte!.toFixed(3)} bits per byte)`,
        )
      else if (!o.json) progress.show(line)
    },
  })
  progress.clear()
  if (trace) {
    const traces = await trace.gather()
    if (main) await writeFileAtomic(o.trace!, [new TextEncoder().encode(JSON.stringify(chromeTrace(traces)))])
    say(`trace of the last steps in ${o.trace}`)
  }
  if (o.json && main) process.stdout.write(`${JSON.stringify(result)}\n`)
  else if (result.finished)
    say(
      [
        `done: ${result.steps} steps`,
        ...(result.validationLoss === undefined
          ? []
          : [
              `validation loss ${result.validationLoss.toFixed(4)}, ${result.validationBitsPerByte!.toFixed(4)} bits per byte`,
            ]),
        `model in ${result.output}`,
      ].join('\n'),
    )
  else say(`stopped at step ${result.steps}; run the same command to continue`)
  device.destroy()
  process.exitCode = result.finished ? 0 : 130
}

/** The place of this process in a run of several ranks. */
async function rankOf(
  o: TrainOptions,
  config: TrainConfig,
  transport: Transport | undefined,
): Promise<RankOfMany | undefined> {
  if (o.plan === undefined) {
    if (!transport) return undefined
    const grid = dataParallelGrid(transport.size, config.accumulation)
    return {
      transport,
      grid,
      place: { ...onePlace, data: transport.rank },
      rankAt: ({ data }) => data,
    }
  }
  const plan = await readPlan(o.plan, o.cluster)
  const grid = gridOfPlan(plan)
  if (!transport && plan.ranks === 1) return undefined
  return {
    transport: transport!,
    grid,
    ...placeInPlan(plan, transport ?? { rank: 0, size: 1 }),
  }
}
