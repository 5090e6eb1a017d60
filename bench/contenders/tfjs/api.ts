import { mkdtemp, rm } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { build } from 'esbuild'
import { packageRoot } from '../../../backends/package_root.ts'

/** What is used of a tensor: values on the device once an op has read them there. */
export interface Tensor {
  readonly shape: readonly number[]
  data(): Promise<Float32Array | Int32Array>
  dispose(): void
}

export interface Variable extends Tensor {
  /** Takes the value over. */
  assign(value: Tensor): void
}

type Custom = (...inputs: never[]) => {
  readonly value: Tensor
  readonly gradFunc: (dy: Tensor, saved: Tensor[]) => Tensor | Tensor[]
}

/** What is used of @tensorflow/tfjs-core, which is installed under bench/ only. */
export interface Tfjs {
  readonly version_core: string
  env(): { set(flag: string, value: number | boolean): void }
  setBackend(name: string): Promise<boolean>
  ready(): Promise<void>
  tensor(values: ArrayLike<number>, shape: readonly number[], dtype?: 'float32' | 'int32'): Tensor
  scalar(value: number): Tensor
  variable(initial: Tensor): Variable
  zeros(shape: readonly number[]): Tensor
  ones(shape: readonly number[]): Tensor
  tidy<T>(body: () => T): T
  keep(tensor: Tensor): Tensor
  dispose(tensors: readonly Tensor[]): void
  reshape(x: Tensor, shape: readonly number[]): Tensor
  transpose(x: Tensor, axes?: readonly number[]): Tensor
  slice(x: Tensor, begin: readonly number[], size: readonly number[]): Tensor
  split(x: Tensor, sizes: readonly number[], axis: number): Tensor[]
  concat(parts: readonly Tensor[], axis: number): Tensor
  gather(x: Tensor, indices: Tensor, axis?: number): Tensor
  unsortedSegmentSum(x: Tensor, segments: Tensor, count: number): Tensor
  oneHot(indices: Tensor, depth: number): Tensor
  argMax(x: Tensor, axis: number): Tensor
  matMul(a: Tensor, b: Tensor, transposeA?: boolean, transposeB?: boolean): Tensor
  batchNorm(x: Tensor, mean: Tensor, variance: Tensor, offset: undefined, scale: Tensor, eps: number): Tensor
  softmax(x: Tensor): Tensor
  sigmoid(x: Tensor): Tensor
  add(a: Tensor, b: Tensor): Tensor
  sub(a: Tensor, b: Tensor): Tensor
  mul(a: Tensor, b: Tensor): Tensor
  div(a: Tensor, b: Tensor): Tensor
  minimum(a: Tensor, b: Tensor): Tensor
  square(x: Tensor): Tensor
  sqrt(x: Tensor): Tensor
  rsqrt(x: Tensor): Tensor
  log(x: Tensor): Tensor
  neg(x: Tensor): Tensor
  sum(x: Tensor, axis?: number, keepDims?: boolean): Tensor
  mean(x: Tensor, axis?: number, keepDims?: boolean): Tensor
  customGrad(body: Custom): (...inputs: Tensor[]) => Tensor
  valueAndGrads(
    body: (...inputs: Tensor[]) => Tensor,
  ): (inputs: readonly Tensor[]) => { value: Tensor; grads: Tensor[] }
}

export interface OpenedTfjs {
  readonly tf: Tfjs
  readonly device: string
}

/** As a page's bundler sees it: the files for Node are for older engines, and have no gradients. */
const SOURCE = `
export * from '@tensorflow/tfjs-core'
import '@tensorflow/tfjs-core/dist/register_all_gradients'
import '@tensorflow/tfjs-backend-webgpu'
`

/** Dawn frees what is collected while its device still lives, which crashes the process. */
const kept: unknown[] = []

/** tfjs with its WebGPU backend on dawn-node; a string says what is missing. */
export async function startTfjs(): Promise<OpenedTfjs | string> {
  const bench = join(packageRoot(), 'bench')
  const require = createRequire(join(bench, 'package.json'))
  try {
    require.resolve('@tensorflow/tfjs-backend-webgpu')
  } catch {
    return '@tensorflow/tfjs-backend-webgpu is not installed; run `npm install --no-save --prefix bench`'
  }
  const { create, globals } = await import('webgpu')
  const gpu = create([])
  kept.push(gpu)
  Object.assign(globalThis, globals)
  // The backend registers itself only where it finds a browser's navigator.
  Object.defineProperty(globalThis, 'navigator', { value: { gpu, userAgent: 'node' }, configurable: true })
  const folder = await mkdtemp(join(tmpdir(), 'exactmap-tfjs-'))
  let tf: Tfjs
  try {
    const outfile = join(folder, 'tfjs.cjs')
    const mainFields = ['module', 'main']
    const stdin = { contents: SOURCE, resolveDir: bench }
    await build({
      stdin,
      outfile,
      mainFields,
      bundle: true,
      platform: 'node',
      format: 'cjs',
      logLevel: 'silent',
    })
    tf = require(outfile) as Tfjs
  } finally {
    await rm(folder, { recursive: true })
  }
  if (!(await tf.setBackend('webgpu'))) return 'its WebGPU backend found no device'
  await tf.ready()
  // Else ops on few elements that were never on the device run in JavaScript.
  tf.env().set('WEBGPU_CPU_FORWARD', false)
  const adapter = await gpu.requestAdapter()
  const { description, device } = adapter!.info
  return { tf, device: `${description || device}, on exactmap's Dawn` }
}

/** Waits for the device by reading four bytes of the result that was asked for last. */
export async function finished(tf: Tfjs, last: Tensor): Promise<void> {
  const first = tf.tidy(() => tf.slice(tf.reshape(last, [-1]), [0], [1]))
  await first.data()
  first.dispose()
}
