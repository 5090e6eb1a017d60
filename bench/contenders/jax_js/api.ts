import { createRequire } from 'node:module'
import { join } from 'node:path'
import { packageRoot } from '../../../backends/package_root.ts'

/**
 * What is used of @jax-js/jax, which is installed under bench/ only. Every function takes over its arguments: an array
 * that is needed again is passed as `.ref`.
 */
export interface Tensor {
  readonly ref: this
  readonly shape: number[]
  add(other: Tensor | number): Tensor
  sub(other: Tensor | number): Tensor
  mul(other: Tensor | number): Tensor
  div(other: Tensor | number): Tensor
  equal(other: Tensor | number): Tensor
  lessEqual(other: Tensor | number): Tensor
  sum(axis?: number, options?: KeepDims): Tensor
  mean(axis?: number, options?: KeepDims): Tensor
  reshape(shape: readonly number[]): Tensor
  transpose(axes?: readonly number[]): Tensor
  astype(dtype: Dtype): Tensor
  /** Rows of the first axis, by an array of indices. */
  slice(indices: Tensor): Tensor
  data(): Promise<Float32Array>
  blockUntilReady(): Promise<Tensor>
  /** Submits what the array waits for, without waiting, and gives it up. */
  gpuBufferSync(): unknown
  dispose(): void
}

export type Dtype = 'float32' | 'float16' | 'int32'

/** Nested objects and lists of arrays. */
export type Tree = Tensor | readonly Tree[] | { readonly [name: string]: Tree }

/** A function and what was compiled for it. */
export type Owned<F> = F & { dispose(): void }

interface Version {
  readonly version: string
}

interface KeepDims {
  readonly keepdims: boolean
}

export interface Jax {
  init(device: string): Promise<string[]>
  defaultDevice(device: string): string
  getWebGPUDevice(): GPUDevice
  /** Traced once per shapes of its arguments; what follows one another becomes one kernel where that is possible. */
  jit<F extends (...args: never[]) => Tree>(body: F): Owned<F>
  valueAndGrad<P extends Tree>(
    loss: (p: P, ...rest: Tensor[]) => Tensor,
  ): (p: P, ...rest: Tensor[]) => [Tensor, P]
  blockUntilReady<T extends Tree>(tree: T): Promise<T>
  readonly tree: {
    ref<T extends Tree>(tree: T): T
    dispose(tree: Tree): void
    map<T extends Tree>(body: (...leaves: Tensor[]) => Tensor, tree: T, ...rest: Tree[]): T
    leaves(tree: Tree): Tensor[]
    flatten(tree: Tree): [Tensor[], unknown]
    unflatten(structure: unknown, leaves: readonly Tensor[]): Tree
  }
  readonly nn: {
    softmax(x: Tensor): Tensor
    silu(x: Tensor): Tensor
    logsumexp(x: Tensor, axis: number): Tensor
  }
  readonly numpy: {
    array(
      values: ArrayLike<number> | number,
      options?: { readonly shape?: readonly number[]; readonly dtype?: Dtype },
    ): Tensor
    zeros(shape: readonly number[], options?: { readonly dtype?: Dtype }): Tensor
    arange(count: number): Tensor
    matmul(a: Tensor, b: Tensor): Tensor
    where(condition: Tensor, a: Tensor | number, b: Tensor | number): Tensor
    concatenate(parts: readonly Tensor[], axis: number): Tensor
    split(x: Tensor, at: number | readonly number[], axis: number): Tensor[]
    pad(x: Tensor, widths: readonly (readonly [number, number])[]): Tensor
    max(x: Tensor, axis: number, options: KeepDims): Tensor
    minimum(a: Tensor, b: number): Tensor
    argmax(x: Tensor, axis: number): Tensor
    sqrt(x: Tensor): Tensor
    exp(x: Tensor): Tensor
  }
}

/** Dawn frees what is collected while its device still lives, which ends the process. */
const kept: unknown[] = []

/** jax-js on the `webgpu` package of Node, which it finds as a page would: at `navigator.gpu`. A string says what is missing. */
export async function openJax(): Promise<{ jax: Jax; version: string } | string> {
  const require = createRequire(join(packageRoot(), 'bench', 'package.json'))
  try {
    require.resolve('@jax-js/jax')
  } catch {
    return '@jax-js/jax is not installed; run `npm install --no-save --prefix bench`'
  }
  const { create, globals } = await import('webgpu')
  Object.assign(globalThis, globals)
  const dawn = create([])
  const gpu = {
    async requestAdapter(options?: GPURequestAdapterOptions) {
      const adapter = await dawn.requestAdapter(options)
      kept.push(dawn, adapter)
      return adapter
    },
  }
  Object.defineProperty(globalThis, 'navigator', { value: { gpu, userAgent: 'node' }, configurable: true })
  const jax = require('@jax-js/jax') as Jax
  if (!(await jax.init('webgpu')).includes('webgpu')) return 'it found no WebGPU adapter'
  jax.defaultDevice('webgpu')
  const { version } = require(join(require.resolve('@jax-js/jax'), '..', '..', 'package.json')) as Version
  return { jax, version }
}
