import { Command, Option } from 'commander'
import { segmentOfPrefill } from '../engine/inference_graph.ts'
import { loadModel } from '../engine/load.ts'
import { writeFileAtomic } from '../formats/node_file.ts'
import { open } from '../open.ts'
import { Philox } from '../tensor/philox.ts'
import { byKernel, profileSegment, profileTrace, type SegmentTimes } from '../verify/profile.ts'
import { backendOption, contextOption, numberIn, ProgressLine, weightsOption } from './options.ts'
import { table } from './table.ts'

/** `exactmap profile <model>`: where the time of prefill and decode goes on this machine's WebGPU. */
export function profileCommand(): Command {
  return new Command('profile')
    .description('measure the kernels of a model on this machine, by repeating each launch')
    .argument('<model>', 'a Hugging Face model folder')
    .addOption(
      new Option('--tokens <n>', 'tokens of the prompt; decode sees a cache of this length')
        .default(64)
        .argParser(numberIn(1, 1 << 20, true)),
    )
    .addOption(contextOption())
    .addOption(weightsOption())
    .addOption(backendOption('where it runs', 'webgpu'))
    .option('--driver <name>', 'auto, gpu, lavapipe or swiftshader')
    .option('--trace <file>', 'write a Chrome trace (chrome://tracing or ui.perfetto.dev)')
    .option('--json', 'print the tables as JSON')
    .action(async (path: string, o) => {
      const progress = new ProgressLine()
      const device = await open(o.backend, o.driver ? { driver: o.driver } : {})
      const model = await loadModel(path, {
        device,
        ...(o.context === undefined ? {} : { context: o.context }),
        weights: o.weights,
        onProgress: (what, done, total) => progress.show(`${what} ${Math.round((100 * done) / total)} %`),
      })
      // A real prompt and two decode steps leave inputs in the arenas that launches can be repeated on.
      const random = new Philox(1)
      const ids = Array.from({ length: o.tokens }, () => random.integer(model.config.vocab))
      for await (const _ of model.generator.generate(ids, { maxTokens: 2, temperature: 0 }));
      const rows = model.spec.prefill.find((b) => b >= ids.length) ?? model.spec.prefill.at(-1)!
      const times: SegmentTimes[] = []
      for (const name of [segmentOfPrefill(rows), 'decode']) {
        const segment = model.program.segments.find((s) => s.name === name)!
        times.push(
          await profileSegment(model.executable, segment, (done, total) =>
            progress.show(`${name}: launch ${done}/${total}`),
          ),
        )
      }
      progress.clear()
      if (o.trace)
        await writeFileAtomic(o.trace, [new TextEncoder().encode(JSON.stringify(profileTrace(times)))])
      const report = { ...device.info, tokens: o.tokens, segments: times.map(summary) }
      process.stdout.write(o.json ? `${JSON.stringify(report, null, 2)}\n` : text(report))
      await model.destroy()
      device.destroy()
    })
}

function summary(times: SegmentTimes) {
  const { segment, stepSeconds, launches } = times
  const kernelSeconds = launches.reduce((sum, l) => sum + l.seconds, 0)
  return {
    segment,
    launches: launches.length,
    stepSeconds,
    kernelSeconds,
    /** What the step takes beyond its kernels: submitting, waiting, the driver's work between launches. */
    overheadSeconds: stepSeconds - kernelSeconds,
    kernels: byKernel(times),
  }
}

type Report = {
  readonly device: string
  readonly driver: string
  readonly segments: readonly ReturnType<typeof summary>[]
}

const ms = (seconds: number): string => (seconds * 1000).toFixed(3)
const giga = (x: number | undefined): string =>
  x === undefined || !Number.isFinite(x) ? '-' : (x / 1e9).toPrecision(3)

function text({ device, driver, segments }: Report): string {
  const lines = [`${device}, ${driver}`]
  for (const { segment, launches, stepSeconds, kernelSeconds, overheadSeconds, kernels } of segments)
    lines.push(
      '',
      `${segment}: ${ms(stepSeconds)} ms a step, kernels ${ms(kernelSeconds)} ms, overhead ${ms(overheadSeconds)} ms over ${launches} launches`,
      ...table([
        ['op, kernel', 'count', 'total ms', 'share', 'GB/s', 'GFLOP/s'],
        ...kernels.map((k) => [
          k.op === k.kernel ? k.op : `${k.op}, ${k.kernel}`,
          String(k.count),
          ms(k.seconds),
          `${((100 * k.seconds) / kernelSeconds).toFixed(1)} %`,
          giga(k.bytesPerSecond),
          giga(k.flopsPerSecond),
        ]),
      ]),
    )
  return `${lines.join('\n')}\n`
}
