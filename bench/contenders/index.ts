import type { OpenContender } from '../suite/contender.ts'
import { openExactmap } from './exactmap.ts'
import { openOnnxruntime } from './onnxruntime.ts'

/** Every engine of the suite, ours first; the name is that of the worker's first argument. */
export const contenders = {
  exactmap: openExactmap,
  onnxruntime: openOnnxruntime,
} as const satisfies Record<string, OpenContender>
