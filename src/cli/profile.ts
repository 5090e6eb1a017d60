import { readFile } from 'node:fs/promises'
import { dirname, resolve } from 'node:path'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { Command, Option } from 'commander'
import type { Device, Roofline } from '../../backends/backend.ts'
import type { ActivationFormat } from '../engine/activations.ts'
import { loadModel } from '../engine/load.ts'
import { refuseIo, writeFileAtomic } from '../formats/node_file.ts'
import { familyOf } from '../models/index.ts'
import { open } from '../open.ts'
import type { FormatName } from '../tensor/format.ts'
import { parseTrainConfig } from '../train/config.ts'
import { Trainer } from '../train/trainer.ts'
import { profileTrace, type SegmentTimes } from '../verify/profile.ts'
import { profileInference } from '../verify/profile_inference.ts'
import { profileSvg } from '../verify/profile_picture.ts'
import { profileTraining } from '../verify/profile_training.ts'
import { modelJson } from './inspect_training.ts'
import {
  activationsOption,
  backendOption,
  contextOption,
  numberIn,
  ProgressLine,
  weightsOption,
  wholeStepOption,
} from './options.ts'
import { type ProfileReport, profileText, stepReport } from './profile_report.ts'

/** `exactmap profile`: where the time of a model's steps goes, against what the device can do. */
export function profileCommand(): Command {
  return new Command('profile')
    .description(
      'measure the steps of a model on this machine: each kernel against the limits of the device, launch overhead, host time',
    )
    .argument(
      '<model>',
      'a Hugging Face model folder: prefill and decode; or a training file (*.yaml): a training step',
    )
    .addOption(
      new Option('--tokens <n>', 'tokens of the prompt; decode sees a cache of this length')
        .default(64)
        .argParser(numberIn(1, 1 << 20, true)),
    )
    .addOption(contextOption())
    .addOption(weightsOption())
    .addOption(activationsOption())
    .addOption(wholeStepOption())
    .addOption(backendOption('where it runs', 'webgpu'))
    .option('--driver <name>', 'auto, gpu, lavapipe or swiftshader')
    .option('--svg <file>', 'write the picture: each step as a bar, each kernel against its limit')
    .option('--trace <file>', 'write a Chrome trace (chrome://tracing or ui.perfetto.dev)')
    .option('--json', 'print everything as JSON')
    .addHelpText(
      'after',
      `
A step is measured as it really runs; its kernels, each repeated by itself; the device's limits, by kernels that only
stream and only multiply (some three seconds). A training file needs neither its data nor its tokenizer: tokens are
random, and nothing is saved.`,
    )
    .action(async (path: string, o: ProfileOptions) => {
      const progress = new ProgressLine()
      const device = await open(o.backend, o.driver ? { driver: o.driver } : {})
      const roofline = await device.measureRoofline?.((done, total) =>
        progress.show(`limits of the device: ${done}/${total}`),
      )
      const measure = /\.ya?ml$/.test(path) ? measureTraining : measureInference
      const { report, times } = await measure(path, o, device, roofline, progress)
      progress.clear()
      const write = (file: string, content: string) =>
        writeFileAtomic(file, [new TextEncoder().encode(content)])
      if (o.trace) await write(o.trace, JSON.stringify(profileTrace(times)))
      if (o.svg) await write(o.svg, profileSvg(`${report.model}; ${report.driver}`, report.steps))
      process.stdout.write(o.json ? `${JSON.stringify(report, null, 2)}\n` : profileText(report))
      device.destroy()
    })
}

interface ProfileOptions {
  readonly tokens: number
  readonly context?: number
  readonly weights: FormatName
  readonly activations: ActivationFormat
  readonly wholeStep?: boolean
  readonly backend: string
  readonly driver?: string
  readonly svg?: string
  readonly trace?: string
  readonly json?: boolean
}

interface Measured {
  readonly report: ProfileReport
  readonly times: readonly SegmentTimes[]
}

/** Runs the garbage collector, which Node gives to those only who ask for it. */
function collectGarbage(): void {
  setFlagsFromString('--expose-gc')
  runInNewContext('gc')()
}

async function measureInference(
  path: string,
  o: ProfileOptions,
  device: Device,
  roofline: Roofline | undefined,
  progress: ProgressLine,
): Promise<Measured> {
  const model = await loadModel(path, {
    device,
    ...(o.context === undefined ? {} : { context: o.context }),
    weights: o.weights,
    activations: o.activations,
    wholeStep: o.wholeStep ?? false,
    onProgress: (what, done, total) => progress.show(`${what} ${Math.round((100 * done) / total)} %`),
  })
  const context = {
    device,
    ...(roofline ? { roofline } : {}),
    onProgress: (line: string) => progress.show(line),
  }
  const { steps, times, heap } = await profileInference(model, o.tokens, context, collectGarbage)
  const { family, config, spec } = model
  await model.destroy()
  return {
    times,
    report: {
      ...device.info,
      model: `${family.name}, ${config.layers} layers, ${spec.weights} weights, prompt of ${o.tokens} tokens`,
      ...(roofline ? { roofline } : {}),
      steps: steps.map(stepReport),
      heap,
    },
  }
}

async function measureTraining(
  path: string,
  _o: ProfileOptions,
  device: Device,
  roofline: Roofline | undefined,
  progress: ProgressLine,
): Promise<Measured> {
  const text = await readFile(path, 'utf8').catch((cause) => refuseIo(path, 'reading', cause))
  const config = parseTrainConfig(text, path)
  const json = await modelJson(config, dirname(resolve(path)))
  const family = familyOf(json)
  const trainer = await Trainer.create(device, family, family.parse(json), config, {
    onProgress: (done, total, kernel) =>
      progress.show(`compiling ${kernel} ${Math.round((100 * done) / total)} %`),
  })
  const context = {
    device,
    ...(roofline ? { roofline } : {}),
    onProgress: (line: string) => progress.show(line),
  }
  const { step, times, ...ratio } = await profileTraining(trainer, context)
  const { batch, sequence, accumulation } = config
  trainer.destroy()
  return {
    times,
    report: {
      ...device.info,
      model: `${family.name}, ${trainer.model.layers} layers, training, ${accumulation} x ${batch} x ${sequence} tokens`,
      ...(roofline ? { roofline } : {}),
      steps: [stepReport(step)],
      ...ratio,
    },
  }
}
