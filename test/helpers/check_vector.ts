import type { Device } from '../../backends/backend.ts'
import { explain, runVector, vectorProgram } from '../../src/verify/run.ts'
import type { Vector } from '../../src/verify/vector.ts'

/**
 * Runs a vector on a device, and on one without the optional features where its kernels differ there.
 * Returns what is wrong, or ''.
 */
export async function checkVector(device: Device, bare: Device, vector: Vector): Promise<string> {
  const wrong = explain(await runVector(device, vector), device)
  const kernels = (d: Device): string => JSON.stringify(vectorProgram(vector, d.target).kernels)
  if (wrong !== '' || kernels(device) === kernels(bare)) return wrong
  return explain(await runVector(bare, vector), bare)
}
