import { existsSync } from 'node:fs'
import { appendFile, mkdir, readFile, writeFile } from 'node:fs/promises'
import { hostname } from 'node:os'
import { dirname, isAbsolute, join, resolve } from 'node:path'
import type { Device } from '../../backends/backend.ts'
import { check, ExactmapError } from '../errors.ts'
import { type ModelFolder, openModelFolder } from '../formats/model_folder.ts'
import { writeSafetensors } from '../formats/node_file.ts'
import { loadTokenizer, type Tokenizer } from '../formats/tokenizer.ts'
import { familyOf } from '../models/index.ts'
import { checkpointTensors, readParameter } from '../models/weights.ts'
import { agree as agreement } from '../parallel/agreement.ts'
import { broadcastNumbers, broadcastText, collectBytes, hostChannel } from '../parallel/host_messages.ts'
import { hashOf } from '../program/hash.ts'
import { formatOf } from '../tensor/format.ts'
import { version } from '../version.ts'
import {
  listCheckpoints,
  loadCheckpoint,
  lockFolder,
  openCheckpoint,
  removeUnfinished,
  saveCheckpoint,
} from './checkpoint.ts'
import type { TrainConfig } from './config.ts'
import { type CurvePoint, curveHeader, curveLine, curveSvg, parseCurve } from './curve.ts'
import { type Dataset, openDataset } from './data/dataset.ts'
import { type Batch, Sampler } from './data/sampler.ts'
import { trainBpe } from './tokenizer_training.ts'
import { type RankOfMany, Trainer, type TrainerOptions } from './trainer.ts'

export interface TrainProgress extends CurvePoint {
  readonly steps: number
  readonly tokensPerSecond: number
  readonly secondsLeft: number
}

export interface TrainRunOptions {
  readonly device: Device
  /** This rank among several; rank 0 alone writes curve, model and messages. */
  readonly rank?: RankOfMany
  /** Called when something this rank did has ended. */
  readonly onTrace?: TrainerOptions['onTrace']
  /** Folder that relative paths of the configuration start from. */
  readonly base: string
  readonly allowNumericChange?: boolean
  /** Aborting (of any rank) saves a checkpoint after the current step and ends the run. */
  readonly signal?: AbortSignal
  readonly onProgress?: (progress: TrainProgress) => void
  readonly onMessage?: (line: string) => void
  /** Kernels compiled so far, of how many. */
  readonly onCompile?: (done: number, total: number, kernel: string) => void
}

export interface TrainResult {
  readonly output: string
  readonly steps: number
  readonly finished: boolean
  /** Over all validation data, of a finished run that has some. */
  readonly validationLoss?: number
  readonly validationBitsPerByte?: number
}

/**
 * Runs a training configuration from start or from the newest checkpoint to its last step, and writes a model
 * folder that `run` and other tools load: config.json, tokenizer.json, model.safetensors, curve.csv, curve.svg.
 */
