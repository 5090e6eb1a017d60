import { execFileSync } from 'node:child_process'
import { copyFile, mkdir, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { wideConfig } from '../../test/models/tiny.ts'

/** Writes <to>/exactmap.mjs, and <to>/training: ten steps of a small model with the losses that WebGPU gives. */
export async function prepareTraining(root: string, to: string): Promise<void> {
  // One file without packages but Dawn, for machines that have Node and nothing else.
  const module = "import { createRequire as makeRequire } from 'node:module';"
  const options = ['--bundle', '--platform=node', '--format=esm', '--external:webgpu', '--log-level=warning']
  const banner = `--banner:js=${module} const require = makeRequire(import.meta.url);`
  const bundle = join(to, 'exactmap.mjs')
  execFileSync('npx', ['esbuild', 'src/cli/main.ts', ...options, banner, `--outfile=${bundle}`], {
    cwd: root,
    stdio: 'inherit',
  })
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
  const command = [bundle, 'train', join(training, 'train.yaml'), '--backend', 'webgpu', '--json']
  const losses = execFileSync(process.execPath, command, { encoding: 'utf8' })
  await writeFile(join(training, 'expected.jsonl'), losses)
  await rm(join(training, 'run'), { recursive: true })
}
