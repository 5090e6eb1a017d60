import type { Arena } from '../../backends/backend.ts'
import { check, ExactmapError } from '../errors.ts'
import { type Dtype, encodeSafetensors, memorySource, openSafetensors } from '../formats/safetensors.ts'
import { type KvFormat, kvFormats, PAGE_TOKENS } from '../kv_cache/layout.ts'
import type { TensorPlan } from '../program/program.ts'
import { type FormatName, formatOf } from '../tensor/format.ts'
import { elementCount } from '../tensor/type.ts'
import { type ActivationFormat, activationFormats } from './activations.ts'

/**
 * One sequence as it stands: its tokens and what the cache holds of them. The layout of a page is the same on every
 * backend, so a session of one continues on another.
 */
export interface Session {
  /** Every token so far, prompt included. The cache holds all but the last, which is the next to be decoded. */
  readonly tokens: readonly number[]
  /** Of the program that computed it; what goes on must have the same, or its numbers would be of neither. */
  readonly activations: ActivationFormat
  /** Pools by name: the sequence's pages in order, [page][kv_head][token][dim], zeros where no token is. */
  readonly pools: Readonly<Record<string, SessionPool>>
}

/** How a pool's pages are stored. */
export interface PoolLayout {
  readonly format: FormatName
  readonly shape: readonly number[]
}

interface SessionPool extends PoolLayout {
  readonly bytes: Uint8Array
}

const FORMAT = 'exactmap-session'

/** Tokens of a session whose keys and values are in the cache. */
const cachedTokens = (tokens: readonly number[]): number => tokens.length - 1

/** Bytes of one page of a pool [pages, kv_heads, tokens, dim]. */
const pageBytes = ({ type }: TensorPlan): number =>
  elementCount(type.shape.slice(1)) * formatOf(type.format).blockBytes

/**
 * Reads a sequence's pages from the cache.
 *
 * @param pages the sequence's page table row
 */
export async function captureSession(
  kv: Arena | undefined,
  tokens: readonly number[],
  activations: ActivationFormat,
  pages: Uint32Array,
): Promise<Session> {
  const count = Math.ceil(cachedTokens(tokens) / PAGE_TOKENS)
  const pools: Record<string, SessionPool> = {}
  for (const tensor of kv?.plan.tensors ?? []) {
    const size = pageBytes(tensor)
    const bytes = new Uint8Array(count * size)
    for (let page = 0; page < count; page++)
      bytes.set(await kv!.read(tensor.offset + pages[page]! * size, size), page * size)
    const { shape, format } = tensor.type
    clearAfter(bytes, tensor, cachedTokens(tokens))
    pools[tensor.name] = { format, shape: [count, ...shape.slice(1)], bytes }
  }
  return { tokens, activations, pools }
}

/** Zeroes the places after the last token: steps that were computed ahead may have written there. */
function clearAfter(bytes: Uint8Array, { type }: TensorPlan, tokens: number): void {
  const [, heads, perPage, dim] = type.shape as [number, number, number, number]
  const row = dim * formatOf(type.format).blockBytes
  const used = tokens % perPage
  if (used === 0) return
  const page = bytes.byteLength - heads * perPage * row
  for (let head = 0; head < heads; head++)
    bytes.fill(0, page + (head * perPage + used) * row, page + (head + 1) * perPage * row)
}

/**
 * Whether a session's pages are those of a cache.
 *
 * @throws ExactmapError `conflict` for pools of another model or format
 */
export function checkPools(kv: Arena | undefined, pools: Readonly<Record<string, PoolLayout>>): void {
  const tensors = kv?.plan.tensors ?? []
  const show = (name: string, format: string, shape: readonly number[]): string =>
    `${name} ${format}[${['pages', ...shape.slice(1)].join(',')}]`
  const want = tensors.map((t) => show(t.name, t.type.format, t.type.shape)).sort()
  const have = Object.entries(pools).map(([name, p]) => show(name, p.format, p.shape))
  const differs =
    want.find((w, i) => w !== have.sort()[i]) ?? (want.length === have.length ? '' : have.at(-1))
  if (differs)
    throw new ExactmapError(
      'conflict',
      `the session holds ${have.length} cache pools (${have[0] ?? 'none'}, …), the model's cache has ${want.length} (${want[0] ?? 'none'}, …); load the model it was saved from, with the same KV format`,
    )
}

