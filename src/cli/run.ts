import { readFile } from 'node:fs/promises'
import { hostname } from 'node:os'
import { join } from 'node:path'
import { Command, Option } from 'commander'
import { localTransports } from '../../backends/local_transport.ts'
import { packageRoot } from '../../backends/package_root.ts'
import type { Transport } from '../../backends/transport.ts'
import type { ActivationFormat } from '../engine/activations.ts'
import type { InferenceSpec } from '../engine/inference_graph.ts'
import { loadModel } from '../engine/load.ts'
import { type InferenceRank, rankInPlan } from '../engine/ranks.ts'
import type { SamplingOptions } from '../engine/sampling.ts'
import { decodeSession, encodeSession, type Session } from '../engine/session.ts'
import { ExactmapError } from '../errors.ts'
import { refuseIo, writeFileAtomic } from '../formats/node_file.ts'
import { open } from '../open.ts'
import { agree } from '../parallel/agreement.ts'
import { hashOf } from '../program/hash.ts'
import { asOneOfTheRanks, backendOfRank } from './launched.ts'
import {
  activationsOption,
  backendOption,
  contextOption,
  grouped,
  kvOption,
  numberIn,
  ProgressLine,
  weightsOption,
  wholeStepOption,
} from './options.ts'

/** Folder of the model that comes with the package. */
export const bundledModel = (): string => join(packageRoot(), 'assets', 'shakespeare')

export const examplePrompt = 'ROMEO:\n'

export function runCommand(): Command {
  return new Command('run')
    .description('continue a prompt with a model, as text on stdout; figures follow on stderr')
    .argument('[model]', 'a Hugging Face model folder (default: the model that comes with exactmap)')
    .option(
      '-p, --prompt <text>',
      `text to continue (default for the bundled model: ${JSON.stringify(examplePrompt)})`,
    )
    .addOption(
      new Option('-n, --max-tokens <n>', 'new tokens at most')
        .default(200)
        .argParser(numberIn(1, 1 << 24, true)),
    )
    .addOption(
      new Option('-t, --temperature <x>', '0: always the most probable token')
        .default(0.8)
        .argParser(numberIn(0, 100)),
    )
    .addOption(
      new Option('--top-k <k>', 'sample from the k most probable; 0: off')
        .default(0)
        .argParser(numberIn(0, 2 ** 24, true)),
    )
    .addOption(
      new Option('--top-p <p>', 'sample from the smallest set reaching p; 1: off')
        .default(0.95)
        .argParser(numberIn(0.0001, 1)),
    )
    .addOption(
      new Option('--min-p <p>', 'drop tokens below p times the best; 0: off')
        .default(0)
        .argParser(numberIn(0, 1)),
    )
    .addOption(new Option('--repetition-penalty <x>', '1: off').default(1).argParser(numberIn(0.01, 100)))
    .addOption(
      new Option('-s, --seed <n>', 'seed of the sampling')
        .default(1)
        .argParser(numberIn(0, Number.MAX_SAFE_INTEGER, true)),
    )
    .addOption(contextOption())
    .addOption(weightsOption())
    .addOption(activationsOption())
    .addOption(kvOption())
    .addOption(wholeStepOption())
    .addOption(backendOption('where it runs', 'auto'))
    .option('--driver <name>', 'auto, gpu, lavapipe or swiftshader')
    .option('--save <file>', 'write the session (tokens and KV cache) when the text ends')
    .option('--resume <file>', 'go on with a saved session, of this or another backend, instead of a prompt')
    .option('--plan <file>', 'plan file (YAML) of a run on several ranks; docs/parallel.md')
    .option('--cluster <cluster>', "cluster file or shipped name (default: the plan's cluster)")
    .option('--json', 'print one JSON object at the end instead of streaming text')
    .addHelpText(
      'after',
      '\nOn several ranks: mpirun -np 2 npx exactmap run --plan plan.yaml …; rank 0 prints.',
    )
    .action((path: string | undefined, o: RunOptions) =>
      asOneOfTheRanks((transport) => run(path, o, transport)),
    )
}

interface RunOptions extends Required<SamplingOptions> {
  readonly prompt?: string
  readonly maxTokens: number
  readonly context?: number
  readonly weights: InferenceSpec['weights']
  readonly kv: InferenceSpec['kv']
  readonly activations: ActivationFormat
  readonly wholeStep?: boolean
  readonly backend: string
  readonly driver?: string
  readonly save?: string
  readonly resume?: string
  readonly plan?: string
  readonly cluster?: string
  readonly json?: boolean
}

