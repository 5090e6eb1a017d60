import { createRequire } from 'node:module'
import { join } from 'node:path'
import { packageRoot } from '../../backends/package_root.ts'
import { type OpenContender, timed } from '../suite/contender.ts'
import { streams, valuesOf } from '../suite/inputs.ts'
import { matmulModel } from './onnx_file.ts'

/** What is used of onnxruntime-node, which is installed under bench/ only. */
interface Runtime {
  readonly env: { readonly versions: Readonly<Record<string, string>> }
  readonly InferenceSession: {
    create(model: Uint8Array, options: object): Promise<RuntimeSession>
  }
  readonly Tensor: new (type: string, data: Float32Array, dims: readonly number[]) => object
}

interface RuntimeSession {
  run(feeds: Record<string, object>): Promise<Record<string, { readonly data: Float32Array }>>
  release(): Promise<void>
}

/** onnxruntime with its WebGPU provider. */
export const openOnnxruntime: OpenContender = async () => {
  const require = createRequire(join(packageRoot(), 'bench', 'package.json'))
  let ort: Runtime
  try {
    ort = require('onnxruntime-node') as Runtime
  } catch {
    return 'onnxruntime-node is not installed; run `npm install --no-save --prefix bench`'
  }
  return {
    name: 'onnxruntime',
    version: ort.env.versions.node ?? ort.env.versions.common ?? 'unknown',
    kind: 'webgpu',
    device: 'WebGPU provider, with a Dawn of its own',
    async prepare(work) {
      if (work.kind !== 'matmul' || work.weights !== 'f32') return { unsupported: 'not written yet' }
      const { rows, depth, columns } = work
      const w = valuesOf(streams.w, columns * depth)
      const b = new Float32Array(w.length)
      for (let n = 0; n < columns; n++) for (let k = 0; k < depth; k++) b[k * columns + n] = w[n * depth + k]!
      const session = await ort.InferenceSession.create(matmulModel(rows, depth, columns, b), {
        executionProviders: ['webgpu'],
        logSeverityLevel: 3,
      })
      const feeds = { a: new ort.Tensor('float32', valuesOf(streams.x, rows * depth), [rows, depth]) }
      const { c } = await session.run(feeds)
      return {
        notes: 'uploads x and reads y back',
        run: (times) =>
          timed(times, async () => {
            for (let i = 0; i < times; i++) await session.run(feeds)
          }),
        sample: async (indices) => indices.map((i) => c!.data[i]!),
        release: () => session.release(),
      }
    },
  }
}
