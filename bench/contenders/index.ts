import type { OpenContender } from '../suite/contender.ts'
import { openExactmap } from './exactmap.ts'
import { openJaxJs } from './jax_js.ts'
import { openLlamaCpp, openLlamaCppVulkan } from './llama_cpp.ts'
import { openOnnxruntime } from './onnxruntime.ts'
import { openOpenblas } from './openblas.ts'
import { openTfjs } from './tfjs.ts'

/** Every engine of the suite, ours first; the name is that of the worker's first argument. */
export const contenders = {
  exactmap: openExactmap,
  onnxruntime: openOnnxruntime,
  'jax-js': openJaxJs,
  tfjs: openTfjs,
  'llama.cpp': openLlamaCpp,
  'llama.cpp-vulkan': openLlamaCppVulkan,
  openblas: openOpenblas,
} as const satisfies Record<string, OpenContender>
