import type { Device } from '../../backends/backend.ts'
import { check, ExactmapError } from '../errors.ts'
import { allOps, opContract } from '../ops/index.ts'
import { runVector, type Verdict, vectorProgram } from './run.ts'
import { readVector, storedCases } from './store.ts'
import { type Vector, vectorId } from './vector.ts'

/** Runs per vector; the fastest counts, so that the first one's warm-up does not. */
export const VERIFY_REPEATS = 3

/** What became of one stored vector on a device. */
export type CaseResult =
  | { readonly id: string; readonly state: 'passed' | 'failed'; readonly verdict: Verdict }
  /** No result: the kernel does not compile, or another error that the device survives. */
  | { readonly id: string; readonly state: 'failed'; readonly error: ExactmapError }
  | { readonly id: string; readonly state: 'skipped'; readonly reason: string }

/**
 * Reads the stored vectors of some ops, or of all.
 *
 * @param root folder with a folder per op
 * @throws ExactmapError `not_found` for an unknown op, or a case that none of the ops has
 */
export async function readVectors(root: string, ops: readonly string[], name?: string): Promise<Vector[]> {
  const wanted = ops.length > 0 ? ops.map((op) => opContract(op).name) : allOps().map((op) => op.name)
  const ids = wanted.flatMap((op) => storedCases(root, op).map((one) => [op, one] as const))
  const chosen = name === undefined ? ids : ids.filter(([, one]) => one === name)
  check(chosen.length > 0, 'not_found', () =>
    name === undefined
      ? `no stored vectors of ${wanted.join(', ')} in ${root}`
      : `no case is named '${name}'; ${wanted.join(', ')} ${wanted.length > 1 ? 'have' : 'has'} ${[...new Set(ids.map(([, one]) => one))].join(', ')}`,
  )
  return Promise.all(chosen.map(([op, one]) => readVector(root, op, one)))
}

/** Runs one vector; an error that leaves the device usable becomes a result. */
export async function runCase(
  device: Device,
  vector: Vector,
  repeats: number,
  target = device.target,
): Promise<CaseResult> {
  const id = vectorId(vector)
  try {
    const verdict = await runVector(device, vector, repeats, target)
    return { id, state: verdict.pass ? 'passed' : 'failed', verdict }
  } catch (error) {
    if (!(error instanceof ExactmapError) || error.code === 'device_lost') throw error
    if (error.code === 'unsupported') return { id, state: 'skipped', reason: error.message }
    return { id, state: 'failed', error }
  }
}

/** Kernel files that a vector's program is made from on a device's target; none where it can't be compiled. */
export function filesOf(device: Device, vector: Vector): string[] {
  try {
    return vectorProgram(vector, device.target).kernels.flatMap((k) => [...device.target.files(k)])
  } catch (error) {
    if (error instanceof ExactmapError) return []
    throw error
  }
}
