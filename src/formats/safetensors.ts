import { check, ExactmapError } from '../errors.ts'
import { isJsonObject, type JsonObject, parseJson } from './json.ts'

/**
 * The safetensors format: 8 bytes header length (little endian), a JSON header, then the tensors' bytes.
 * Source: https://huggingface.co/docs/safetensors, section "Format". Nothing here needs Node.
 */

/** Random access to bytes: a file, a Blob, memory. */
export interface ByteSource {
  readonly size: number
  /** Exactly `length` bytes from `offset`, in memory of their own. @throws ExactmapError `io` */
  read(offset: number, length: number): Promise<Uint8Array>
}

export const memorySource = (bytes: Uint8Array): ByteSource => ({
  size: bytes.length,
  async read(offset, length) {
    check(
      offset >= 0 && length >= 0 && offset + length <= bytes.length,
      'io',
      () => `${length} bytes at ${offset} are outside the ${bytes.length} bytes in memory`,
    )
    // A Node Buffer's own slice would be a view.
    return new Uint8Array(bytes.subarray(offset, offset + length))
  },
})

/** Bytes of one element. Types outside this list are refused. */
export const DTYPE_BYTES = {
  F64: 8,
  I64: 8,
  F32: 4,
  I32: 4,
  U32: 4,
  F16: 2,
  BF16: 2,
  U8: 1,
  I8: 1,
  F8_E4M3: 1,
  BOOL: 1,
} as const

export type Dtype = keyof typeof DTYPE_BYTES

export interface TensorInfo {
  readonly dtype: Dtype
  readonly shape: readonly number[]
  /** Where its bytes begin, from the start of the file. */
  readonly offset: number
  readonly bytes: number
}

/** A tensor to write: row-major elements, little endian, `bytes` exactly product(shape) * element size. */
export interface TensorData {
  readonly name: string
  readonly dtype: string
  readonly shape: readonly number[]
  readonly bytes: Uint8Array
}

export interface SafetensorsFile {
  readonly metadata: Readonly<Record<string, string>>
  readonly tensors: ReadonlyMap<string, TensorInfo>
  /** All bytes of a tensor. @throws ExactmapError `not_found`, `io` */
  read(name: string): Promise<Uint8Array>
  /** `length` bytes of a tensor from its byte `offset`. @throws ExactmapError `not_found`, `invalid_argument`, `io` */
  readRange(name: string, offset: number, length: number): Promise<Uint8Array>
}

/** The format's own limit; keeps a corrupt length from becoming a giant allocation. */
const MAX_HEADER_BYTES = 100_000_000
const METADATA = '__metadata__'
const LENGTH_BYTES = 8

const isDtype = (value: unknown): value is Dtype =>
  typeof value === 'string' && Object.hasOwn(DTYPE_BYTES, value)

/** Bytes of a tensor, or undefined for a dim that is no size or a product above 2^53. */
function tensorBytes(dtype: Dtype, shape: readonly unknown[]): number | undefined {
  let bytes: number = DTYPE_BYTES[dtype]
  for (const dim of shape) {
    if (!Number.isSafeInteger(dim) || (dim as number) < 0) return undefined
    bytes *= dim as number
    if (!Number.isSafeInteger(bytes)) return undefined
  }
  return bytes
}

/**
 * Opens a safetensors file: reads and checks its header (offsets inside the file, without overlaps or holes,
 * sizes that fit shape and dtype); tensors are read on demand. Allocates in proportion to the header only.
 *
 * @param name of the file, for errors
 * @throws ExactmapError `invalid_format` for anything the format does not allow, `io` if reading fails
 */
