// What works in a page: everything of the public API that needs no file system, and the browser's own WebGPU.
export type {
  Arena,
  Device,
  DeviceInfo,
  Executable,
  LoadOptions,
  Outputs,
  Target,
} from '../backends/backend.ts'
export { type BrowserOpenOptions, openBrowserWebGpu } from '../backends/webgpu/browser.ts'
export { decide, type Parameters } from '../backends/webgpu/kernels/parameter.ts'
export { type KernelRule, tunable } from '../backends/webgpu/kernels/rule.ts'
export { registerWebGpuKernel, webGpuTarget } from '../backends/webgpu/target.ts'
export { type InferenceOptions, inferenceSpec } from './engine/defaults.ts'
export { Generator } from './engine/generator.ts'
export { type InferenceSpec, inferenceGraph } from './engine/inference_graph.ts'
export type { SamplingOptions } from './engine/sampling.ts'
export { type ErrorCode, type ErrorPlace, ExactmapError } from './errors.ts'
export { parseConfig } from './models/config.ts'
export { families, familyOf, registerModel } from './models/index.ts'
export type { ModelBuilder, ModelFamily, ModelShape, ParameterSpec } from './models/model.ts'
export { integers, normal, same, uniform, values } from './ops/cases.ts'
export { defineOp, type OpContract } from './ops/contract.ts'
export { allOps, registerOp } from './ops/index.ts'
export { dotProduct, exact, relative } from './ops/tolerance.ts'
export { type CompileOptions, compile, programHash } from './program/compile.ts'
export { Graph } from './program/graph.ts'
export type { Program } from './program/program.ts'
export { verifyProgram } from './program/verify.ts'
export { type FormatName, formatOf } from './tensor/format.ts'
export { type TensorType, tensorType } from './tensor/type.ts'
export { differentiate } from './train/autodiff.ts'
export { initialValues } from './train/trainer.ts'
export { checkGradient, gradientCases, type WrongGradient } from './verify/gradient.ts'
export { explain, runVector, type Verdict } from './verify/run.ts'
export { decodeVector, makeVector, type Vector } from './verify/vector.ts'
export { version } from './version.ts'
