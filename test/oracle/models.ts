import { execFile, execFileSync } from 'node:child_process'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { openNodeFile } from '../../src/formats/node_file.ts'
import { openSafetensors } from '../../src/formats/safetensors.ts'

/** CPU PyTorch in float64 as an independent opinion on whole models (models.py). */

/** Debian's interpreter: python3-torch installs there, whatever `python3` is on the path. */
const PYTHON = '/usr/bin/python3'
const SCRIPT = fileURLToPath(new URL('models.py', import.meta.url))

/** Why PyTorch can't be used here, or undefined if it can. */
export function torchMissing(): string | undefined {
  try {
    execFileSync(
      PYTHON,
      [
        '-c',
        'import importlib.util as u, sys; sys.exit(not (u.find_spec("torch") and u.find_spec("numpy")))',
      ],
      { stdio: 'ignore' },
    )
    return undefined
  } catch {
    return `${PYTHON} has no PyTorch; install Debian's python3-torch and python3-numpy`
  }
}

export interface LogitsRequest {
  readonly kind: 'logits'
  readonly name: string
  readonly folder: string
  /** How matrices and the KV cache are stored: f16 rounds both. */
  readonly storage: 'f32' | 'f16'
  readonly ids: readonly number[]
}

/** One microbatch, each field `batch` rows. */
export interface OracleBatch {
  readonly tokens: number[][]
  readonly targets: number[][]
  readonly weights: number[][]
  readonly documents: number[][] | null
  readonly positions: number[][]
}

export interface TrainRequest {
  readonly kind: 'train'
  readonly name: string
  readonly folder: string
  readonly config: Readonly<Record<string, number>>
  readonly steps: readonly (readonly OracleBatch[])[]
}

/** Results by name; see models.py for the names. Starting Python takes seconds: ask for everything at once. */
export async function askTorch(
  requests: readonly (LogitsRequest | TrainRequest)[],
): Promise<Map<string, Float64Array>> {
  const folder = await mkdtemp(join(tmpdir(), 'exactmap-oracle-'))
  try {
    const [input, output] = [join(folder, 'requests.json'), join(folder, 'results.safetensors')]
    await writeFile(input, JSON.stringify(requests))
    await promisify(execFile)(PYTHON, ['-B', SCRIPT, input, output], {
      env: { ...process.env, OMP_NUM_THREADS: '1' },
    })
    const source = await openNodeFile(output)
    const file = await openSafetensors(source, output)
    const results = new Map<string, Float64Array>()
    for (const name of file.tensors.keys())
      results.set(name, new Float64Array((await file.read(name)).slice().buffer))
    await source.close()
    return results
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}
