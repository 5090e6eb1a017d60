import { spawnSync } from 'node:child_process'
import { cpSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { packageRoot } from '../../backends/package_root.ts'
import { compareOutputs } from '../../src/verify/run.ts'
import { readVector } from '../../src/verify/store.ts'
import { buildDist } from '../helpers/build_dist.ts'
import { temporaryFolder, tinyConfigs, writeModelFolder } from './tiny.ts'

// `exactmap diff` finds a kernel that was broken on purpose, in a whole model, and nothing where none is.
const cli = join(packageRoot(), 'dist/cli/main.js')
let folder = ''

beforeAll(async () => {
  buildDist()
  folder = await temporaryFolder()
  await writeModelFolder(join(folder, 'llama'), tinyConfigs.llama)
  await writeModelFolder(join(folder, 'gpt2'), tinyConfigs.gpt2)
})
afterAll(() => rmSync(folder, { recursive: true, force: true }))

const diff = (model: string, ...args: string[]) =>
  spawnSync(process.execPath, [cli, 'diff', join(folder, model), ...args], {
    encoding: 'utf8',
    timeout: 120_000,
  })

/** The package's kernels with one text replaced by another. */
function brokenKernels(file: string, from: string, to: string): string {
  const kernels = join(folder, 'kernels')
  cpSync(join(packageRoot(), 'kernels-wgsl'), kernels, { recursive: true })
  const text = readFileSync(join(kernels, file), 'utf8')
  expect(text, `${file} is not what this test breaks`).toContain(from)
  writeFileSync(join(kernels, file), text.replace(from, to))
  return kernels
}

// Compiling a model's kernels takes seconds on a software driver, a minute on a busy machine.
describe('exactmap diff', { timeout: 120_000 }, () => {
  for (const model of ['llama', 'gpt2'])
    it(`finds nothing wrong in ${model}, prefill and decode`, () => {
      const { status, stdout, stderr } = diff(model, '--json')
      expect(stderr).not.toContain('exactmap:')
      expect(status).toBe(0)
      const { divergence, compared, worst } = JSON.parse(stdout)
      expect(divergence).toBeNull()
      // Two layers of at least eight ops, twice.
      expect(compared).toBeGreaterThan(32)
      expect(worst).toBeLessThanOrEqual(1)
    })

  it('names the broken op and saves it as a vector', async () => {
    const kernels = brokenKernels('norm.wgsl', '* statistics.y', '* (statistics.y * 1.001)')
    const saved = join(folder, 'saved')
    const { status, stdout } = diff('llama', '--kernels', kernels, '--prompt', 'The fox', '--save', saved)
    expect(status).toBe(1)
    expect(stdout).toMatch(/op 3 is wrong: rms_norm at prefill_16, layer\.0\/rms_norm\.\d+ \(norm\)/)
    expect(stdout).toMatch(/y\[\d+\] expected \S+, got \S+, \S+ x its budget/)
    const [file] = readdirSync(join(saved, 'rms_norm'))
    const vector = await readVector(saved, 'rms_norm', file!.replace('.safetensors', ''))
    expect(vector.inputs.x!.type.shape).toEqual([16, 64])
    const right = Object.fromEntries(Object.entries(vector.outputs).map(([port, t]) => [port, t.bytes]))
    expect(compareOutputs(vector, right).pass).toBe(true)
  })

  it('checks each op against the reference also when another backend makes the values', () => {
    const { status, stdout } = diff('llama', '--a', 'webgpu', '--decode', '1', '--json')
    expect(status).toBe(0)
    expect(JSON.parse(stdout)).toMatchObject({ a: { backend: 'webgpu' }, divergence: null })
  })
})
