import { PAGE_TOKENS, poolFormats } from '../ops/kv_write.ts'
import { formatOf } from '../tensor/format.ts'
import { byteSize, type TensorType, tensorType } from '../tensor/type.ts'

export { PAGE_TOKENS }

/** Element formats a cache may be stored in. */
export const kvFormats = poolFormats
export type KvFormat = (typeof kvFormats)[number]

/**
 * Layers whose caches are alike and share one page table.
 * - full: a token stays visible for good; pages are kept until the sequence ends
 * - window: only the last `window` tokens are visible; older pages go back to the pool
 */
export interface KvGroup {
  readonly name: string
  readonly kind: 'full' | 'window'
  /** Visible tokens of a `window` group; 0 for `full`. */
  readonly window: number
  readonly layers: readonly number[]
  readonly kv_heads: number
  readonly head_dim: number
  readonly format: KvFormat
}

/** What is known of one layer's cache. */
export interface KvLayer {
  readonly kv_heads: number
  readonly head_dim: number
  readonly window: number
  readonly format: KvFormat
}

/** Groups equal layers in order of first appearance. */
export function groupLayers(layers: readonly KvLayer[]): KvGroup[] {
  const groups = new Map<string, KvGroup & { layers: number[] }>()
  for (const [i, { kv_heads, head_dim, window, format }] of layers.entries()) {
    const kind = window > 0 ? 'window' : 'full'
    const name = [kind, ...(window > 0 ? [window] : []), `${kv_heads}x${head_dim}`, format].join('_')
    const group = groups.get(name) ?? { name, kind, window, layers: [], kv_heads, head_dim, format }
    group.layers.push(i)
    groups.set(name, group)
  }
  return [...groups.values()]
}

/** Type of one pool (K or V) of one layer: [page][kv_head][token][dim]. */
export const poolType = (group: KvGroup, pages: number): TensorType =>
  tensorType(group.format, pages, group.kv_heads, PAGE_TOKENS, group.head_dim)

/** Bytes of a page in all layers of the group, keys and values together. */
export const pageBytes = (group: KvGroup): number =>
  2 * group.layers.length * group.kv_heads * PAGE_TOKENS * group.head_dim * formatOf(group.format).blockBytes

/** Bytes of all pools of the group with this many pages. */
export const groupBytes = (group: KvGroup, pages: number): number =>
  2 * group.layers.length * byteSize(poolType(group, pages))

/**
 * Pages a sequence of `tokens` tokens holds at once in this group. A window that does not end on a page boundary
 * touches one page more than it fills, and `step` tokens written at once keep the oldest of their windows alive.
 */
export function pagesFor(group: KvGroup, tokens: number, step = 1): number {
  const full = Math.ceil(tokens / PAGE_TOKENS)
  if (group.kind === 'full') return full
  return Math.min(full, Math.ceil((group.window + step - 2) / PAGE_TOKENS) + 1)
}
