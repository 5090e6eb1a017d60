import { webGpuConformance } from './webgpu.ts'

// Every op but products, which matmul.test.ts has.
await webGpuConformance((op) => !op.startsWith('matmul'))
