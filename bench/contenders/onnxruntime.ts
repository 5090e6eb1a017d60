import { createRequire } from 'node:module'
import { join } from 'node:path'
import { packageRoot } from '../../backends/package_root.ts'
import type { OpenContender } from '../suite/contender.ts'
import { prepareDecode } from './onnxruntime/decode.ts'
import { Engine, type Runtime } from './onnxruntime/engine.ts'
import { prepareKernel } from './onnxruntime/kernel.ts'

/** onnxruntime with its WebGPU provider. */
export const openOnnxruntime: OpenContender = async () => {
  const require = createRequire(join(packageRoot(), 'bench', 'package.json'))
  let ort: Runtime
  try {
    ort = require('onnxruntime-node') as Runtime
  } catch {
    return 'onnxruntime-node is not installed; run `npm install --no-save --prefix bench`'
  }
  const engine = new Engine(ort)
  return {
    name: 'onnxruntime',
    version: ort.env.versions.node ?? ort.env.versions.common ?? 'unknown',
    kind: 'webgpu',
    device: 'WebGPU provider, with a Dawn of its own',
    async prepare(work) {
      switch (work.kind) {
        case 'decode':
          return prepareDecode(engine, work)
        case 'train_step':
          return { unsupported: 'onnxruntime-node runs inference only' }
        case 'startup':
          return { unsupported: 'not measured of peers' }
        default:
          return prepareKernel(engine, work)
      }
    },
  }
}
