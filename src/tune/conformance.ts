import { join } from 'node:path'
import { packageRoot } from '../../backends/package_root.ts'
import type { WebGpuDevice } from '../../backends/webgpu/device.ts'
import type { Choice } from '../../backends/webgpu/kernels/parameter.ts'
import { opContract } from '../ops/index.ts'
import { explain, vectorCall, vectorProgram } from '../verify/run.ts'
import { readVector, storedCases } from '../verify/store.ts'
import { runCase } from '../verify/suite.ts'
import { makeVector, type Vector } from '../verify/vector.ts'
import { launchesOf } from './trial.ts'

/** The stored vectors of an op; one from outside the package has its cases. */
export async function vectorsOf(op: string): Promise<Vector[]> {
  const root = join(packageRoot(), 'test', 'vectors')
  const stored = storedCases(root, op)
  if (stored.length > 0) return Promise.all(stored.map((name) => readVector(root, op, name)))
  const contract = opContract(op)
  return contract.cases.map((one) => makeVector(contract, one))
}

/**
 * Runs the vectors of an op whose launches a choice for one of its kernels changes, with that choice at every shape.
 *
 * @returns what is wrong with the first that fails, or undefined
 */
export async function whyNonconforming(
  device: WebGpuDevice,
  vectors: readonly Vector[],
  kernel: string,
  choice: Choice,
): Promise<string | undefined> {
  const plain = device.targetWith([])
  for (const vector of vectors) {
    const forced = plain
      .decisions(vectorCall(vector))
      .filter((decision) => decision.kernel === kernel)
      .map(({ op, shape }) => ({ op, kernel, shape, choice }))
    if (forced.length === 0) continue
    const target = device.targetWith(forced)
    if (launchesOf(vectorProgram(vector, target)) === launchesOf(vectorProgram(vector, plain))) continue
    const result = await runCase(device, vector, 1, target)
    if (result.state === 'failed')
      return 'error' in result ? `${result.id}: ${result.error.message}` : explain(result.verdict, device)
  }
  return undefined
}
