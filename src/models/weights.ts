import { check, ExactmapError } from '../errors.ts'
import type { ArenaPlan } from '../program/program.ts'
import { formatOf } from '../tensor/format.ts'
import { elementCount } from '../tensor/type.ts'
import { type ParameterSpec, type TensorParallel, undivided } from './model.ts'
import { type Shard, shardOf, takeShard } from './shard.ts'

/** Tensors of a checkpoint, by name. */
export interface TensorReader {
  names(): readonly string[]
  info(name: string): Promise<{ readonly dtype: string; readonly shape: readonly number[] }>
  /** `length` bytes of a tensor from its byte `offset`. */
  readRange(name: string, offset: number, length: number): Promise<Uint8Array>
}

const readable: Readonly<Record<string, 'f32' | 'f16' | 'bf16'>> = { F32: 'f32', F16: 'f16', BF16: 'bf16' }

/** Values of one parameter as f32: rows of its sources one after the other, turned to [out, in]. */
export const readParameter = (
  spec: ParameterSpec,
  reader: TensorReader,
  names: ReadonlySet<string>,
): Promise<Float32Array> => readShard(shardOf(spec, 1, 0), reader, names)

/** The same of a part of it. Where that is whole rows as the checkpoint stores them, only those are read. */
async function readShard(
  shard: Shard,
  reader: TensorReader,
  names: ReadonlySet<string>,
): Promise<Float32Array> {
  const { spec, runs } = shard
  const elements = elementCount(spec.shape)
  const width = spec.shape.length > 1 ? spec.shape[1]! : 1
  const inRows = !spec.transposed && runs.every(({ count }) => count === 1)
  const wanted = inRows ? runs : shardOf(spec, 1, 0).runs
  const out = new Float32Array(wanted.reduce((sum, { length }) => sum + length, 0))
  let at = 0
  for (const { start, length } of wanted) {
    let row = 0
    for (const source of spec.from) {
      const first = Math.max(start / width, row)
      const end = Math.min((start + length) / width, row + source.rows)
      if (first < end) {
        out.set(await readRows(spec, source, first - row, end - row, reader, names), at)
        at += (end - first) * width
      }
      row += source.rows
    }
  }
  return inRows || elementCount(shard.shape) === elements ? out : takeShard(shard, out)
}

/** Rows `first` to `end` of a source, all of them where it is stored transposed. */
async function readRows(
  { shape: { length: dims, 1: width = 1 }, transposed }: ParameterSpec,
  source: ParameterSpec['from'][number],
  first: number,
  end: number,
  reader: TensorReader,
  names: ReadonlySet<string>,
): Promise<Float32Array> {
  const name = resolveName(source.name, names)
  const { dtype, shape } = await reader.info(name)
  const want = dims === 1 ? [source.rows] : transposed ? [width, source.rows] : [source.rows, width]
  check(
    shape.length === want.length && shape.every((d, i) => d === want[i]),
    'invalid_shape',
    () => `checkpoint tensor ${name} is [${shape}], the config asks for [${want}]`,
  )
  const format = readable[dtype]
  check(
    format,
    'unsupported',
    `checkpoint tensor ${name} is ${dtype}; supported: ${Object.keys(readable).join(', ')}`,
  )
  const rowBytes = width * formatOf(format).blockBytes
  const bytes = await reader.readRange(name, first * rowBytes, (end - first) * rowBytes)
  const values = decodeFloats(format, bytes)
  if (!transposed || dims === 1) return values
  const turned = new Float32Array(values.length)
  for (let r = 0; r < source.rows; r++)
    for (let c = 0; c < width; c++) turned[r * width + c] = values[c * source.rows + r]!
  return turned
}

/** Checkpoints of bare models omit the prefix `model.` or `transformer.`. */
function resolveName(name: string, names: ReadonlySet<string>): string {
  if (names.has(name)) return name
  const bare = name.slice(name.indexOf('.') + 1)
  if (names.has(bare)) return bare
  throw new ExactmapError(
    'not_found',
    `the checkpoint has no tensor '${name}'; it has ${names.size} tensors, e.g. ${[...names].slice(0, 4).join(', ')}`,
  )
}

function decodeFloats(format: 'f32' | 'f16' | 'bf16', bytes: Uint8Array): Float32Array {
  const aligned = bytes.byteOffset % 4 === 0 ? bytes : bytes.slice()
  if (format === 'f32') return new Float32Array(aligned.buffer, aligned.byteOffset, aligned.byteLength / 4)
  const half = new Uint16Array(aligned.buffer, aligned.byteOffset, aligned.byteLength / 2)
  const out = new Float32Array(half.length)
  const bits = new Uint32Array(out.buffer)
  if (format === 'bf16') for (let i = 0; i < half.length; i++) bits[i] = half[i]! << 16
  else {
    const table = f16Table()
    for (let i = 0; i < half.length; i++) out[i] = table[half[i]!]!
  }
  return out
}

let f16Values: Float32Array | undefined
function f16Table(): Float32Array {
  if (!f16Values) {
    const all = new Uint16Array(65536).map((_, i) => i)
    f16Values = Float32Array.from(formatOf('f16').decode(new Uint8Array(all.buffer), 65536))
  }
  return f16Values
}

/**
 * Streams a checkpoint into an arena, one parameter at a time, converted to the formats of the arena's plan.
 *
 * @param parameters those that the plan has; of each this member's part is written
 * @param onProgress gets bytes done of bytes in all
 */
export async function writeWeights(
  parameters: readonly ParameterSpec[],
  reader: TensorReader,
  plan: ArenaPlan,
  write: (offset: number, bytes: Uint8Array) => void,
  onProgress?: (done: number, total: number) => void,
  { size, member }: Pick<TensorParallel, 'size' | 'member'> = undivided,
): Promise<void> {
  const names = new Set(reader.names())
  const listed = new Set(parameters.map((spec) => spec.name))
  for (const { name } of plan.tensors)
    check(
      listed.has(name),
      'not_found',
      `the model's graph reads parameter '${name}', which its family does not list in parameters()`,
    )
  let done = 0
  for (const spec of parameters) {
    const tensor = plan.tensors.find((t) => t.name === spec.name)
    check(
      tensor,
      'not_found',
      `the model's family lists parameter '${spec.name}', which its graph does not read`,
    )
    const values = await readShard(shardOf(spec, size, member), reader, names)
    write(tensor.offset, formatOf(tensor.type.format).encode(values))
    done += tensor.bytes
    onProgress?.(done, plan.bytes)
  }
}

/** The reverse: tensors of a checkpoint from a parameter's f32 values. */
export function checkpointTensors(
  spec: ParameterSpec,
  values: Float32Array,
): { name: string; shape: number[]; values: Float32Array }[] {
  const width = spec.shape.length > 1 ? spec.shape[1]! : 1
  let row = 0
  return spec.from.map(({ name, rows }) => {
    const part = values.subarray(row * width, (row + rows) * width)
    row += rows
    if (spec.shape.length === 1) return { name, shape: [rows], values: part }
    if (!spec.transposed) return { name, shape: [rows, width], values: part }
    const turned = new Float32Array(part.length)
    for (let r = 0; r < rows; r++) for (let c = 0; c < width; c++) turned[c * rows + r] = part[r * width + c]!
    return { name, shape: [width, rows], values: turned }
  })
}
