export type {
  Arena,
  Device,
  DeviceInfo,
  Executable,
  LoadOptions,
  Outputs,
  Target,
} from '../backends/backend.ts'
export type { KernelRule as CudaKernelRule } from '../backends/cuda/kernels/rule.ts'
export { cudaTarget, registerCudaKernel } from '../backends/cuda/target.ts'
export { NullDevice } from '../backends/null/device.ts'
export { ReferenceDevice, referenceTarget } from '../backends/reference/device.ts'
export type { KernelRule } from '../backends/webgpu/kernels/rule.ts'
export { registerWebGpuKernel, webGpuTarget } from '../backends/webgpu/target.ts'
export { type GenerateOptions, type LoadModelOptions, loadModel, type Model } from './engine/load.ts'
export type { SamplingOptions } from './engine/sampling.ts'
export { decodeSession, encodeSession, type Session } from './engine/session.ts'
export { type ErrorCode, type ErrorPlace, ExactmapError } from './errors.ts'
export { parseConfig } from './models/config.ts'
export { families, registerModel } from './models/index.ts'
export type { ModelBuilder, ModelFamily, ModelShape, ParameterSpec } from './models/model.ts'
export { open } from './open.ts'
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
export { parseTrainConfig, type TrainConfig } from './train/config.ts'
export { runTraining } from './train/run.ts'
export { Trainer } from './train/trainer.ts'
export { checkGradient, gradientCases, type WrongGradient } from './verify/gradient.ts'
export { runVector, type Verdict } from './verify/run.ts'
export { makeVector, type Vector } from './verify/vector.ts'
export { version } from './version.ts'
