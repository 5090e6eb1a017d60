import { execFile } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { packageRoot } from '../../backends/package_root.ts'
import { buildDist } from '../helpers/build_dist.ts'
import { FABLES } from '../models/tiny.ts'
import { models } from '../ranks/grid.ts'
import { mpirunArguments, whyNoRanks } from '../ranks/mpirun.ts'
import { whyNoDriver } from './tiny_device.ts'

// `exactmap train` on processes of mpirun, each with an emulated device: messages over NCCL and over the host give the
// same weights to the bit. Pipelines show sends that would wait for a receive which comes only after what they hold up.

const reason = (await whyNoDriver()) || (await whyNoRanks())
const root = packageRoot()
const folder = mkdtempSync(join(tmpdir(), 'exactmap-train-nccl-'))
afterAll(() => rmSync(folder, { recursive: true, force: true }))

describe.skipIf(reason)(`training over NCCL${reason ? ` (skipped: ${reason})` : ''}`, () => {
  beforeAll(buildDist)

  /** Bytes of the weights after two steps. */
  async function train(transport: string, ranks: number, plan: object): Promise<Buffer> {
    const run = {
      output: transport,
      model: { config: { ...models.llama, vocab_size: 280 } },
      tokenizer: { train: { vocabulary: 280 } },
      data: { files: [FABLES] },
      steps: 2,
      batch: 1,
      sequence: 16,
      accumulation: 4,
      checkpoint_every: 2,
      evaluate_batches: 1,
    }
    rmSync(join(folder, transport), { recursive: true, force: true })
    const [runFile, planFile] = ['run.yaml', 'plan.yaml'].map((name) => join(folder, `${transport}.${name}`))
    writeFileSync(runFile!, JSON.stringify(run))
    writeFileSync(planFile!, JSON.stringify({ cluster: 'cores', microbatches: 4, ...plan }))
    const command = [process.execPath, join(root, 'dist/cli/main.js'), 'train', runFile!]
    const options = ['--plan', planFile!, '--cluster', join(root, 'test/data/eight_cores.yaml')]
    await promisify(execFile)(
      'mpirun',
      [...mpirunArguments(ranks), ...command, ...options, '--backend', 'cuda-emulated', '--json'],
      {
        env: { ...process.env, EXACTMAP_TRANSPORT: transport, EXACTMAP_EMULATED_NCCL_TIMEOUT: '20' },
        timeout: 50_000,
      },
    )
    return readFileSync(join(folder, transport, 'model.safetensors'))
  }

  it('gives the bytes of the host transport: a pipeline in a V of tensor-parallel stages', {
    timeout: 120_000,
  }, async () => {
    const plan = { grid: { pipeline: 2, tensor: 2 }, schedule: { name: 'zb_v' } }
    const [nccl, host] = [await train('nccl', 4, plan), await train('host', 4, plan)]
    expect(Buffer.compare(nccl, host)).toBe(0)
  })
})
