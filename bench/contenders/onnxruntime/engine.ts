import { type ElementType, type Graph, onnxModel } from './onnx.ts'

export type Data = Float32Array | Int32Array

/** A tensor of onnxruntime. In Node `gpuBuffer` is a handle; its bytes are read by a session (see Engine.read). */
export interface Tensor {
  readonly type: ElementType
  readonly dims: readonly number[]
  readonly data: Data
  readonly gpuBuffer: object
  dispose(): void
}

export type Tensors = Readonly<Record<string, Tensor>>

export interface Session {
  /**
   * Fetches are tensors to write the outputs into, else they are new ones. Where all of them are on the device it returns
   * once the work is submitted.
   */
  run(feeds: Tensors, fetches?: Tensors): Promise<Tensors>
  release(): Promise<void>
}

/** What is used of onnxruntime-node, which is installed under bench/ only. */
export interface Runtime {
  readonly env: { readonly versions: Readonly<Record<string, string>> }
  readonly InferenceSession: { create(model: Uint8Array, options: object): Promise<Session> }
  readonly Tensor: {
    new (type: ElementType, data: Data, dims: readonly number[]): Tensor
    fromGpuBuffer(
      buffer: object,
      options: { readonly dataType: ElementType; readonly dims: readonly number[] },
    ): Tensor
  }
}

export interface SessionOptions {
  /** New outputs stay on the device. In Node fetches are left alone then. */
  readonly onDevice?: boolean
  /** The launches of the first run are recorded and replayed: all tensors are on the device, the same ones every time. */
  readonly capture?: boolean
}

/** onnxruntime with its WebGPU provider: sessions, and tensors on the device. */
export class Engine {
  private readonly copies = new Map<string, Promise<Session>>()

  constructor(private readonly ort: Runtime) {}

  session(graph: Graph, { onDevice = false, capture = false }: SessionOptions): Promise<Session> {
    return this.ort.InferenceSession.create(onnxModel(graph), {
      executionProviders: [{ name: 'webgpu', validationMode: 'disabled' }],
      logSeverityLevel: 3,
      ...(onDevice ? { preferredOutputLocation: 'gpu-buffer' } : {}),
      extra: {
        // A node that the WebGPU provider does not have would run on the CPU: an error instead.
        'session.disable_cpu_ep_fallback': '1',
        // Not among the provider's options in JavaScript; the C++ side reads it from here.
        ...(capture ? { 'ep.webgpuexecutionprovider.enableGraphCapture': '1' } : {}),
      },
    })
  }

  private host(type: ElementType, data: Data, ...dims: number[]): Tensor {
    return new this.ort.Tensor(type, data, dims)
  }

  /** A tensor on the device with this data. */
  async upload(type: ElementType, data: Data, ...dims: number[]): Promise<Tensor> {
    const { y } = await (await this.copy(type, true)).run({ x: this.host(type, data, data.length) })
    return this.view(y!, type, ...dims)
  }

  /** Other data for a tensor on the device, all of it. */
  async write(tensor: Tensor, data: Data): Promise<void> {
    const { type } = tensor
    const feeds = { x: this.host(type, data, data.length) }
    await (await this.copy(type, false)).run(feeds, { y: this.view(tensor, type, data.length) })
  }

  /** The first values of a tensor on the device. What was submitted before is done then. */
  async read(tensor: Tensor, type: ElementType, count: number): Promise<Data> {
    const { y } = await (await this.copy(type, false)).run({ x: this.view(tensor, type, count) })
    return y!.data
  }

  /** The same memory as another type and with other dimensions. */
  view(tensor: Tensor, dataType: ElementType, ...dims: number[]): Tensor {
    return this.ort.Tensor.fromGpuBuffer(tensor.gpuBuffer, { dataType, dims })
  }

  /** onnxruntime-node can neither upload nor download by itself: sessions that copy do. */
  private copy(type: ElementType, onDevice: boolean): Promise<Session> {
    const key = `${type}, ${onDevice}`
    const found = this.copies.get(key)
    if (found) return found
    const value = { type, dims: ['n'] }
    const made = this.session(
      {
        nodes: [{ op: 'Identity', inputs: ['x'], outputs: ['y'] }],
        initializers: {},
        inputs: { x: value },
        outputs: { y: value },
      },
      { onDevice },
    )
    this.copies.set(key, made)
    return made
  }
}
