import { type Prepared, timed } from '../../suite/contender.ts'
import { NORM_EPS, streams, valuesOf } from '../../suite/inputs.ts'
import type { Work } from '../../suite/works.ts'
import type { Jax, Tensor } from './api.ts'
import { attend, hasF16, rmsNorm } from './llama.ts'

type KernelWork = Exclude<Work, { kind: 'decode' | 'train_step' | 'startup' }>

interface Call {
  readonly name: string
  readonly body: (...inputs: Tensor[]) => Tensor
  readonly inputs: readonly Tensor[]
}

/** Ways to do the work, of which the fastest counts; a string says why there is none. */
function callsOf(jax: Jax, work: KernelWork): readonly Call[] | string {
  const f32 = (stream: number, ...shape: number[]): Tensor =>
    jax.numpy.array(
      valuesOf(
        stream,
        shape.reduce((a, b) => a * b, 1),
      ),
      { shape },
    )
  switch (work.kind) {
    case 'matmul':
      return matmul(jax, work, f32)
    case 'rms_norm': {
      const inputs = [f32(streams.x, work.rows, work.width), f32(streams.weight, work.width)]
      return [{ name: 'fused by jit', body: (x, weight) => rmsNorm(jax, x!, weight!, NORM_EPS), inputs }]
    }
    case 'softmax': {
      const inputs = [f32(streams.x, work.rows, work.width)]
      return [{ name: 'nn.softmax, fused by jit', body: (x) => jax.nn.softmax(x!), inputs }]
    }
    case 'attention_decode': {
      const { context, heads, kv_heads, head_dim } = work
      const inputs = [
        f32(streams.query, kv_heads, heads / kv_heads, head_dim),
        f32(streams.key, kv_heads, context, head_dim),
        f32(streams.value, kv_heads, context, head_dim),
      ]
      const name = 'matmul, softmax and matmul by groups of heads, fused by jit'
      return [{ name, body: (q, k, v) => attend(jax, q!, k!, v!), inputs }]
    }
  }
}

function matmul(
  jax: Jax,
  { rows, depth, columns, weights }: KernelWork & { kind: 'matmul' },
  f32: (stream: number, ...shape: number[]) => Tensor,
): readonly Call[] | string {
  if (weights === 'q8_0' || weights === 'q4_0') return 'no quantised matmul'
  if (weights === 'f16' && !hasF16(jax)) return 'f16 needs shader-f16, which the driver lacks'
  const x = f32(streams.x, rows, depth)
  const w = f32(streams.w, columns, depth).astype(weights === 'f16' ? 'float16' : 'float32')
  return [
    {
      name: 'w as [columns, depth]',
      body: (x, w) => jax.numpy.matmul(x!, w!.transpose()),
      inputs: [x.ref, w.ref],
    },
    {
      name: 'w as [depth, columns]',
      body: (x, w) => jax.numpy.matmul(x!, w!),
      // A product with one lays the transposed view out anew.
      inputs: [x, w.transpose().mul(1)],
    },
  ]
}

/** Rounds in which the ways of a work take turns before the fastest is kept. */
const ROUNDS = 3

export async function prepareKernel(
  jax: Jax,
  work: KernelWork,
): Promise<Prepared | { readonly unsupported: string }> {
  const calls = callsOf(jax, work)
  if (typeof calls === 'string') return { unsupported: calls }
  const ways = []
  for (const call of calls) ways.push({ ...(await compiled(jax, call)), best: Number.POSITIVE_INFINITY })
  for (let round = 0; ways.length > 1 && round < ROUNDS; round++)
    for (const way of ways) way.best = Math.min(way.best, await way.run(1))
  const [{ name, run, values, release }, ...others] = ways.sort((a, b) => a.best - b.best) as [
    (typeof ways)[0],
  ]
  for (const other of others as typeof ways) other.release()
  return {
    notes: others.length > 0 ? `${name}, the faster of ${ways.length} layouts` : name,
    run,
    sample: async (indices) => indices.map((i) => values[i]!),
    release: async () => release(),
  }
}

/** A call that has run once: `run` keeps inputs and results on the device and waits for the last. */
async function compiled(jax: Jax, { name, body, inputs }: Call) {
  const call = jax.jit(body)
  const once = (): Tensor => call(...inputs.map((input) => input.ref))
  await jax.blockUntilReady(inputs)
  const values = await once().data()
  return {
    name,
    values,
    run: (times: number): Promise<number> =>
      timed(times, async () => {
        for (let i = 1; i < times; i++) once().gpuBufferSync()
        const last = await once().blockUntilReady()
        last.dispose()
      }),
    release(): void {
      jax.tree.dispose(inputs)
      call.dispose()
    },
  }
}
