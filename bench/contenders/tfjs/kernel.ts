import { type Prepared, timed } from '../../suite/contender.ts'
import { NORM_EPS, streams, valuesOf } from '../../suite/inputs.ts'
import type { Work } from '../../suite/works.ts'
import { finished, type Tensor, type Tfjs } from './api.ts'

export type KernelWork = Extract<Work, { kind: 'matmul' | 'rms_norm' | 'softmax' | 'attention_decode' }>

interface Call {
  readonly inputs: readonly Tensor[]
  readonly body: () => Tensor
  readonly notes: string
}

const f32 = (tf: Tfjs, stream: number, ...shape: number[]): Tensor =>
  tf.tensor(
    valuesOf(
      stream,
      shape.reduce((a, b) => a * b, 1),
    ),
    shape,
  )

/** The fastest of the ways that were tried, on lavapipe and SwiftShader. */
function callOf(tf: Tfjs, work: KernelWork): Call {
  switch (work.kind) {
    case 'matmul': {
      const { rows, depth, columns } = work
      const [x, w] = [f32(tf, streams.x, rows, depth), f32(tf, streams.w, columns, depth)]
      // Only B[depth, columns] has the kernel with vec4, 1.4 times faster; it computes 8 rows at least, so that one row is
      // 4 times faster with the kernel for W[columns, depth]. Of its other kernels (the flag WEBGPU_MATMUL_PROGRAM_TYPE)
      // none is faster, and splitK gives wrong results for W.
      if (rows === 1)
        return { inputs: [x, w], body: () => tf.matMul(x, w, false, true), notes: 'weights [columns, depth]' }
      const b = tf.transpose(w)
      w.dispose()
      return { inputs: [x, b], body: () => tf.matMul(x, b), notes: 'weights [depth, columns]' }
    }
    case 'rms_norm': {
      const { rows, width } = work
      const [x, weight] = [f32(tf, streams.x, rows, width), f32(tf, streams.weight, width)]
      const eps = tf.scalar(NORM_EPS)
      const body = (): Tensor =>
        tf.mul(tf.mul(x, tf.rsqrt(tf.add(tf.mean(tf.square(x), 1, true), eps))), weight)
      return { inputs: [x, weight, eps], body, notes: 'six ops; it has none of its own' }
    }
    case 'softmax': {
      const x = f32(tf, streams.x, work.rows, work.width)
      return { inputs: [x], body: () => tf.softmax(x), notes: 'one op' }
    }
    case 'attention_decode': {
      const { context, heads, kv_heads, head_dim } = work
      const query = f32(tf, streams.query, kv_heads, heads / kv_heads, head_dim)
      const scale = tf.scalar(head_dim ** -0.5)
      const value = f32(tf, streams.value, kv_heads, context, head_dim)
      // Keys as columns, the layout of the faster kernels: 1.3 times here.
      const rows = f32(tf, streams.key, kv_heads, context, head_dim)
      const key = tf.transpose(rows, [0, 2, 1])
      rows.dispose()
      const body = (): Tensor => tf.matMul(tf.softmax(tf.matMul(tf.mul(query, scale), key)), value)
      return {
        inputs: [query, scale, key, value],
        body,
        notes: 'four ops, query heads of a group as rows, keys stored as columns',
      }
    }
  }
}

/** Ops on tensors that stay on the device. */
export async function prepareKernel(
  tf: Tfjs,
  work: KernelWork,
): Promise<Prepared | { readonly unsupported: string }> {
  if (work.kind === 'matmul' && work.weights !== 'f32')
    return { unsupported: `it has no ${work.weights} weights` }
  // The kernel with tiles of 8 x 16 instead of 32 x 32 is 1.3 to 1.6 times faster for 3 rows; by default, only the product
  // with values has it.
  const few = work.kind === 'attention_decode' ? 2 ** 20 : -1
  const { inputs, body, notes } = callOf(tf, work)
  let last: Tensor | undefined
  return {
    notes,
    run: (times) => {
      tf.env().set('WEBGPU_THRESHOLD_TO_INCREASE_WORKGROUPS_FOR_MATMUL', few)
      return timed(times, async () => {
        for (let i = 0; i < times; i++) {
          last?.dispose()
          last = tf.tidy(body)
        }
        await finished(tf, last!)
      })
    },
    sample: async (indices) => {
      const values = await last!.data()
      return indices.map((i) => values[i]!)
    },
    release: async () => tf.dispose([...inputs, ...(last ? [last] : [])]),
  }
}