export async function openSafetensors(source: ByteSource, name: string): Promise<SafetensorsFile> {
  const place = { file: name }
  const bad = (message: string): never => {
    throw new ExactmapError('invalid_format', `safetensors: ${message}`, place)
  }
  if (source.size < LENGTH_BYTES)
    bad(`expected at least ${LENGTH_BYTES} bytes, the file has ${source.size}; is it truncated?`)
  const prefix = await source.read(0, LENGTH_BYTES)
  const length = new DataView(prefix.buffer, prefix.byteOffset).getBigUint64(0, true)
  if (length > MAX_HEADER_BYTES) bad(`a header of ${length} bytes is above the limit of ${MAX_HEADER_BYTES}`)
  const dataStart = LENGTH_BYTES + Number(length)
  if (dataStart > source.size)
    bad(
      `the header should be ${length} bytes, the file has ${source.size - LENGTH_BYTES} after its length; is it truncated?`,
    )
  const header = parseJson(await source.read(LENGTH_BYTES, Number(length)), name)
  if (!isJsonObject(header)) return bad('the header must be a JSON object')

  const tensors = new Map<string, TensorInfo>()
  let metadata: Record<string, string> = {}
  for (const [key, value] of Object.entries(header)) {
    if (key === METADATA) metadata = checkMetadata(value, bad)
    else tensors.set(key, checkInfo(key, value, dataStart, bad))
  }
  checkCoverage(tensors, dataStart, source.size, bad)

  const infoOf = (tensor: string): TensorInfo => {
    const info = tensors.get(tensor)
    if (!info) throw new ExactmapError('not_found', `no tensor '${tensor}' among ${tensors.size}`, place)
    return info
  }
  return {
    metadata,
    tensors,
    async read(tensor) {
      const info = infoOf(tensor)
      return source.read(info.offset, info.bytes)
    },
    async readRange(tensor, offset, count) {
      const info = infoOf(tensor)
      check(
        Number.isSafeInteger(offset) &&
          Number.isSafeInteger(count) &&
          offset >= 0 &&
          count >= 0 &&
          offset + count <= info.bytes,
        'invalid_argument',
        () => `tensor '${tensor}' has ${info.bytes} bytes, ${count} bytes at ${offset} were asked for`,
      )
      return source.read(info.offset + offset, count)
    },
  }
}

type Refuse = (message: string) => never

function checkMetadata(value: unknown, bad: Refuse): Record<string, string> {
  if (!isJsonObject(value)) return bad(`${METADATA} must be an object of strings`)
  for (const [key, entry] of Object.entries(value))
    if (typeof entry !== 'string')
      bad(`${METADATA}: the value of '${key}' must be a string, got ${JSON.stringify(entry)}`)
  return value as Record<string, string>
}

function checkInfo(name: string, value: unknown, dataStart: number, bad: Refuse): TensorInfo {
  if (!isJsonObject(value))
    return bad(`tensor '${name}': expected an object with dtype, shape and data_offsets`)
  const { dtype, shape, data_offsets: range } = value as JsonObject
  if (!isDtype(dtype))
    return bad(
      `tensor '${name}': dtype ${JSON.stringify(dtype)} is not one of ${Object.keys(DTYPE_BYTES).join(', ')}`,
    )
  if (!Array.isArray(shape)) return bad(`tensor '${name}': shape must be a list of dims`)
  const bytes = tensorBytes(dtype, shape)
  if (bytes === undefined)
    return bad(
      `tensor '${name}': shape ${JSON.stringify(shape)} must hold whole dims from 0 with fewer than 2^53 bytes`,
    )
  if (
    !Array.isArray(range) ||
    range.length !== 2 ||
    !range.every((x) => Number.isSafeInteger(x) && (x as number) >= 0)
  )
    return bad(
      `tensor '${name}': data_offsets must be two whole numbers from 0, got ${JSON.stringify(range)}`,
    )
  const [begin, end] = range as [number, number]
  if (end - begin !== bytes)
    return bad(
      `tensor '${name}': data_offsets [${begin}, ${end}] hold ${end - begin} bytes, ${dtype} ${JSON.stringify(shape)} needs ${bytes}`,
    )
  return { dtype, shape: shape as number[], offset: dataStart + begin, bytes }
}

/** Every byte after the header must belong to exactly one tensor. */
function checkCoverage(
  tensors: ReadonlyMap<string, TensorInfo>,
  dataStart: number,
  size: number,
  bad: Refuse,
): void {
  const inOrder = [...tensors].sort(([, a], [, b]) => a.offset - b.offset || a.bytes - b.bytes)
  let end = dataStart
  for (const [name, { offset, bytes }] of inOrder) {
    if (offset < end)
      bad(`tensor '${name}' begins at byte ${offset}, inside the tensor before it, which ends at ${end}`)
    if (offset > end) bad(`tensor '${name}' begins at byte ${offset}, leaving a hole after byte ${end}`)
    end = offset + bytes
    if (end > size) bad(`tensor '${name}' ends at byte ${end}, the file has ${size}; is it truncated?`)
  }
  if (end !== size)
    bad(`the tensors end at byte ${end}, the file has ${size}: ${size - end} bytes belong to no tensor`)
}

/**
 * Header (length included) and order of a file with these tensors. Deterministic: wider dtypes first, so that
 * every tensor is aligned to its element, then by name; metadata by key; padded with spaces to 8 bytes.
 *
 * @throws ExactmapError `invalid_argument` for repeated or reserved names, unknown dtypes, impossible shapes
 */