async function run(path: string | undefined, o: RunOptions, transport: Transport | undefined): Promise<void> {
  const started = performance.now()
  // One of several ranks speaks.
  const main = (transport?.rank ?? 0) === 0
  const say = (text: string): void => {
    if (main) process.stdout.write(text)
  }
  const rank = await rankOf(o, transport)
  const progress = new ProgressLine()
  const backend = transport ? backendOfRank(o.backend) : o.backend
  const device = await open(backend, o.driver ? { driver: o.driver } : {})
  if (o.resume && o.prompt !== undefined)
    throw new ExactmapError('invalid_argument', '--resume goes on with its own text; leave out --prompt')
  const session = o.resume ? await readSession(o.resume) : undefined
  const prompt: string = session ? '' : (o.prompt ?? (path === undefined ? examplePrompt : ''))
  const model = await loadModel(path ?? bundledModel(), {
    device,
    prompt,
    ...(rank ? { rank } : {}),
    ...(o.context === undefined ? {} : { context: o.context }),
    weights: o.weights,
    activations: o.activations,
    kv: o.kv,
    wholeStep: o.wholeStep ?? false,
    onProgress: (what, done, total) => {
      if (main) progress.show(`${what} ${Math.round((100 * done) / total)} %`)
    },
  })
  progress.clear()
  const { temperature, topK, topP, minP, repetitionPenalty, seed, maxTokens } = o
  const promptTokens = session ? session.tokens.length : model.tokenizer.encode(prompt).length
  const times: number[] = []
  let text = ''
  const request = { temperature, topK, topP, minP, repetitionPenalty, seed, maxTokens }
  if (transport) await agree(transport, { request: hashOf([prompt, request]) }, { host: hostname() })
  if (!o.json) say(prompt)
  const options = { ...request, onToken: () => times.push(performance.now()) }
  const stream = session ? model.resume(session, options) : model.generate(prompt, options)
  for await (const piece of stream) {
    text += piece
    if (!o.json) say(piece)
  }
  if (o.save) await writeFileAtomic(o.save, [encodeSession(await model.generator.session())])
  const seconds = times.length > 1 ? (times.at(-1)! - times[0]!) / 1000 : 0
  const report = {
    device: device.info.device,
    driver: device.info.driver,
    backend: device.info.backend,
    ranks: transport?.size ?? 1,
    promptTokens,
    tokens: times.length,
    firstTokenSeconds: times.length > 0 ? (times[0]! - started) / 1000 : null,
    tokensPerSecond: seconds > 0 ? (times.length - 1) / seconds : null,
    arenas: Object.fromEntries(model.program.arenas.map((a) => [a.kind, a.bytes])),
    totalBytes: model.program.arenas.reduce((sum, a) => sum + a.bytes, 0),
  }
  if (o.json) say(`${JSON.stringify({ prompt, text, ...report })}\n`)
  else if (main) {
    say('\n')
    const lines = [
      '',
      `${report.tokens} tokens, ${report.tokensPerSecond?.toFixed(1) ?? '-'} tokens/s, first token after ${report.firstTokenSeconds?.toFixed(2) ?? '-'} s (opening, compiling and loading included)`,
      `device   ${report.device}`,
      `driver   ${report.driver}`,
      ...(transport ? [`rank     0 of ${transport.size}; its memory:`] : []),
      ...Object.entries(report.arenas).map(
        ([kind, bytes]) => `${kind.padEnd(12)} ${grouped(bytes).padStart(14)} bytes`,
      ),
      `${'total'.padEnd(12)} ${grouped(report.totalBytes).padStart(14)} bytes`,
    ]
    process.stderr.write(`${lines.join('\n')}\n`)
  }
  await model.destroy()
  device.destroy()
}

/** The place of this process in a run of several ranks. */
async function rankOf(
  { plan: file, cluster, save, resume }: RunOptions,
  transport: Transport | undefined,
): Promise<InferenceRank | undefined> {
  if (transport && (save !== undefined || resume !== undefined))
    throw new ExactmapError('unsupported', '--save and --resume work on one rank; start without mpirun')
  if (file !== undefined) {
    // YAML and clusters are loaded for those who have a plan.
    const { readPlan } = await import('./cluster.ts')
    const plan = await readPlan(file, cluster)
    return !transport && plan.ranks === 1 ? undefined : rankInPlan(plan, transport ?? localTransports(1)[0]!)
  }
  if (transport)
    throw new ExactmapError(
      'invalid_argument',
      `${transport.size} ranks were started: say with --plan how they divide the model`,
    )
  return undefined
}

async function readSession(file: string): Promise<Session> {
  const bytes = await readFile(file).catch((cause) => refuseIo(file, 'reading', cause))
  return decodeSession(bytes, file)
}
