import { createRequire } from 'node:module'
import { join } from 'node:path'
import { packageRoot } from '../../backends/package_root.ts'
import { matmulModel } from './onnx.ts'

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

export interface PeerMatmul {
  /** Milliseconds of one product, mean of `times`. */
  run(times: number): Promise<number>
  close(): Promise<void>
}

export interface Peer {
  readonly version: string
  matmul(shape: { rows: number; depth: number; columns: number }): Promise<PeerMatmul>
}

/** onnxruntime with its WebGPU provider, or undefined where it is not installed. */
export async function openPeer(): Promise<Peer | undefined> {
  const require = createRequire(join(packageRoot(), 'bench', 'package.json'))
  let ort: Runtime
  try {
    ort = require('onnxruntime-node') as Runtime
  } catch {
    return undefined
  }
  return {
    version: `onnxruntime-node ${ort.env.versions.node ?? ort.env.versions.common}`,
    async matmul({ rows, depth, columns }) {
      const a = Float32Array.from({ length: rows * depth }, (_, i) => (i % 7) / 7 - 0.5)
      const b = Float32Array.from({ length: depth * columns }, (_, i) => (i % 13) / 13 - 0.5)
      const session = await ort.InferenceSession.create(matmulModel(rows, depth, columns, b), {
        executionProviders: ['webgpu'],
        logSeverityLevel: 3,
      })
      const feeds = { a: new ort.Tensor('float32', a, [rows, depth]) }
      const { c } = await session.run(feeds)
      let expected = 0
      for (let k = 0; k < depth; k++) expected += a[k]! * b[k * columns]!
      if (Math.abs(c!.data[0]! - expected) > 1e-3 * depth)
        throw new Error(`onnxruntime gives ${c!.data[0]}, expected ${expected}`)
      return {
        async run(times) {
          const start = performance.now()
          for (let i = 0; i < times; i++) await session.run(feeds)
          return (performance.now() - start) / times
        },
        close: () => session.release(),
      }
    },
  }
}