export async function runTraining(config: TrainConfig, options: TrainRunOptions): Promise<TrainResult> {
  const { device, base, rank } = options
  const transport = rank?.transport
  const main = (transport?.rank ?? 0) === 0
  const onMessage = (main && options.onMessage) || (() => {})
  const at = (path: string): string => (isAbsolute(path) ? path : resolve(base, path))
  const output = at(config.output)
  const unlock = main ? await lockFolder(output) : async () => {}
  let source: ModelFolder | undefined
  let dataset: Dataset | undefined
  let trainer: Trainer | undefined
  try {
    if (main) await removeUnfinished(output)
    source = 'from' in config.model ? await openModelFolder(at(config.model.from)) : undefined
    const ownTokenizer = main ? await tokenizerOf(config, at, output, source, onMessage) : ''
    const tokenizerJson = transport
      ? await broadcastText(transport, hostChannel.state, ownTokenizer)
      : ownTokenizer
    const tokenizer = loadTokenizer(tokenizerJson)
    const modelJson: Record<string, unknown> = source
      ? { ...source.config }
      : { ...(config.model as { config: object }).config }
    modelJson.vocab_size ??= tokenizer.vocabSize
    const family = familyOf(modelJson)
    const model = family.parse(modelJson)
    check(
      tokenizer.vocabSize <= model.vocab,
      'invalid_config',
      `the tokenizer has ${tokenizer.vocabSize} tokens, the model's vocab_size is ${model.vocab}`,
    )
    dataset = await openDataset(
      { files: config.data.files.map(at), validation: config.data.validation },
      tokenizer,
    )
    const sampling = {
      batch: config.batch,
      length: config.sequence,
      resetPositions: config.data.reset_positions,
    }
    const train = new Sampler(dataset, { ...sampling, seed: config.seed, order: config.data.order })
    const validation =
      config.data.validation > 0
        ? new Sampler(dataset, { ...sampling, seed: 0, split: 'validation' })
        : undefined
    const dataHash = hashOf([dataset.length, dataset.train, tokenizerJson])
    onMessage(`data: ${dataset.length} tokens, ${dataset.train.end - dataset.train.start} for training`)

    if (rank) await agree(rank, config, modelJson, dataHash)
    trainer = await Trainer.create(device, family, model, config, {
      ...(rank ? { rank } : {}),
      ...(options.onCompile ? { onProgress: options.onCompile } : {}),
      ...(options.onTrace ? { onTrace: options.onTrace } : {}),
    })
    const parameters = family.parameters(model)
    const resumed = (await listCheckpoints(output)).at(-1)
    let [tokens, seconds] = [0, 0]
    let points: CurvePoint[] = []
    if (resumed !== undefined) {
      const state = await loadCheckpoint(
        output,
        resumed,
        trainer,
        dataHash,
        options.allowNumericChange ?? false,
      )
      tokens = state.tokens
      seconds = state.seconds
      points = parseCurve(
        await readFile(join(output, 'curve.csv'), 'utf8').catch(() => curveHeader()),
        resumed,
      )
      onMessage(`resumed from step ${resumed}`)
    } else {
      trainer.initialise()
      if (source) {
        const names = new Set(source.weights.names())
        for (const spec of parameters)
          if (trainer.has(spec.name))
            trainer.writeParameter(spec.name, await readParameter(spec, source.weights, names))
        trainer.parametersChanged()
      }
    }
    if (main) await writeFile(join(output, 'curve.csv'), curveHeader() + points.map(curveLine).join(''))
    const about = (): { tokens: number; seconds: number; data: string } => ({
      tokens,
      seconds,
      data: dataHash,
    })
    const evaluate = async (
      batches: number,
    ): Promise<Pick<CurvePoint, 'validationLoss' | 'validationBitsPerByte'>> => {
      if (!validation) return {}
      const count = Math.min(batches, Math.max(1, Math.floor(validation.windows / config.batch)))
      const validationLoss = await trainer!.evaluate(validation, count)
      return {
        validationLoss,
        validationBitsPerByte: await bitsPerByte(validationLoss, validation, count, tokenizer),
      }
    }

    const stopped = async (): Promise<boolean> => {
      const here = options.signal?.aborted ?? false
      if (!transport) return here
      const asked = await collectBytes(transport, hostChannel.state, Uint8Array.of(+here))
      const stop = Float64Array.of(+asked.some(([one]) => one === 1))
      return (await broadcastNumbers(transport, 0, hostChannel.state, stop))[0] === 1
    }
    while (trainer.step < config.steps && !(await stopped())) {
      const start = performance.now()
      const report = await trainer.train(train)
      if (!Number.isFinite(report.loss))
        throw new ExactmapError(
          'invalid_argument',
          `the loss became ${report.loss} at step ${report.step}; lower the learning rate or clip gradients. The last checkpoint is kept`,
          { file: output },
        )
      tokens += report.tokens
      const elapsed = (performance.now() - start) / 1000
      seconds += elapsed
      const last = report.step === config.steps
      const measured =
        report.step % config.evaluate_every === 0 && !last ? await evaluate(config.evaluate_batches) : {}
      const point: CurvePoint = {
        step: report.step,
        tokens,
        seconds,
        learningRate: report.learningRate,
        trainLoss: report.loss,
        gradientNorm: report.norm,
        ...measured,
      }
      points.push(point)
      if (main) await appendFile(join(output, 'curve.csv'), curveLine(point))
      const rate = report.tokens / elapsed
      if (main)
        options.onProgress?.({
          ...point,
          steps: config.steps,
          tokensPerSecond: rate,
          secondsLeft: ((config.steps - report.step) * seconds) / report.step,
        })
      if (report.step % config.checkpoint_every === 0 && !last)
        await saveCheckpoint(output, trainer, about(), config.keep_checkpoints)
    }
    await saveCheckpoint(output, trainer, about(), config.keep_checkpoints)
    const finished = trainer.step >= config.steps
    const final = finished ? await evaluate(Number.POSITIVE_INFINITY) : {}
    if (main && finished && points.length > 0) {
      points[points.length - 1] = { ...points.at(-1)!, ...final }
      await writeFile(join(output, 'curve.csv'), curveHeader() + points.map(curveLine).join(''))
    }
    if (main) {
      await writeFile(
        join(output, 'curve.svg'),
        curveSvg(
          points,
          `${family.name}, ${parameters.reduce((n, p) => n + p.shape.reduce((a, b) => a * b, 1), 0)} parameters`,
        ),
      )
      await writeModel(output, trainer, config, modelJson)
      await writeFile(join(output, 'tokenizer.json'), tokenizerJson)
    }
    return {
      output,
      steps: trainer.step,
      finished,
      ...final,
    }
  } finally {
    trainer?.destroy()
    await dataset?.close()
    await source?.close()
    await unlock()
  }
}

