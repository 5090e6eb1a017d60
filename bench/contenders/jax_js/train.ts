import { join } from 'node:path'
import { packageRoot } from '../../../backends/package_root.ts'
import { type Prepared, timed } from '../../suite/contender.ts'
import { trainingIds } from '../../suite/inputs.ts'
import type { Work } from '../../suite/works.ts'
import type { Jax, Tensor } from './api.ts'
import { attend, forward, type LlamaWeights, type Rope, readLlama, ropeOf, rotate } from './llama.ts'

const [RATE, BETA1, BETA2, EPS, DECAY, CLIP] = [3e-3, 0.9, 0.95, 1e-8, 0.1, 1]

type TrainState = {
  readonly weights: LlamaWeights
  readonly moment1: LlamaWeights
  readonly moment2: LlamaWeights
}

/** Loss, gradients and AdamW as one function under jit; weights and moments stay on the device. */
export async function prepareTrainStep(jax: Jax, work: Work & { kind: 'train_step' }): Promise<Prepared> {
  const { numpy: np, tree } = jax
  const { batch, sequence } = work
  const folder = join(packageRoot(), 'assets', 'shakespeare')
  const { config, weights } = await readLlama(jax, folder, 'float32')
  const { heads, kv_heads, head_dim } = config.attention
  const { tokens, targets } = batchOf(jax, work)
  const ropes = ropeOf(jax, config, sequence)

  const lossOf = (
    weights: LlamaWeights,
    tokens: Tensor,
    targets: Tensor,
    cos: Tensor,
    sin: Tensor,
  ): Tensor => {
    // Queries of a key head one below the other, [batch, kv_heads, heads / kv_heads * sequence, head_dim].
    const byHead = (x: Tensor, count: number): Tensor =>
      x.reshape([batch, sequence, count, head_dim]).transpose([0, 2, 1, 3])
    const position = np.arange(sequence)
    const causal = position.ref.reshape([1, sequence]).lessEqual(position.reshape([sequence, 1]))
    const logits = forward(jax, config, weights, tokens, (_, q, k, v) => {
      const turned = (x: Tensor, count: number): Tensor =>
        rotate(jax, byHead(x, count), { cos: cos.ref, sin: sin.ref })
      const grouped = (x: Tensor): Tensor =>
        x.reshape([batch, kv_heads, heads / kv_heads, sequence, head_dim])
      const shared = (x: Tensor): Tensor => x.reshape([batch, kv_heads, 1, sequence, head_dim])
      return attend(
        jax,
        grouped(turned(q, heads)),
        shared(turned(k, kv_heads)),
        shared(byHead(v, kv_heads)),
        causal.ref,
      )
        .reshape([batch, heads, sequence, head_dim])
        .transpose([0, 2, 1, 3])
        .reshape([batch * sequence, heads * head_dim])
    })
    tree.dispose([causal, cos, sin])
    const isTarget = np.arange(config.vocab).equal(targets.reshape([-1, 1]))
    const ofTarget = np.where(isTarget, logits.ref, 0).sum(-1)
    return jax.nn.logsumexp(logits, -1).sub(ofTarget).mean()
  }

  const step = jax.jit(
    (
      { weights, moment1, moment2 }: TrainState,
      tokens: Tensor,
      targets: Tensor,
      { cos, sin }: Rope,
      correction1: Tensor,
      correction2: Tensor,
    ): { readonly state: TrainState; readonly loss: Tensor } => {
      const [loss, gradients] = jax.valueAndGrad(lossOf)(tree.ref(weights), tokens, targets, cos, sin)
      const squares = tree.leaves(gradients).map((g) => g.ref.mul(g.ref).sum())
      const norm = np.sqrt(squares.reduce((a, b) => a.add(b)))
      const scale = np.minimum(np.array(CLIP).div(norm), 1)
      const [all, structure] = tree.flatten(weights)
      const [m, v, g] = [moment1, moment2, gradients].map((of) => tree.leaves(of)) as [
        Tensor[],
        Tensor[],
        Tensor[],
      ]
      const updated = all.map((w, i) => {
        const clipped = g[i]!.mul(scale.ref)
        const mean = m[i]!.mul(BETA1).add(clipped.ref.mul(1 - BETA1))
        const square = v[i]!.mul(BETA2).add(clipped.ref.mul(clipped).mul(1 - BETA2))
        const direction = mean.ref.div(correction1.ref).div(np.sqrt(square.ref.div(correction2.ref)).add(EPS))
        const decayed = w.shape.length > 1 ? w.mul(1 - RATE * DECAY) : w
        return { weight: decayed.sub(direction.mul(RATE)), mean, square }
      })
      tree.dispose([scale, correction1, correction2])
      const treeOf = (leaves: Tensor[]): LlamaWeights => tree.unflatten(structure, leaves) as LlamaWeights
      return {
        state: {
          weights: treeOf(updated.map((u) => u.weight)),
          moment1: treeOf(updated.map((u) => u.mean)),
          moment2: treeOf(updated.map((u) => u.square)),
        },
        loss,
      }
    },
  )

  const zeros = (): LlamaWeights => tree.map((w) => w.mul(0), tree.ref(weights))
  let state: TrainState = { weights, moment1: zeros(), moment2: zeros() }
  const after = (from: TrainState, t: number): { readonly state: TrainState; readonly loss: Tensor } => {
    const [first, second] = [BETA1, BETA2].map((beta) => np.array(1 - beta ** t)) as [Tensor, Tensor]
    return step(from, tokens.ref, targets.ref, tree.ref(ropes), first, second)
  }
  // Compiles; arrays don't change, so that the state is as before.
  tree.dispose(await jax.blockUntilReady(after(tree.ref(state), 1)))
  const losses: number[] = []
  const run = (times: number): Promise<number> =>
    timed(times, async () => {
      for (let i = 0; i < times; i++) {
        const next = after(state, losses.length + 1)
        losses.push((await next.loss.data())[0]!)
        state = next.state
      }
    })
  return {
    notes: 'f32; one function under jit; the loss of every step is read back',
    run,
    sample: async (indices) => indices.map((i) => losses[i]!),
    async release() {
      tree.dispose([state, tokens, targets, ropes])
      step.dispose()
    },
  }
}

/** The same rows in every step; each target is the id that follows. */
function batchOf(
  { numpy: np }: Jax,
  { batch, sequence }: Work & { kind: 'train_step' },
): { readonly tokens: Tensor; readonly targets: Tensor } {
  const ids = trainingIds(batch, sequence + 1)
  const rows = (shift: number): Tensor =>
    np.array(
      Int32Array.from(
        { length: batch * sequence },
        (_, i) => ids[Math.floor(i / sequence) * (sequence + 1) + (i % sequence) + shift]!,
      ),
      { dtype: 'int32' },
    )
  return { tokens: rows(0), targets: rows(1) }
}
