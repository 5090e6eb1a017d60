import { allOps } from '../../src/ops/index.ts'
import { webGpuConformance } from './webgpu.ts'

// Products have the most kernels to compile: half of the time of all vectors, in a file of its own so that both halves
// run side by side.
await webGpuConformance(
  allOps()
    .map(({ name }) => name)
    .filter((name) => name.startsWith('matmul')),
)