/**
 * Writes a session's pages into a cache.
 *
 * @param activations of the program that is to go on
 * @param pages the page table row of the sequence that is to go on; long enough for the session's tokens
 * @throws ExactmapError `conflict` for a session of a model with other pools, or of other activations
 */
export function restoreSession(
  kv: Arena | undefined,
  session: Session,
  activations: ActivationFormat,
  pages: Uint32Array,
): void {
  check(
    session.activations === activations,
    'conflict',
    () =>
      `the session was computed with activations in ${session.activations}, the model is loaded with ${activations}; load it with activations in ${session.activations}`,
  )
  checkPools(kv, session.pools)
  const tensors = kv?.plan.tensors ?? []
  const count = Math.ceil(cachedTokens(session.tokens) / PAGE_TOKENS)
  for (const tensor of tensors) {
    const size = pageBytes(tensor)
    const { bytes } = session.pools[tensor.name]!
    for (let page = 0; page < count; page++)
      kv!.write(tensor.offset + pages[page]! * size, bytes.subarray(page * size, (page + 1) * size))
  }
}

const dtypes: Readonly<Record<KvFormat, Dtype>> = { f32: 'F32', f16: 'F16', e4m3: 'F8_E4M3' }

/** A session as a safetensors file: `tokens`, and one tensor per pool. Equal sessions give equal bytes. */
export function encodeSession({ tokens, activations, pools }: Session): Uint8Array {
  const ids = Uint32Array.from(tokens)
  return encodeSafetensors(
    [
      { name: 'tokens', dtype: 'U32', shape: [ids.length], bytes: new Uint8Array(ids.buffer) },
      ...Object.entries(pools).map(([name, { format, shape, bytes }]) => ({
        name,
        dtype: dtypes[format as KvFormat],
        shape,
        bytes,
      })),
    ],
    { format: FORMAT, version: '1', activations },
  )
}

/**
 * Reads what `encodeSession` wrote.
 *
 * @param file named in errors
 * @throws ExactmapError `invalid_format`
 */
export async function decodeSession(bytes: Uint8Array, file: string): Promise<Session> {
  const source = await openSafetensors(memorySource(bytes), file)
  // Sessions without it are of a time when all were f32.
  const { format, version, activations: named = 'f32' } = source.metadata
  check(
    format === FORMAT && version === '1',
    'invalid_format',
    `${file} is not an ${FORMAT} of version 1: its metadata says format '${format ?? ''}', version '${version ?? ''}'`,
  )
  const activations = activationFormats.find((known) => known === named)
  check(
    activations,
    'invalid_format',
    `${file}: expected activations in ${activationFormats.join(', ')}, got '${named}'`,
  )
  const ids = source.tensors.get('tokens')
  check(
    ids?.dtype === 'U32' && ids.bytes > 0,
    'invalid_format',
    `${file}: expected a tensor 'tokens' of U32 with at least one element`,
  )
  const tokens = Array.from(new Uint32Array((await source.read('tokens')).buffer))
  const pools: Record<string, SessionPool> = {}
  for (const [name, { dtype, shape }] of source.tensors) {
    if (name === 'tokens') continue
    const kvFormat = kvFormats.find((format) => dtypes[format] === dtype)
    check(
      kvFormat,
      'invalid_format',
      `${file}: pool ${name} is stored as ${dtype}, expected one of ${Object.values(dtypes).join(', ')}`,
    )
    pools[name] = { format: kvFormat, shape, bytes: await source.read(name) }
  }
  return { tokens, activations, pools }
}