export function layoutSafetensors<T extends Omit<TensorData, 'bytes'>>(
  tensors: readonly T[],
  metadata: Readonly<Record<string, string>> = {},
): { header: Uint8Array; order: { tensor: T; bytes: number }[] } {
  const seen = new Set<string>()
  const order = tensors.map((tensor) => {
    const { name, dtype, shape } = tensor
    check(
      writable(name) && name !== METADATA && !seen.has(name),
      'invalid_argument',
      () => `tensor name ${JSON.stringify(name)} is reserved, repeated or not valid Unicode`,
    )
    seen.add(name)
    check(
      isDtype(dtype),
      'invalid_argument',
      () => `tensor '${name}': safetensors dtype '${dtype}' is not known`,
    )
    const bytes = tensorBytes(dtype, shape)
    check(
      bytes !== undefined,
      'invalid_argument',
      () => `tensor '${name}': shape [${shape.join(', ')}] is not a shape`,
    )
    return { tensor, dtype, bytes }
  })
  order.sort((a, b) => DTYPE_BYTES[b.dtype] - DTYPE_BYTES[a.dtype] || compare(a.tensor.name, b.tensor.name))

  const entries: string[] = []
  const keys = Object.keys(metadata).sort(compare)
  for (const key of keys)
    check(
      writable(key) && writable(metadata[key]),
      'invalid_argument',
      () => `metadata '${key}' must be a string of valid Unicode`,
    )
  if (keys.length > 0)
    entries.push(
      `"${METADATA}":{${keys.map((key) => `${JSON.stringify(key)}:${JSON.stringify(metadata[key])}`).join(',')}}`,
    )
  let at = 0
  for (const { tensor, dtype, bytes } of order) {
    const info = { dtype, shape: tensor.shape, data_offsets: [at, at + bytes] }
    entries.push(`${JSON.stringify(tensor.name)}:${JSON.stringify(info)}`)
    at += bytes
  }
  const json = new TextEncoder().encode(`{${entries.join(',')}}`)
  const length = Math.ceil(json.length / 8) * 8
  check(
    length <= MAX_HEADER_BYTES,
    'invalid_argument',
    () => `a header of ${length} bytes is above the limit of ${MAX_HEADER_BYTES}`,
  )
  const header = new Uint8Array(LENGTH_BYTES + length).fill(0x20)
  new DataView(header.buffer).setBigUint64(0, BigInt(length), true)
  header.set(json, LENGTH_BYTES)
  return { header, order }
}

/** Whether a reader will see this very string: a string, no lone surrogates, not the one key readers refuse. */
const writable = (text: unknown): boolean =>
  typeof text === 'string' && text !== '__proto__' && !/\p{Surrogate}/u.test(text)
const compare = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0)

/**
 * A whole safetensors file in memory; for large ones use `writeSafetensors`.
 *
 * @throws ExactmapError `invalid_argument` as `layoutSafetensors`, or if bytes don't fit dtype and shape
 */
export function encodeSafetensors(
  tensors: readonly TensorData[],
  metadata: Readonly<Record<string, string>> = {},
): Uint8Array {
  const { header, order } = layoutSafetensors(tensors, metadata)
  const out = new Uint8Array(order.reduce((sum, { bytes }) => sum + bytes, header.length))
  out.set(header)
  let at = header.length
  for (const { tensor, bytes } of order) {
    checkSize(tensor.name, bytes, tensor.bytes.length)
    out.set(tensor.bytes, at)
    at += bytes
  }
  return out
}

export function checkSize(name: string, expected: number, got: number): void {
  check(
    expected === got,
    'invalid_argument',
    () => `tensor '${name}' needs ${expected} bytes by its type, got ${got}`,
  )
}

/**
 * Parses `model.safetensors.index.json`: which shard holds which tensor. Shard names must be plain file names
 * of the same folder, so that a downloaded index can't reach elsewhere.
 *
 * @throws ExactmapError `invalid_format`
 */
export function parseSafetensorsIndex(bytes: Uint8Array, file: string): ReadonlyMap<string, string> {
  const refuse = (message: string): never => {
    throw new ExactmapError('invalid_format', message, { file })
  }
  const index = parseJson(bytes, file)
  const map = isJsonObject(index) ? index.weight_map : undefined
  if (!isJsonObject(map)) return refuse("expected an object 'weight_map' from tensor to file name")
  const out = new Map<string, string>()
  for (const [tensor, shard] of Object.entries(map)) {
    // biome-ignore lint/suspicious/noControlCharactersInRegex: a NUL would cut the name short in the system call
    if (typeof shard !== 'string' || /[/\\\u0000:]/.test(shard) || !shard.endsWith('.safetensors'))
      return refuse(
        `tensor '${tensor}': expected a .safetensors file of the same folder, got ${JSON.stringify(shard)}`,
      )
    out.set(tensor, shard)
  }
  if (out.size === 0) refuse("'weight_map' names no tensor")
  return out
}
