// Writes dist/gpu, and packs it as dist/gpu.tar.xz: all that bench/gpu/run.sh needs on a machine with a GPU and nothing else
// of this project. With --emulated everything is small and runs on the emulated device; --node takes this Node along.
import { execFileSync } from 'node:child_process'
import { copyFile, mkdir, readdir, rename, rm, stat, symlink, writeFile } from 'node:fs/promises'
import { dirname, join, relative } from 'node:path'
import { buildEmulatedDriver } from '../../backends/cuda/build/emulated.ts'
import { buildNative, executableFile } from '../../backends/cuda/build/native.ts'
import { cudaDist, imageFolder } from '../../backends/cuda/build/places.ts'
import { writeImages } from '../../backends/cuda/build/write_images.ts'
import { type CaseFile, encodeCaseFile } from '../../backends/cuda/case_file.ts'
import { readCudaSources } from '../../backends/cuda/library.ts'
import { cudaTarget, cudaTraits } from '../../backends/cuda/target.ts'
import { type Walkers, walkersOf } from '../../backends/cuda/walker.ts'
import { packageRoot } from '../../backends/package_root.ts'
import { loadModel } from '../../src/engine/load.ts'
import { DECODE } from '../../src/engine/whole_step.ts'
import { writeFileAtomic } from '../../src/formats/node_file.ts'
import { open } from '../../src/open.ts'
import { hashText } from '../../src/program/hash.ts'
import type { Program } from '../../src/program/program.ts'
import { cudaCase, cudaProgramCase, cudaSpeedCase, speedCall } from '../../src/verify/cuda_cases.ts'
import { vectorProgram, withVariants } from '../../src/verify/run.ts'
import { readVectors } from '../../src/verify/suite.ts'
import { vectorId, vectorName } from '../../src/verify/vector.ts'
import { wideConfig, writeModelFolder } from '../../test/models/tiny.ts'
import { commit } from '../result.ts'
import type { PreparedCase, PreparedCases } from './journal.ts'
import { modelCases, rehearsedModels } from './model_cases.ts'
import { writePrimitives } from './primitives.ts'
import { rehearsedCases, rehearsedOps, speedCases } from './speed_cases.ts'
import { prepareTraining } from './training.ts'

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
// What is exported must be of these sources.
execFileSync(process.execPath, [join(root, 'build.mjs')], { stdio: 'inherit' })
if (emulated) {
  await buildNative()
  await buildEmulatedDriver()
} else {
  exactmap('build', 'cuda')
}

say('stored vectors')
const ops = emulated ? rehearsedOps : []
exactmap('export', '--vectors', ...ops, '--to', join(to, 'vectors'))
const vectors = withVariants(await readVectors(join(root, 'test', 'vectors'), ops), target)
const kernelsOf = (program: Program): string[] => [...new Set(program.kernels.map((k) => k.name))]
const probe = cudaCase(vectors.find((v) => v.op === 'add' && v.name === 'one')!, target)

/** Writes a folder of cases and their images, with the probe that shows whether the device works. */
async function writeCases(
  folder: string,
  cases: readonly { file: CaseFile; program: Program; walkers?: Walkers }[],
): Promise<PreparedCase[]> {
  const all = [{ ...probe, file: { ...probe.file, id: 'probe/device' } }, ...cases]
  for (const { file } of all) {
    const path = join(folder, 'cases', `${file.id}.case`)
    await mkdir(dirname(path), { recursive: true })
    await writeFileAtomic(path, [encodeCaseFile(file)])
  }
  const walkers = all.flatMap((one) => ('walkers' in one ? [...(one.walkers?.values() ?? [])] : []))
  const programs = all.map(({ program }) => program)
  await writeImages(folder, programs, target, { emulated, note: say, walkers })
  return cases.map(({ file, program, walkers }) => ({
    case: file.id,
    kernels: [...kernelsOf(program), ...(walkers?.size ? ['walk'] : [])],
  }))
}
await writeCases(join(to, 'vectors'), [])

say('primitives')
await writeCases(join(to, 'primitives'), [])
const primitives = await writePrimitives(
  join(to, 'primitives'),
  target.arch,
  emulated ? 'emulated' : target.arch,
)

