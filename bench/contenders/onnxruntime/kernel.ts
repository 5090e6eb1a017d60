import { formatOf } from '../../../src/tensor/format.ts'
import { type Prepared, timed } from '../../suite/contender.ts'
import { NORM_EPS, streams, valuesOf } from '../../suite/inputs.ts'
import type { Work } from '../../suite/works.ts'
import type { Engine, Tensor, Tensors } from './engine.ts'
import { linear } from './linear.ts'
import type { Graph, Initializer, Node, Value } from './onnx.ts'

type KernelWork = Exclude<Work, { kind: 'decode' | 'train_step' | 'startup' }>

/** A model of one op: its result is `y`. */
interface Call {
  readonly node: Node
  readonly initializers?: Readonly<Record<string, Initializer>>
  readonly feeds: Tensors
  /** Outputs that are written in place: the tensors of these inputs. */
  readonly inPlace?: Readonly<Record<string, string>>
  readonly dims: readonly number[]
  readonly notes: string
}

const ON_DEVICE = 'inputs and results stay on the device, launches are captured and replayed'

async function callOf(engine: Engine, work: KernelWork): Promise<Call> {
  const f32 = (stream: number, ...dims: number[]): Promise<Tensor> =>
    engine.upload(
      'float32',
      valuesOf(
        stream,
        dims.reduce((a, b) => a * b, 1),
      ),
      ...dims,
    )
  switch (work.kind) {
    case 'matmul': {
      const { rows, depth, columns, weights } = work
      const given = valuesOf(streams.w, columns * depth)
      // Its f16 MatMul, 1.2 times as fast on lavapipe, sums in f16: errors of 0.5 in results of 20.
      const { encode, decode } = formatOf('f16')
      const layer =
        weights === 'f16'
          ? linear('x', 'y', 'f32', Float32Array.from(decode(encode(given), given.length)), depth, columns)
          : linear('x', 'y', weights, given, depth, columns)
      const { op, attributes = {} } = layer.node
      const how =
        op === 'MatMul'
          ? `MatMul${weights === 'f16' ? ', weights widened to f32 at load' : ''}`
          : `MatMulNBits, ${attributes.bits} bits, accuracy level ${attributes.accuracy_level}`
      const feeds = { x: await f32(streams.x, rows, depth) }
      return { ...layer, feeds, dims: [rows, columns], notes: `${how}; ${ON_DEVICE}` }
    }
    case 'rms_norm': {
      const { rows, width } = work
      return {
        node: {
          op: 'SimplifiedLayerNormalization',
          inputs: ['x', 'weight'],
          outputs: ['y'],
          attributes: { axis: -1, epsilon: { float: NORM_EPS }, stash_type: 1 },
        },
        initializers: { weight: { type: 'float32', dims: [width], data: valuesOf(streams.weight, width) } },
        feeds: { x: await f32(streams.x, rows, width) },
        dims: [rows, width],
        notes: `SimplifiedLayerNormalization; ${ON_DEVICE}`,
      }
    }
    case 'softmax': {
      const dims = [work.rows, work.width]
      return {
        node: { op: 'Softmax', inputs: ['x'], outputs: ['y'], attributes: { axis: -1 } },
        feeds: { x: await f32(streams.x, ...dims) },
        dims,
        notes: `Softmax; ${ON_DEVICE}`,
      }
    }
    case 'attention_decode':
      return attention(engine, work)
  }
}

/** The newest key and value come as inputs too and are written to the cache each time, where they already are. */
async function attention(engine: Engine, work: KernelWork & { kind: 'attention_decode' }): Promise<Call> {
  const { context, heads, kv_heads, head_dim } = work
  const cache = (stream: number): Float32Array => valuesOf(stream, kv_heads * context * head_dim)
  const newest = (stream: number): Float32Array => {
    const rows = Array.from({ length: kv_heads }, (_, head) =>
      valuesOf(stream, head_dim, ((head + 1) * context - 1) * head_dim),
    )
    return Float32Array.from(rows.flatMap((row) => [...row]))
  }
  const upload = (data: Float32Array, ...dims: number[]): Promise<Tensor> =>
    engine.upload('float32', data, ...dims)
  return {
    node: {
      op: 'GroupQueryAttention',
      domain: 'com.microsoft',
      inputs: ['query', 'key', 'value', 'past_key', 'past_value', 'last', 'total'],
      outputs: ['y', 'present_key', 'present_value'],
      attributes: { num_heads: heads, kv_num_heads: kv_heads },
    },
    initializers: { total: { type: 'int32', dims: [1], data: Int32Array.of(context) } },
    feeds: {
      query: await upload(valuesOf(streams.query, heads * head_dim), 1, 1, heads * head_dim),
      key: await upload(newest(streams.key), 1, 1, kv_heads * head_dim),
      value: await upload(newest(streams.value), 1, 1, kv_heads * head_dim),
      past_key: await upload(cache(streams.key), 1, kv_heads, context, head_dim),
      past_value: await upload(cache(streams.value), 1, kv_heads, context, head_dim),
      last: await engine.upload('int32', Int32Array.of(context - 1), 1),
    },
    inPlace: { present_key: 'past_key', present_value: 'past_value' },
    dims: [1, 1, heads * head_dim],
    notes: `GroupQueryAttention, cache shared by past and present; ${ON_DEVICE}`,
  }
}

/** One op as a model of its own. */
export async function prepareKernel(engine: Engine, work: KernelWork): Promise<Prepared> {
  const { node, initializers = {}, feeds, inPlace = {}, dims, notes } = await callOf(engine, work)
  const values = (tensors: Tensors): Record<string, Value> =>
    Object.fromEntries(Object.entries(tensors).map(([name, t]) => [name, { type: t.type, dims: t.dims }]))
  const count = dims.reduce((a, b) => a * b, 1)
  const fetches: Tensors = {
    y: await engine.upload('float32', new Float32Array(count), ...dims),
    ...Object.fromEntries(Object.entries(inPlace).map(([output, input]) => [output, feeds[input]!])),
  }
  const graph: Graph = { nodes: [node], initializers, inputs: values(feeds), outputs: values(fetches) }
  const session = await engine.session(graph, { capture: true })
  const finished = (): Promise<unknown> => engine.read(fetches.y!, 'float32', 1)
  await session.run(feeds, fetches)
  const results = (await engine.read(fetches.y!, 'float32', count)) as Float32Array
  return {
    notes,
    run: (times) =>
      timed(times, async () => {
        for (let i = 0; i < times; i++) await session.run(feeds, fetches)
        await finished()
      }),
    sample: async (indices) => indices.map((i) => results[i]!),
    async release() {
      await session.release()
      for (const tensor of new Set([...Object.values(feeds), ...Object.values(fetches)])) tensor.dispose()
    },
  }
}
