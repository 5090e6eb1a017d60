// Writes dist/gpu: all that bench/gpu/run.sh needs on a machine with a GPU and nothing else of this project.
import { execFileSync } from 'node:child_process'
import { copyFile, mkdir, rm, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { writeImages } from '../../backends/cuda/build/write_images.ts'
import { encodeCaseFile } from '../../backends/cuda/case_file.ts'
import { readCudaSources } from '../../backends/cuda/library.ts'
import { cudaTarget, cudaTraits } from '../../backends/cuda/target.ts'
import { packageRoot } from '../../backends/package_root.ts'
import { loadModel } from '../../src/engine/load.ts'
import { writeFileAtomic } from '../../src/formats/node_file.ts'
import { open } from '../../src/open.ts'
import { hashText } from '../../src/program/hash.ts'
import type { Program } from '../../src/program/program.ts'
import { cudaProgramCase, cudaSpeedCase, speedCall } from '../../src/verify/cuda_cases.ts'
import { vectorProgram, withVariants } from '../../src/verify/run.ts'
import { readVectors } from '../../src/verify/suite.ts'
import { vectorId, vectorName } from '../../src/verify/vector.ts'
import { wideConfig, writeModelFolder } from '../../test/models/tiny.ts'
import { commit } from '../result.ts'
import { modelCases } from './model_cases.ts'
import { speedCases } from './speed_cases.ts'

const root = packageRoot()
const to = join(root, 'dist', 'gpu')
const emulated = process.argv.includes('--emulated')
const target = cudaTarget(cudaTraits['cuda-sm_90a']!, readCudaSources())
const say = (text: string): void => void process.stderr.write(`${text}\n`)
const exactmap = (...args: string[]): void => {
  const more = emulated ? ['--emulated'] : []
  execFileSync(process.execPath, [join(root, 'dist/cli/main.js'), ...args, ...more], { stdio: 'inherit' })
}

await rm(to, { recursive: true, force: true })
exactmap('build', 'cuda')

say('stored vectors')
exactmap('export', '--vectors', '--to', join(to, 'vectors'))
const vectors = withVariants(await readVectors(join(root, 'test', 'vectors'), []), target)
const kernelsOf = (program: Program): string[] => [...new Set(program.kernels.map((k) => k.name))]
await writeFile(
  join(to, 'vectors', 'kernels.json'),
  JSON.stringify({
    arch: target.arch,
    commit,
    /** Kernels that each case runs, and the text that each was built from. */
    cases: Object.fromEntries(vectors.map((v) => [vectorId(v), kernelsOf(vectorProgram(v, target))])),
    texts: Object.fromEntries(
      target
        .modules()
        .flatMap((module) =>
          target.kernels(module).map((kernel) => [kernel, hashText(target.moduleText(module))]),
        ),
    ),
  }),
)

say('models')
const models = {
  shakespeare: join(root, 'assets', 'shakespeare'),
  heads_of_64: await writeModelFolder(join(to, 'source', 'heads_of_64'), wideConfig(4)),
  heads_of_128: await writeModelFolder(join(to, 'source', 'heads_of_128'), wideConfig(2)),
}
const webgpu = await open('webgpu')
for (const [name, path] of Object.entries(models)) {
  const prompt = 'To be, or not'
  exactmap('export', path, '--to', join(to, 'models', name), '--prompt', prompt)
  const model = await loadModel(path, { device: webgpu })
  const tokens: number[] = []
  const options = { maxTokens: 64, temperature: 0, onToken: (id: number) => void tokens.push(id) }
  for await (const _ of model.generate(prompt, options));
  await model.destroy()
  await writeFile(join(to, 'models', name, 'expected.json'), JSON.stringify({ tokens, of: webgpu.info }))
}
webgpu.destroy()
await rm(join(to, 'source'), { recursive: true })

say('training')
// One file without packages but Dawn, for machines that have Node and nothing else.
execFileSync(
  'npx',
  [
    'esbuild',
    'src/cli/main.ts',
    ...['--bundle', '--platform=node', '--format=esm', '--external:webgpu', '--log-level=warning'],
    "--banner:js=import { createRequire as makeRequire } from 'node:module'; const require = makeRequire(import.meta.url);",
    `--outfile=${join(to, 'exactmap.mjs')}`,
  ],
  { cwd: root, stdio: 'inherit' },
)
const training = join(to, 'training')
await mkdir(training)
await copyFile(join(root, 'test', 'data', 'fables.txt'), join(training, 'fables.txt'))
await writeFile(
  join(training, 'train.yaml'),
  `output: run
model: { config: ${JSON.stringify(wideConfig(4))} }
tokenizer: { train: { vocabulary: 300 } }
data: { files: [fables.txt], validation: 0.1 }
seed: 1
steps: 10
batch: 2
sequence: 64
optimizer: { learning_rate: 1.0e-3, eps: 1.0e-4 }
schedule: { kind: cosine, warmup: 3 }
evaluate_every: 10
evaluate_batches: 2
checkpoint_every: 10
`,
)
const losses = execFileSync(
  process.execPath,
  [join(to, 'exactmap.mjs'), 'train', join(training, 'train.yaml'), '--backend', 'webgpu', '--json'],
  { encoding: 'utf8' },
)
await writeFile(join(training, 'expected.jsonl'), losses)
await rm(join(training, 'run'), { recursive: true })

say('cases to time')
const programs: Program[] = []
for (const one of speedCases) {
  const folder = join(to, 'speed', 'cases', one.op)
  await mkdir(folder, { recursive: true })
  // Every variant is timed: tuning data is made from that.
  const variants = target.variants(speedCall(one))
  for (const variant of variants.length > 0 ? variants : [undefined]) {
    const name = vectorName({ name: one.name, ...(variant ? { variant } : {}) })
    const { file, program } = cudaSpeedCase({ ...one, name }, variant ? target.withVariant(variant) : target)
    programs.push(program)
    await writeFileAtomic(join(folder, `${name}.case`), [encodeCaseFile(file)])
  }
}
await writeImages(join(to, 'speed'), programs, target, { emulated, note: say })

say('whole programs to time')
const whole = modelCases(target)
for (const one of whole) {
  const file = join(to, 'programs', 'cases', `${one.id}.case`)
  await mkdir(dirname(file), { recursive: true })
  await writeFileAtomic(file, [encodeCaseFile(cudaProgramCase(one, target))])
}
await writeImages(
  join(to, 'programs'),
  whole.map(({ program }) => program),
  target,
  { emulated, note: say },
)
say(`wrote ${to}`)
process.exit(0)