say('models')
const shakespeare = join(root, 'assets', 'shakespeare')
const models: Readonly<Record<string, readonly [path: string, ...options: string[]]>> = {
  shakespeare: [shakespeare],
  shakespeare_as_one_kernel: [shakespeare, '--whole-step'],
  heads_of_64: [await writeModelFolder(join(to, 'source', 'heads_of_64'), wideConfig(4))],
  heads_of_128: [await writeModelFolder(join(to, 'source', 'heads_of_128'), wideConfig(2))],
}
const webgpu = await open('webgpu')
for (const [name, [path, ...options]] of Object.entries(models)) {
  const prompt = 'To be, or not'
  exactmap('export', path, '--to', join(to, 'models', name), '--prompt', prompt, ...options)
  const model = await loadModel(path, { device: webgpu })
  const tokens: number[] = []
  const greedy = { maxTokens: 64, temperature: 0, onToken: (id: number) => void tokens.push(id) }
  for await (const _ of model.generate(prompt, greedy));
  await model.destroy()
  await writeFile(join(to, 'models', name, 'expected.json'), JSON.stringify({ tokens, of: webgpu.info }))
}
webgpu.destroy()
await rm(join(to, 'source'), { recursive: true })

say('training')
await prepareTraining(root, to)

say('cases to time')
const speed = await writeCases(
  join(to, 'speed'),
  (emulated ? rehearsedCases : speedCases).flatMap((one) => {
    // Every variant is timed: tuning data is made from that.
    const variants = target.variants(speedCall(one))
    return (variants.length > 0 ? variants : [undefined]).map((variant) => {
      const name = vectorName({ name: one.name, ...(variant ? { variant } : {}) })
      return cudaSpeedCase({ ...one, name }, variant ? target.withVariant(variant) : target)
    })
  }),
)

say('whole programs to time')
const programs = await writeCases(
  join(to, 'programs'),
  (emulated ? rehearsedModels : modelCases)(target).flatMap((one) => {
    const graph = { file: cudaProgramCase(one, target), program: one.program }
    if (!one.walked) return [graph]
    const walkers = walkersOf(one.program, [DECODE], target)
    const whole = { ...one, id: vectorName({ name: one.id, variant: 'one_kernel' }) }
    return [graph, { file: cudaProgramCase(whole, target, walkers), program: one.program, walkers }]
  }),
)

const modules = target.modules().flatMap((module) => target.kernels(module).map((k) => [k, module] as const))
const texts = Object.fromEntries(modules.map(([k, module]) => [k, hashText(target.moduleText(module))]))
const cases = vectors.map((v) => ({ case: vectorId(v), kernels: kernelsOf(vectorProgram(v, target)) }))
const prepared: PreparedCases = {
  prepared: hashText(JSON.stringify([commit, texts, primitives.cases, cases, speed, programs])),
  arch: emulated ? 'emulated' : target.arch,
  commit,
  texts,
  modules: { ...Object.fromEntries(modules), ...primitives.modules, walk: 'lib/walker' },
  primitives: primitives.cases,
  vectors: cases,
  models: Object.keys(models),
  speed,
  programs,
}
await writeFile(join(to, 'cases.json'), JSON.stringify(prepared))

say('packing')
/** Folders share one set of images and one executable. */
const images = join(to, 'kernels')
const folders = [
  'primitives',
  'vectors',
  'speed',
  'programs',
  ...Object.keys(models).map((name) => join('models', name)),
]
for (const folder of folders.map((name) => join(to, name))) {
  for (const kind of await readdir(join(folder, 'kernels'))) {
    await mkdir(join(images, kind), { recursive: true })
    for (const file of await readdir(join(folder, 'kernels', kind)))
      await rename(join(folder, 'kernels', kind, file), join(images, kind, file))
  }
  await rm(join(folder, 'kernels'), { recursive: true })
  await symlink(relative(folder, images), join(folder, 'kernels'))
  await rm(join(folder, 'exactmap-cuda'), { force: true })
}
await copyFile(executableFile(), join(to, 'exactmap-cuda'))
const packed = ['gpu']
if (process.argv.includes('--node')) {
  // Node, Dawn for it, the addon and the records of the images, which it looks for beside them.
  await copyFile(process.execPath, join(to, 'node'))
  for (const file of ['package.json', 'index.js', `dist/${process.platform}-${process.arch}/dawn.node`]) {
    const copy = join(to, 'node_modules', 'webgpu', file)
    await mkdir(dirname(copy), { recursive: true })
    await copyFile(join(root, 'node_modules', 'webgpu', file), copy)
  }
  for (const file of await readdir(imageFolder(target.arch)))
    if (file.endsWith('.json'))
      await copyFile(join(imageFolder(target.arch), file), join(images, target.arch, file))
  packed.push('cuda/exactmap.node', 'cuda/native.json')
}
const pack = `${to}.tar.xz`
execFileSync('tar', ['-C', dirname(cudaDist()), '-cJf', `${pack}.part`, ...packed], {
  env: { ...process.env, XZ_OPT: '-T2 -6' },
})
await rename(`${pack}.part`, pack)
say(`wrote ${to}, packed ${((await stat(pack)).size / 2 ** 20).toFixed(1)} MiB`)
process.exit(0)
