import { mkdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Command, Option } from 'commander'
import type { Device } from '../../backends/backend.ts'
import { inferenceSpec } from '../engine/defaults.ts'
import { Generator } from '../engine/generator.ts'
import { inferenceGraph } from '../engine/inference_graph.ts'
import { ExactmapError } from '../errors.ts'
import { openModelFolder } from '../formats/model_folder.ts'
import { writeFileAtomic } from '../formats/node_file.ts'
import { loadTokenizer } from '../formats/tokenizer.ts'
import { familyOf } from '../models/index.ts'
import { writeWeights } from '../models/weights.ts'
import { deviceNames, open } from '../open.ts'
import { compile } from '../program/compile.ts'
import { Philox } from '../tensor/philox.ts'
import { OpByOp } from '../verify/op_by_op.ts'
import { encodeVector } from '../verify/vector.ts'
import { kernelFolder } from './kernels.ts'
import { activationsOption, kvOption, numberIn, ProgressLine, weightsOption } from './options.ts'

/** `exactmap diff <model>`: the first op of a model that is wrong on a backend, given right inputs. */
export function diffCommand(): Command {
  return new Command('diff')
    .description('run a model op by op on two backends and name the first op that leaves its error budget')
    .argument('<model>', 'a Hugging Face model folder; small ones, the reference computes in float64')
    .addOption(new Option('--a <backend>', 'whose values flow').choices(deviceNames).default('reference'))
    .addOption(
      new Option('--b <backend>', 'what is checked: it gets the inputs of a')
        .choices(deviceNames)
        .default('webgpu'),
    )
    .option('--driver <name>', 'WebGPU driver: auto, gpu, lavapipe or swiftshader')
    .option('--prompt <text>', 'text to run (default: seeded tokens)')
    .addOption(
      new Option('--tokens <n>', 'tokens of the prompt when none is given')
        .default(8)
        .argParser(numberIn(1, 1 << 20, true)),
    )
    .addOption(
      new Option('--decode <n>', 'tokens to generate, greedily')
        .default(2)
        .argParser(numberIn(1, 1 << 20, true)),
    )
    .addOption(weightsOption())
    .addOption(activationsOption())
    .addOption(kvOption())
    .option('--kernels <folder>', 'take the kernels of b from this folder')
    .option(
      '--save <folder>',
      'write the failing op with its inputs as a test vector, <folder>/<op>/<name>.safetensors',
    )
    .option('--json', 'print the result as JSON')
    .addHelpText('after', '\nExit code 1 when an op left its budget.')
    .action(async (path: string, o) => {
      const progress = new ProgressLine()
      const folder = await openModelFolder(path)
      const family = familyOf(folder.config)
      const shape = family.parse(folder.config)
      const ids = await prompt(o.prompt, o.tokens, shape.vocab, folder.files.tokenizer)
      const spec = inferenceSpec(shape, {
        context: Math.min(shape.context, Math.max(16, ids.length + o.decode)),
        weights: o.weights,
        activations: o.activations,
        kv: o.kv,
      })
      const graph = inferenceGraph(family.name, family, shape, spec)
      const load = async (name: string, kernels?: string) => {
        const device = await open(
          name,
          o.driver && (name === 'webgpu' || name === 'auto') ? { driver: o.driver } : {},
        )
        if (kernels) device.useLibrary?.(kernelFolder(device).read(kernels))
        const executable = await device.load(compile(graph, device.target, { portable: true }), {
          onProgress: (done, total, what) => progress.show(`${name}: compiling ${what} ${done}/${total}`),
        })
        const arena = executable.arenas.weights!
        await writeWeights(family.parameters(shape), folder.weights, arena.plan, (at, bytes) =>
          arena.write(at, bytes),
        )
        return { device, executable }
      }
      const [a, b] = [await load(o.a), await load(o.b, o.kernels)]
      await folder.close()
      const both = new OpByOp(a.executable, b.executable, (launch) => progress.show(`comparing ${launch}`))
      try {
        const generator = new Generator(a.device, both, spec)
        for await (const _ of generator.generate(ids, { maxTokens: o.decode, temperature: 0 }));
      } catch (error) {
        // A divergence stops the run that way; it is in `both`.
        if (!(error instanceof ExactmapError && error.code === 'interrupted')) throw error
      }
      progress.clear()
      const file = both.divergence && o.save && (await save(both, o.save))
      process.stdout.write(
        o.json ? `${json(both, a.device, b.device, file)}\n` : text(both, a.device, b.device, file),
      )
      process.exitCode = both.divergence ? 1 : 0
      both.destroy()
      a.device.destroy()
      b.device.destroy()
    })
}

async function prompt(
  text: string | undefined,
  tokens: number,
  vocab: number,
  tokenizer: string | undefined,
): Promise<number[]> {
  if (text === undefined) {
    const random = new Philox(1)
    return Array.from({ length: tokens }, () => random.integer(vocab))
  }
  if (!tokenizer)
    throw new ExactmapError(
      'not_found',
      'the model folder has no tokenizer.json; use --tokens instead of --prompt',
    )
  return [...loadTokenizer(await readFile(tokenizer)).encode(text)]
}

async function save({ divergence }: OpByOp, folder: string): Promise<string> {
  const { vector } = divergence!
  await mkdir(join(folder, vector.op), { recursive: true })
  const file = join(folder, vector.op, `${vector.name}.safetensors`)
  await writeFileAtomic(file, [encodeVector(vector)])
  return file
}

function json(both: OpByOp, a: Device, b: Device, file: string | undefined): string {
  const { compared, worst, divergence } = both
  const { vector, ...place } = divergence ?? {}
  return JSON.stringify({
    a: a.info,
    b: b.info,
    compared,
    worst: Number.isFinite(worst) ? worst : 'infinite',
    divergence: divergence ? { ...place, op: vector!.op, attrs: vector!.attrs } : null,
    ...(file ? { saved: file } : {}),
  })
}

function text(both: OpByOp, a: Device, b: Device, file: string | undefined): string {
  const { compared, worst, divergence } = both
  const head = `a  ${a.info.device}, ${a.info.driver}\nb  ${b.info.device}, ${b.info.driver}\n`
  if (!divergence)
    return `${head}${compared} ops compared, all within their budgets; the largest error is ${worst.toFixed(2)} of its budget\n`
  const { segment, launch, wrong, variants, vector } = divergence
  return [
    `${head}op ${compared} is wrong: ${vector.op} at ${segment}, ${launch} (${variants.join(', ')})`,
    `  ${wrong.port}[${wrong.index}] expected ${wrong.expected}, got ${wrong.got}, ${wrong.error.toFixed(2)} x its budget`,
    `  attributes ${JSON.stringify(vector.attrs)}`,
    ...Object.entries(vector.inputs).map(
      ([port, { type }]) => `  ${port} ${type.format}[${type.shape.join(',')}]`,
    ),
    ...(file ? [`  saved as ${file}`] : []),
    '',
  ].join('\n')
}
