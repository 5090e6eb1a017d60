import { webGpuConformance } from './webgpu.ts'

// Products have the most kernels to compile: half of the time of all vectors, in a file of its own so that both halves
// run side by side.
await webGpuConformance((op) => op.startsWith('matmul'))
