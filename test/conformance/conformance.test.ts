import { allOps } from '../../src/ops/index.ts'
import { webGpuConformance } from './webgpu.ts'

// Every op but products, which matmul.test.ts has.
await webGpuConformance(
  allOps()
    .map(({ name }) => name)
    .filter((name) => !name.startsWith('matmul')),
)