/** Text of the tokenizer: kept from an earlier run, given, trained here, or the source model's. */
async function tokenizerOf(
  config: TrainConfig,
  at: (path: string) => string,
  output: string,
  source: ModelFolder | undefined,
  onMessage: (line: string) => void,
): Promise<string> {
  const kept = join(output, 'tokenizer.json')
  if (existsSync(kept)) return readFile(kept, 'utf8')
  const choice = config.tokenizer
  if (choice && 'file' in choice) return readFile(at(choice.file), 'utf8')
  if (choice) {
    const { vocabulary, special } = choice.train
    const texts = config.data.files.map(at).filter((f) => /\.(txt|md|jsonl)$/.test(f))
    check(texts.length > 0, 'invalid_config', 'tokenizer.train needs text files among data.files')
    onMessage(`training a tokenizer of ${vocabulary} tokens`)
    const all = await Promise.all(texts.map((f) => readFile(f, 'utf8')))
    // The held-out end of the data must not shape the tokenizer either.
    const { validation } = config.data
    const seen = all.map((text, i) =>
      i === all.length - 1 ? text.slice(0, Math.floor(text.length * (1 - validation))) : text,
    )
    const json = JSON.stringify(trainBpe(seen, { vocabSize: vocabulary, specialTokens: special }))
    await mkdir(dirname(kept), { recursive: true })
    await writeFile(kept, json)
    return json
  }
  const own = source?.files.tokenizer
  check(own, 'invalid_config', 'tokenizer: give a file or train one; the model folder has none')
  return readFile(own, 'utf8')
}

/** Nats per token as bits per byte of the text those tokens stand for. */
async function bitsPerByte(
  loss: number,
  source: Sampler,
  batches: number,
  tokenizer: Tokenizer,
): Promise<number> {
  let [bytes, counted] = [0, 0]
  for (let i = 0; i < batches; i++) {
    const batch: Batch = await source.batch(i)
    const targets = batch.targets.filter((_, j) => batch.weights[j]! > 0)
    bytes += Buffer.byteLength(tokenizer.decode(targets))
    counted += batch.counted
  }
  return (loss * counted) / Math.LN2 / Math.max(1, bytes)
}

/** Refuses to start when ranks would not train the same model on the same data by the same plan. */
async function agree(
  { transport, grid }: RankOfMany,
  config: TrainConfig,
  model: unknown,
  data: string,
): Promise<void> {
  const { schedule, ...axes } = grid
  await agreement(
    transport,
    {
      world: String(transport.size),
      plan: hashOf([axes, schedule]),
      model: hashOf([model, { ...config, output: '' }]),
      data,
      build: version,
    },
    { host: hostname() },
  )
}

/** Writes config.json and model.safetensors as other tools expect them, from the checkpoint of the last step. */
async function writeModel(
  output: string,
  trainer: Trainer,
  config: TrainConfig,
  modelJson: Record<string, unknown>,
): Promise<void> {
  const format = config.weights_format
  const dtype = { f32: 'F32', f16: 'F16', bf16: 'BF16' }[format]
  const tensors = []
  const checkpoint = await openCheckpoint(output, trainer.step)
  try {
    for (const spec of trainer.family.parameters(trainer.model)) {
      const whole = await checkpoint.read('parameters', spec.name, spec.shape)
      for (const { name, shape, values } of checkpointTensors(spec, whole))
        tensors.push({
          name,
          dtype,
          shape,
          bytes: formatOf(format)
            .encode(values)
            .subarray(0, values.length * (format === 'f32' ? 4 : 2)),
        })
    }
  } finally {
    await checkpoint.close()
  }
  await writeSafetensors(join(output, 'model.safetensors'), tensors, { format: 'pt' })
  const torch = { f32: 'float32', f16: 'float16', bf16: 'bfloat16' }[format]
  await writeFile(
    join(output, 'config.json'),
    `${JSON.stringify({ ...modelJson, torch_dtype: torch }, null, 2)}\n`,
  )
}
