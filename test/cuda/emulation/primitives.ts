import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { readCudaSources } from '../../../backends/cuda/library.ts'
import { type CudaTarget, cudaTarget, cudaTraits } from '../../../backends/cuda/target.ts'
import { asyncPrimitives } from './async_primitives.ts'
import { fragmentPrimitives } from './fragment_primitives.ts'
import type { Primitive } from './primitive.ts'
import { wgmmaPrimitives } from './wgmma_primitives.ts'

/** What `npm run gpu` asks a Hopper GPU first. */
export const primitives: readonly Primitive[] = [
  ...fragmentPrimitives,
  ...asyncPrimitives,
  ...wgmmaPrimitives,
]

/** A target that has the kernels of these files of `test/cuda/emulation` beside its own. */
export function targetOfPrimitives(root: string, arch: string, of: readonly Primitive[]): CudaTarget {
  const files = [...new Set(of.map(({ file }) => `${file}.cu`))]
  const folder = join(root, 'test', 'cuda', 'emulation')
  const texts = files.map((file) => [file, readFileSync(join(folder, file), 'utf8')] as const)
  return cudaTarget(cudaTraits[`cuda-${arch}`]!, new Map([...readCudaSources(), ...texts]))
}
