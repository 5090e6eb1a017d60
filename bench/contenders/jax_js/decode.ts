import { llama100m } from '../../models.ts'
import type { Prepared } from '../../suite/contender.ts'
import { promptOf } from '../../suite/inputs.ts'
import type { Work } from '../../suite/works.ts'
import type { Jax, Tensor } from './api.ts'
import { attend, forward, hasF16, type LlamaWeights, type Rope, readLlama, ropeOf, rotate } from './llama.ts'

/** Keys and values of every layer, [kv_heads, capacity, head_dim]. */
type Cache = readonly { readonly k: Tensor; readonly v: Tensor }[]

/** `ids` [1] is the token that goes in next, `position` [1] its place. */
type State = {
  readonly cache: Cache
  readonly ids: Tensor
  readonly position: Tensor
}

/** Rows of the cache are allotted in blocks: attention reads all of them. */
const BLOCK = 64

/** Greedy decoding, one step under jit; the id that comes out stays on the device as the input of the next step. */
export async function prepareDecode(
  jax: Jax,
  { weights: format, prompt }: Work & { kind: 'decode' },
): Promise<Prepared | { readonly unsupported: string }> {
  if (format !== 'f16') return { unsupported: 'no quantised matmul' }
  const { numpy: np } = jax
  const dtype = hasF16(jax) ? 'float16' : 'float32'
  const { config, weights } = await readLlama(jax, (await llama100m()).folder, dtype)
  const { heads, kv_heads, head_dim } = config.attention
  const ropes = ropeOf(jax, config, config.context)

  const step = jax.jit((weights: LlamaWeights, ropes: Rope, { cache, ids, position }: State): State => {
    const capacity = cache[0]!.k.shape[1]!
    const rope = { cos: ropes.cos.slice(position.ref), sin: ropes.sin.slice(position.ref) }
    const here = np.arange(capacity).equal(position.ref).reshape([1, capacity, 1])
    const allowed = np.arange(capacity).lessEqual(position.ref)
    const next: { k: Tensor; v: Tensor }[] = []
    const logits = forward(jax, config, weights, ids, (layer, q, k, v) => {
      const rows = (x: Tensor): Tensor => x.reshape([kv_heads, -1, head_dim])
      // There is no update in place: a new cache is written, the old one with a row exchanged.
      const put = (x: Tensor, old: Tensor): Tensor => np.where(here.ref, x.astype(dtype), old)
      const all = {
        k: put(rotate(jax, rows(k), jax.tree.ref(rope)), cache[layer]!.k),
        v: put(rows(v), cache[layer]!.v),
      }
      next.push({ k: all.k.ref, v: all.v.ref })
      const turned = rotate(jax, q.reshape([heads, 1, head_dim]), jax.tree.ref(rope))
      return attend(jax, rows(turned), all.k, all.v, allowed.ref).reshape([1, heads * head_dim])
    })
    jax.tree.dispose([rope, here, allowed])
    return { cache: next, ids: np.argmax(logits, -1), position: position.add(1) }
  })
  const after = (state: State): State => step(jax.tree.ref(weights), jax.tree.ref(ropes), state)
  const capacityFor = (tokens: number): number => Math.ceil(tokens / BLOCK) * BLOCK

  // Arrays don't change: every run starts from the cache that the prompt left, all but its last token.
  const given = promptOf(prompt)
  const idOf = (id: number): Tensor => np.array([id], { dtype: 'int32' })
  const row = (): Tensor => np.zeros([kv_heads, capacityFor(prompt), head_dim], { dtype })
  let start: State = {
    cache: weights.layers.map(() => ({ k: row(), v: row() })),
    ids: idOf(given[0]!),
    position: np.array([0], { dtype: 'int32' }),
  }
  for (const id of given.slice(1)) {
    const next = await jax.blockUntilReady(after(start))
    next.ids.dispose()
    start = { ...next, ids: idOf(id) }
  }

  /** The state before the first new token, with room for `tokens` of them. */
  const startFor = (tokens: number): State => {
    const { cache, ...rest } = jax.tree.ref(start)
    const missing = capacityFor(prompt + tokens) - start.cache[0]!.k.shape[1]!
    if (missing === 0) return { cache, ...rest }
    const grown = (x: Tensor): Tensor =>
      np.pad(x, [
        [0, 0],
        [0, missing],
        [0, 0],
      ])
    return { cache: cache.map(({ k, v }) => ({ k: grown(k), v: grown(v) })), ...rest }
  }

  let ids: number[] = []
  return {
    notes:
      dtype === 'float16'
        ? 'weights and cache f16, sums f32; the id of every token is read back'
        : 'weights and cache f32, as the driver lacks shader-f16; the id of every token is read back',
    async run(times) {
      ids = []
      let first = 0
      let state = startFor(times + 1)
      for (let i = 0; i <= times; i++) {
        state = after(state)
        ids.push((await state.ids.ref.data())[0]!)
        if (i === 0) first = performance.now()
      }
      jax.tree.dispose(state)
      return (performance.now() - first) / times
    },
    sample: async (indices) => indices.map((i) => ids[i]!),
    async release() {
      jax.tree.dispose([weights, ropes, start])
      step.dispose()
    },
  }
}
